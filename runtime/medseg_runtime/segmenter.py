"""The front door: an image in, N plausible masks and their agreement out.

image => field in [0, 1] => condition -+
                                       +-> S denoiser calls on all N samples => latents => logits => masks => agreement
(seed, k) => noise of sample k --------+
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg_runtime import uncertainty
from medseg_runtime.backends import Backend, open_backend
from medseg_runtime.bundle import MAX_BATCH, Bundle, Manifest
from medseg_runtime.errors import BackendError, ParameterError
from medseg_runtime.imaging import Box, Pixels, Placement, as_image, place, to_image, to_network
from medseg_runtime.io.source import SourceImage
from medseg_runtime.memory import available_bytes
from medseg_runtime.sampler import SampleNoise, SamplerTable, sampler_table, time_features

Bool = npt.NDArray[np.bool_]
Float32 = npt.NDArray[np.float32]

MAX_MASK_BYTES = 4 << 30
WORKING_BYTES = 96
"""Memory per pixel and class besides the masks, at the worst moment, from the image to the drawn overlay."""
POINT_NEEDED = ("DICOM CT", "DICOM MR")
"""Kinds of image that are whole cross-sections of a patient, and not pictures of a finding."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Segmentation:
    """N plausible masks of one image, in its own pixel grid (H, W), and what they say together.

    With several classes every map has an axis for them before (H, W).
    """

    masks: Bool
    """(N, H, W) one plausible mask per sample."""
    confidence: Float32
    """(H, W) fraction of samples that contain the pixel, in [0, 1]."""
    consensus: Bool
    """(H, W) where more than half of the samples agree."""
    entropy: Float32
    """(H, W) binary entropy of the confidence in bits, in [0, 1]."""
    mean_probability: Float32
    """(H, W) mean over the samples of the decoder's probability, before the threshold."""
    areas: npt.NDArray[np.int64]
    """(N,) pixels in each mask."""
    mean_pairwise_iou: npt.NDArray[np.float64]
    """() mean IoU of sample pairs i != j; 1 when all agree, NaN for a single sample."""
    classes: tuple[str, ...]
    placement: Placement
    """Where in the image the network looked."""
    sampler: str
    steps: int
    seed: int
    threshold: float
    warnings: tuple[str, ...] = ()
    """What a reader of the masks should know, one sentence each."""
    timings_ms: dict[str, float] = field(default_factory=dict)
    """Wall time per stage: preprocess, encode, denoise, decode, aggregate."""


@dataclass(slots=True)
class _Clock:
    """Sums wall time per stage."""

    milliseconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.milliseconds[stage] = self.milliseconds.get(stage, 0.0) + 1e3 * (time.perf_counter() - start)


class Segmenter:
    """A bundle on a backend, ready to be called; it holds no state between calls.

    >>> segmenter = Segmenter.load()                                 # doctest: +SKIP
    >>> segmenter(pixels, samples=16, seed=0).confidence             # doctest: +SKIP
    """

    def __init__(
        self, manifest: Manifest, backend: Backend, *, max_batch: int = MAX_BATCH, bundle_sha256: str = ""
    ) -> None:
        """Put a manifest and a backend together.

        max_batch: samples per network call, 1 to 64; more samples than that go in several calls, with the same masks.
        """
        if not 1 <= max_batch <= MAX_BATCH:
            raise ParameterError(f"max_batch {max_batch} is out of range", f"Use 1 to {MAX_BATCH}.")
        self.manifest = manifest
        self.backend = backend
        self.max_batch = max_batch
        self.bundle_sha256 = bundle_sha256

    @classmethod
    def load(
        cls, bundle: str | PathLike[str] | None = None, *, backend: str = "auto", max_batch: int = MAX_BATCH
    ) -> Segmenter:
        """Load a bundle; without one, the lung-nodule model that ships with the package.

        backend: `auto`, or a name in `medseg_runtime.backends.BACKENDS`.

        Raises:
            BundleError: the bundle is missing, damaged, or of another schema.
            BackendError: the engine is not installed, or refuses the graphs.
        """
        loaded = Bundle.load(None if bundle is None else fspath(bundle))
        return cls(loaded.manifest, open_backend(backend, loaded), max_batch=max_batch, bundle_sha256=loaded.sha256)

    def __call__(
        self,
        image: Pixels | SourceImage | str | PathLike[str],
        samples: int = 16,
        steps: int | None = None,
        seed: int = 0,
        *,
        sampler: str | None = None,
        threshold: float = 0.5,
        region: Box | None = None,
        center: tuple[float, float] | None = None,
    ) -> Segmentation:
        """Draw N plausible masks of one image.

        image: (H, W) grey or (H, W, 3) RGB, integers or finite floats, or the path of a PNG, JPEG, TIFF or DICOM file,
            or what `medseg_runtime.io` reads from one.
        samples: N >= 1. Sample k is the same for every N.
        steps: network calls per sample; default from the bundle.
        seed: >= 0; the same seed gives the same masks.
        sampler: a name in `medseg_runtime.sampler.SAMPLERS`; default from the bundle.
        threshold: of the decoder's probability, in (0, 1); unused with several classes, where the likeliest wins.
        region: where to look, in image pixels; see `imaging` for what the bundle's rule makes of it.
        center: instead of it, for a model that outlines what someone points at: (x, y) in pixels from the image's corner.

        Raises:
            ImageError: the image cannot be read, or is not an image.
            ParameterError: an argument is out of range.
            BackendError: the engine failed, or returned NaN.
        """
        if isinstance(image, (str, PathLike)):
            from medseg_runtime.io import read_image  # arrays need neither Pillow's readers nor pydicom

            image = read_image(Path(image))
        source = image if isinstance(image, SourceImage) else None
        pixels = as_image(image.pixels if isinstance(image, SourceImage) else image)
        height, width = pixels.shape[:2]
        table = self.check(samples, steps, seed, sampler=sampler, threshold=threshold)
        _check_memory(samples, height * width * len(self.manifest.classes))

        clock = _Clock()
        with clock("preprocess"):
            placement = place(pixels, self.manifest.input, region, center)
            if source is not None and region is None and center is None:
                self._check_pointed_at(source)
            field = to_network(pixels, self.manifest.input, placement, source.value_range if source else None)
        with clock("encode"):
            condition = self.backend.encode(field)

        masks = np.empty((samples, len(self.manifest.classes), height, width), np.bool_)
        probability_sum = np.zeros(masks.shape[1:], np.float64)
        for start in range(0, samples, self.max_batch):
            batch = range(start, min(start + self.max_batch, samples))
            noise = [SampleNoise(seed, k, antithetic=self.manifest.sampling.antithetic) for k in batch]
            with clock("denoise"):
                latents = self._denoise(noise, condition, table)
            with clock("decode"):
                logits = self.backend.decode(latents)
            self._check_logits(logits, len(batch))
            with clock("aggregate"):
                probability = foreground_probability(logits)
                for k, sample in zip(batch, probability, strict=True):
                    in_image = to_image(sample, placement, outside=0.0)
                    masks[k] = _binarise(in_image, threshold)
                    probability_sum += in_image
        with clock("aggregate"):
            return self._summary(masks, probability_sum / samples, placement, table, seed, threshold, clock)

    def check(
        self,
        samples: int = 16,
        steps: int | None = None,
        seed: int = 0,
        *,
        sampler: str | None = None,
        threshold: float = 0.5,
    ) -> SamplerTable:
        """Check a call's arguments without an image, and return the table of the sampler that it would use.

        Raises:
            ParameterError: an argument is out of range.
        """
        if samples < 1:
            raise ParameterError(f"{samples} samples is out of range", "Use 1 or more; 16 is usual.")
        if seed < 0:
            raise ParameterError(f"seed {seed} is negative", "Use 0 or more.")
        if not 0.0 < threshold < 1.0:
            raise ParameterError(
                f"threshold {threshold} is out of range", "Use a number between 0 and 1, for example 0.5."
            )
        default = self.manifest.sampling
        return sampler_table(
            self.manifest.path,
            default.sampler if sampler is None else sampler,
            default.steps if steps is None else steps,
        )

    def _check_pointed_at(self, source: SourceImage) -> None:
        """Refuse a whole CT or MR slice: its middle is not where a finding is, and empty masks would look like an answer."""
        rule, (height, width) = self.manifest.input, source.pixels.shape[:2]
        if rule.geometry == "native" and source.kind in POINT_NEEDED and max(height, width) > 2 * rule.context:
            what = " or ".join(self.manifest.classes)
            raise ParameterError(
                f"nobody points at anything in this {source.kind} image of {width}x{height} px: the model outlines a {what} "
                f"that someone points at, in {rule.width}x{rule.height} px around the point, and does not search",
                "Give --center X,Y or --center-mm X,Y,Z; in Python, center=(x, y).",
            )

    def _denoise(self, noise: list[SampleNoise], condition: Any, table: SamplerTable) -> Any:
        """Noise => latents, all samples in one call per step."""

        def draw() -> Float32:
            return np.stack([n.draw(self.manifest.latent) for n in noise])

        features = time_features(table.t, self.manifest.time_features)
        return self.backend.denoise(condition, draw(), table, features, draw)

    def _check_logits(self, logits: Float32, batch: int) -> None:
        """Refuse what would become masks of another shape."""
        (sides,) = self.manifest.graphs["decoder"].outputs.values()
        expected = tuple(batch if side == "N" else side for side in sides)
        if logits.shape != expected:
            raise BackendError(
                f"{self.backend.name} returned {logits.shape} from the decoder, not {expected}",
                "Try another --backend, and report the bundle.",
            )

    def _summary(
        self,
        masks: Bool,
        mean_probability: npt.NDArray[np.float64],
        placement: Placement,
        table: SamplerTable,
        seed: int,
        threshold: float,
        clock: _Clock,
    ) -> Segmentation:
        """Masks (N, classes, H, W) => what they say together, without the class axis where there is one class."""
        confidence = uncertainty.confidence(masks)
        agreement = np.array([_pairwise_agreement(masks[:, c], placement) for c in range(masks.shape[1])])
        only = 0 if masks.shape[1] == 1 else slice(None)
        return Segmentation(
            masks=masks[:, only],
            confidence=confidence[only],
            consensus=uncertainty.consensus(confidence)[only],
            entropy=uncertainty.entropy(confidence)[only],
            mean_probability=mean_probability.astype(np.float32)[only],
            areas=np.count_nonzero(masks, axis=(2, 3))[:, only],
            mean_pairwise_iou=agreement[only],
            classes=self.manifest.classes,
            placement=placement,
            sampler=table.sampler,
            steps=len(table),
            seed=seed,
            threshold=threshold,
            warnings=tuple(self._warnings(masks, placement)),
            timings_ms=clock.milliseconds,
        )

    def _warnings(self, masks: Bool, placement: Placement) -> Iterator[str]:
        rule, field = self.manifest.input, placement.field
        whole = max(placement.image_height, placement.image_width)
        if rule.geometry == "native" and not placement.pointed_at and whole > 2 * rule.context:
            yield (
                f"the network saw only {field.width}x{field.height} px of this {placement.image_width}x{placement.image_height} image, "
                "in its middle: the model outlines what someone points at, so give a region or a point"
            )
        if not masks.any():
            yield f"all {len(masks)} samples are empty: the model sees no {' or '.join(self.manifest.classes)} here"


def _check_memory(samples: int, mask_bytes: int) -> None:
    if samples * mask_bytes > MAX_MASK_BYTES:
        raise ParameterError(
            f"{samples} masks of this image need {samples * mask_bytes / 2**30:.1f} GiB",
            f"Use at most {MAX_MASK_BYTES // mask_bytes} samples.",
        )
    available = available_bytes()
    if available is not None and (samples + WORKING_BYTES) * mask_bytes > available:
        fit = available // mask_bytes - WORKING_BYTES
        raise ParameterError(
            f"{samples} masks of this image need {(samples + WORKING_BYTES) * mask_bytes / 2**30:.1f} GiB of memory, "
            f"and {available / 2**30:.1f} GiB are free",
            f"Use at most {fit} samples, or a crop of the image." if fit > 0 else "Give a crop of the image.",
        )


def foreground_probability(logits: Float32) -> Float32:
    """Return the probability of each foreground class: logits (N, K, h, w) => (N, classes, h, w).

    K = 1: a sigmoid. K > 1: a softmax whose first channel, the background, is dropped.
    """
    if logits.shape[1] == 1:
        return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logits)), np.float32)  # the sigmoid, without overflow
    exponential = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray((exponential / exponential.sum(axis=1, keepdims=True))[:, 1:], np.float32)


def _binarise(probability: Float32, threshold: float) -> Bool:
    """(classes, H, W) probabilities => masks: above the threshold, or the likeliest of several classes."""
    if len(probability) == 1:
        return probability > threshold
    background = 1.0 - probability.sum(axis=0, keepdims=True)
    likeliest = np.concatenate([background, probability]).argmax(
        axis=0
    )  # the first of equals: classes exclude each other
    return np.asarray(likeliest == np.arange(1, 1 + len(probability))[:, None, None], np.bool_)


def _pairwise_agreement(masks: Bool, placement: Placement) -> float:
    """Mean IoU of sample pairs (N, H, W), over the field alone: outside it all masks are empty."""
    inside = placement.field.clipped(placement.image_height, placement.image_width)
    seen = masks[:, inside.y : inside.y + inside.height, inside.x : inside.x + inside.width]
    return uncertainty.mean_over_pairs(uncertainty.pairwise_iou(seen, seen))
