"""Typed use of the public API. Only mypy reads this file; nothing runs it."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import assert_type

import numpy as np
import numpy.typing as npt

from medseg_runtime import (
    BackendName,
    Provenance,
    Representatives,
    SampleRequest,
    Segmentation,
    Segmenter,
    SourceImage,
    list_series,
    read_image,
    read_series,
    read_volume,
)
from medseg_runtime.inference.workers import Outcome
from medseg_runtime.model.sampler import SamplerTable


def one_image(pixels: npt.NDArray[np.uint8]) -> None:
    segmenter = Segmenter.load("bundle", backend="auto", precision="float32", threads=2, max_batch=16)
    assert_type(segmenter.clone(), Segmenter)
    result = segmenter(pixels, samples="auto", max_samples=32, seed=1, center=(3.0, 4.0))
    assert_type(result, Segmentation)
    assert_type(result.masks, npt.NDArray[np.bool_])
    assert_type(result.confidence, npt.NDArray[np.float32])
    assert_type(result.representatives(4), Representatives)
    assert_type(result.representatives(4).shares, npt.NDArray[np.float64])
    assert_type(segmenter.segment(pixels, SampleRequest(samples=4)), Segmentation)
    assert_type(segmenter.check(SampleRequest(samples=4, steps=2)), SamplerTable)
    result.save("results/one", force=True, representatives=4)


def closed_at_the_end(name: BackendName) -> None:
    with Segmenter.load(backend=name, cuda_graphs=False) as segmenter:
        assert_type(segmenter, Segmenter)
        assert_type(segmenter("image.png").provenance, Provenance)


def readers(path: Path) -> None:
    assert_type(read_image(path), SourceImage)
    assert_type(read_image(str(path), frame=2), SourceImage)
    assert_type(read_image(path.read_bytes(), frame=2), SourceImage)
    assert_type(read_image(io.BytesIO()), SourceImage)
    assert_type(read_series(path).locate((1.0, 2.0, 3.0)), tuple[float, float, int])
    assert_type(read_series(path, list_series(path)[0].number).read(0), SourceImage)
    assert_type(read_volume(path).around(3, slices=5), list[SourceImage])
    with path.open("rb") as opened:
        assert_type(read_image(opened), SourceImage)


def from_memory(segmenter: Segmenter, content: bytes) -> None:
    assert_type(segmenter(content, samples=2), Segmentation)
    assert_type(segmenter(io.BytesIO(content)), Segmentation)


def many_images(segmenter: Segmenter, folder: Path) -> Iterator[Segmentation]:
    for outcome in segmenter.stream(sorted(folder.glob("*.png")), samples=16, keep_masks=False):
        assert_type(outcome, Outcome[Path, Segmentation])
        yield outcome.result()


def what_is_refused(segmenter: Segmenter) -> None:
    segmenter([1, 2, 3])  # type: ignore[arg-type]
    segmenter("image.png", samples="many")  # type: ignore[arg-type]
    segmenter.stream(["image.png"], shots=3)  # type: ignore[call-arg]
    Segmenter.load(backend="tensorflow")  # type: ignore[arg-type]
    SampleRequest(4)  # type: ignore[call-arg]
