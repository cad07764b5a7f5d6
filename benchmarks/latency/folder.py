"""Time `medseg-infer` on a folder of images, and its networks alone on the same images."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from benchmarks.latency.backends import BackendChoice
from benchmarks.latency.starts import MEDSEG_INFER
from benchmarks.latency.timing import milliseconds_of
from medseg_runtime.inference.segmenter import Segmenter
from medseg_runtime.model.preprocess import Pixels

NETWORKS = ("encode", "denoise", "decode")


@dataclass(frozen=True, kw_only=True, slots=True)
class FolderRun:
    """Timings of the command and of the networks alone, in turns."""

    images: int
    backend: str
    """Name and precision."""
    command_ms: tuple[float, ...]
    """Wall time of the process, files included; one per round."""
    networks_ms: tuple[float, ...]
    """Encode, denoise and decode of all images, in a warm process; one per round."""


def run_folder(bundle: Path, choice: BackendChoice, images: Sequence[Pixels], rounds: int, work: Path) -> FolderRun:
    """Write the images as PNG files, and time command and networks on them, in turns."""
    crops = work / "crops"
    crops.mkdir()
    for index, pixels in enumerate(images):
        Image.fromarray(pixels).save(crops / f"crop-{index:03}.png")
    command = [str(MEDSEG_INFER), str(crops), "--out", str(work / "results"), "--force", "--bundle", str(bundle),
               "--backend", choice.backend, "--precision", choice.precision]  # fmt: skip
    segmenter = choice.open(bundle, None)
    walls, networks = [], []
    for _ in range(rounds):
        networks.append(_networks_ms(segmenter, images))
        walls.append(
            milliseconds_of(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=sys.stderr))
        )
    return FolderRun(
        images=len(images), backend=str(choice), command_ms=tuple(walls), networks_ms=tuple(networks)
    )  # fmt: skip


def _networks_ms(segmenter: Segmenter, images: Sequence[Pixels]) -> float:
    taken = [segmenter(image).timings_ms for image in images]
    return sum(stages[stage] for stages in taken for stage in NETWORKS)
