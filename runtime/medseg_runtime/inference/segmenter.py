"""The front door: an image in, N plausible masks and their agreement out.

image => field in [0, 1] => condition -+
                                       +-> S denoiser calls on a batch of samples => latents => logits => tally => agreement
(seed, k) => noise of sample k --------+
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator, Iterable, Iterator
from os import PathLike, fspath
from typing import Any, TypeVar, Unpack

import numpy as np
import numpy.typing as npt

from medseg_runtime.backends.base import Backend
from medseg_runtime.backends.registry import open_backend
from medseg_runtime.errors import BackendError, ParameterError
from medseg_runtime.inference.prepare import Clock, Input, Prepared, prepare
from medseg_runtime.inference.request import Options, Request, Samples, request_of
from medseg_runtime.inference.workers import Outcome, run_workers
from medseg_runtime.machine.threads import calls_at_once
from medseg_runtime.model.bundle import MAX_BATCH, Bundle, Manifest
from medseg_runtime.model.noise import SampleNoise
from medseg_runtime.model.preprocess import Box, Placement, paste
from medseg_runtime.model.sampler import SamplerTable, time_features
from medseg_runtime.result import uncertainty
from medseg_runtime.result.accumulator import Accumulator
from medseg_runtime.result.segmentation import Segmentation
from medseg_runtime.result.stopping import MAX_SAMPLES, TOLERANCE, stages

Float32 = npt.NDArray[np.float32]
Image = TypeVar("Image", bound=Input)

LANES = 2
"""Threads of a stream where one call has all the processors: one reads while the other computes."""


class Segmenter:
    """A bundle on a backend, ready to be called; it holds no state between calls.

    It serves one thread at a time. Give each further thread a `clone()`, which costs next to nothing and shares the weights.

    >>> segmenter = Segmenter.load()                                 # doctest: +SKIP
    >>> segmenter(pixels, samples=16, seed=0).confidence             # doctest: +SKIP
    """

    def __init__(
        self,
        manifest: Manifest,
        backend: Backend,
        *,
        max_batch: int = MAX_BATCH,
        bundle_sha256: str = "",
        lanes: int = LANES,
    ) -> None:
        """Put a manifest and a backend together.

        max_batch: samples per network call, 1 to 64; more samples than that go in several calls, with the same masks.
        lanes: images of a stream that are dealt with at once.

        Raises:
            ParameterError: max_batch is out of range.
        """
        if not 1 <= max_batch <= MAX_BATCH:
            raise ParameterError(f"max_batch {max_batch} is out of range", f"Use 1 to {MAX_BATCH}.")
        self.manifest = manifest
        self.backend = backend
        self.max_batch = max_batch
        self.bundle_sha256 = bundle_sha256
        self.lanes = lanes
        self.images_at_once = 1
        """How many images this one and its clones deal with at the same time, and share the memory for."""

    @classmethod
    def load(
        cls,
        bundle: str | PathLike[str] | None = None,
        *,
        backend: str = "auto",
        precision: str = "auto",
        threads: int | None = None,
        max_batch: int = MAX_BATCH,
    ) -> Segmenter:
        """Load a bundle; without one, the lung-nodule model that ships with the package.

        backend: `auto`, or a name in `medseg_runtime.backends.BACKENDS`.
        precision: what the networks multiply in: `auto`, `float32`, `bfloat16` or `float16`.
        threads: of the CPU, that one call may use; None for as many as the engine thinks right. With fewer than there are, a
            stream computes several images side by side: more images a second, each a little later.

        Raises:
            BundleError: the bundle is missing, damaged, or of another schema.
            ParameterError: there is no such backend or precision here, or threads or max_batch are out of range.
            BackendError: the engine is not installed, or refuses the graphs.
        """
        loaded = Bundle.load(None if bundle is None else fspath(bundle))
        engine = open_backend(backend, loaded, precision=precision, threads=threads)
        lanes = calls_at_once(threads) + 1  # which reads, draws or writes while the others compute
        return cls(loaded.manifest, engine, max_batch=max_batch, bundle_sha256=loaded.sha256, lanes=lanes)

    def clone(self) -> Segmenter:
        """Return another segmenter on the same weights, for another thread; both give the same masks.

        Raises:
            BackendError: the engine has no room for another, as TensorRT may not.
        """
        other = copy.copy(self)
        other.backend = self.backend.clone()
        return other

    def __call__(
        self,
        image: Input,
        samples: Samples = 16,
        steps: int | None = None,
        seed: int = 0,
        *,
        sampler: str | None = None,
        threshold: float = 0.5,
        region: Box | None = None,
        center: tuple[float, float] | None = None,
        keep_masks: bool = True,
        max_samples: int = MAX_SAMPLES,
    ) -> Segmentation:
        """Draw N plausible masks of one image.

        image: (H, W) grey or (H, W, 3) RGB, integers or finite floats, or the path of a PNG, JPEG, TIFF or DICOM file,
            or what `medseg_runtime.readers.image` reads from one.
        samples: N >= 1, or `auto`: draw until the confidence has settled (see `settled`). Sample k is the same for every N.
        steps: network calls per sample; default from the bundle.
        seed: >= 0; the same seed gives the same masks.
        sampler: a name in `medseg_runtime.model.sampler.SAMPLERS`; default from the bundle.
        threshold: of the decoder's probability, in (0, 1); unused with several classes, where the likeliest wins.
        region: where to look, in image pixels; see `imaging` for what the bundle's rule makes of it.
        center: instead of it, for a model that outlines what someone points at: (x, y) in pixels from the image's corner.
        keep_masks: False: count the masks and forget them, so that a thousand samples take the memory of sixty-four.
        max_samples: the most that `auto` draws, an even number of 2 or more.

        Raises:
            ImageError: the image cannot be read, or is not an image.
            ParameterError: an argument is out of range.
            BackendError: the engine failed, or returned NaN.
        """
        request = request_of(
            self.manifest, samples=samples, steps=steps, seed=seed, sampler=sampler, threshold=threshold,
            region=region, center=center, keep_masks=keep_masks, max_samples=max_samples,
        )  # fmt: skip
        return self._draw(prepare(image, self.manifest, request, at_once=self.images_at_once), request)

    def stream(
        self, images: Iterable[Image], **options: Unpack[Options]
    ) -> Generator[Outcome[Image, Segmentation], None, None]:
        """Segment image after image, in order, while the next ones are read and the caller deals with the last.

        images: paths, arrays, or what `medseg_runtime.readers.image` reads; advanced in threads of the stream's own, `2 * lanes` images ahead.
        options: the other arguments of a call, the same for every image.

        Yields an `Outcome` for each image: `item` is what was given, `result()` returns its segmentation, or raises what was
        wrong with it; the others go on. Leaving the loop, or closing the generator, ends the threads.

        Raises:
            ParameterError: an argument is out of range; at once, not with the first image.
        """
        request = request_of(self.manifest, **options)

        def lane(segmenter: Segmenter) -> Callable[[Image], Segmentation]:
            segmenter.images_at_once = self.lanes
            return lambda image: segmenter._draw(
                prepare(image, segmenter.manifest, request, at_once=segmenter.images_at_once), request
            )

        # clones: the caller may go on calling this one
        return run_workers(images, [lane(self.clone()) for _ in range(self.lanes)], ahead=2 * self.lanes)

    def check(self, **options: Unpack[Options]) -> SamplerTable:
        """Check a call's arguments without an image, and return the table of the sampler that it would use.

        Raises:
            ParameterError: an argument is out of range.
        """
        return request_of(self.manifest, **options).table

    def _draw(self, prepared: Prepared, request: Request) -> Segmentation:
        """Draw samples until there are enough of them."""
        with prepared.clock("encode"):
            condition = self.backend.encode(prepared.field)
        keep = request.limit if request.keep_masks else 0
        tally = Accumulator(len(self.manifest.classes), prepared.placement, request.threshold, keep=keep)
        settled = None
        for stage in stages(request.limit) if request.auto else [range(request.limit)]:
            for start in range(stage.start, stage.stop, self.max_batch):
                batch = range(start, min(start + self.max_batch, stage.stop))
                self._count(tally, batch, condition, request, prepared.clock)
            if request.auto:
                settled = tally.standard_error() <= TOLERANCE
            if settled:
                break
        with prepared.clock("aggregate"):
            return self._summary(tally, prepared, request, settled)

    def _count(self, tally: Accumulator, batch: range, condition: Any, request: Request, clock: Clock) -> None:
        """Draw the samples of these numbers in one call per step, and count their masks."""
        noise = [SampleNoise(request.seed, k, self.manifest.sampling.noise) for k in batch]
        with clock("denoise"):
            latents = self._denoise(noise, condition, request.table)
        with clock("decode"):
            logits = self.backend.decode(latents)
        self._check_logits(logits, len(batch))
        with clock("aggregate"):
            tally.add(logits)

    def _denoise(self, noise: list[SampleNoise], condition: Any, table: SamplerTable) -> Any:
        """Noise => latents, all samples in one call per step."""
        shape = self.manifest.latent

        def fresh() -> Float32:
            return np.stack([n.draw(shape) for n in noise])

        features = time_features(table.t, self.manifest.time_features)
        return self.backend.denoise(condition, np.stack([n.start(shape) for n in noise]), table, features, fresh)

    def _check_logits(self, logits: Float32, batch: int) -> None:
        """Refuse what would become masks of another shape."""
        (sides,) = self.manifest.graphs["decoder"].outputs.values()
        expected = tuple(batch if side == "N" else side for side in sides)
        if logits.shape != expected:
            raise BackendError(
                f"{self.backend.name} returned {logits.shape} from the decoder, not {expected}",
                "Try another --backend, and report the bundle.",
            )

    def _summary(self, tally: Accumulator, prepared: Prepared, request: Request, settled: bool | None) -> Segmentation:
        """Bring what was counted into the image's grid, without the class axis where there is one class."""
        only = 0 if len(self.manifest.classes) == 1 else slice(None)
        masks, confidence, placement = tally.masks(), tally.confidence(), prepared.placement
        return Segmentation(
            samples=tally.samples,
            settled=settled,
            kept_masks=None if masks is None else masks[:, only],
            confidence=paste(confidence, placement)[only],
            consensus=paste(uncertainty.consensus(confidence), placement)[only],
            entropy=paste(uncertainty.entropy(confidence), placement)[only],
            mean_probability=paste(tally.mean_probability(), placement)[only],
            areas=tally.areas()[:, only],
            standard_error=tally.standard_error(),
            mean_pairwise_iou=tally.mean_pairwise_iou()[only],
            classes=self.manifest.classes,
            placement=placement,
            sampler=request.table.sampler,
            steps=len(request.table),
            seed=request.seed,
            threshold=request.threshold,
            backend=f"{self.backend.name} {self.backend.version}",
            precision=self.backend.precision,
            warnings=tuple(self._warnings(tally, placement, request.table)),
            timings_ms=prepared.clock.milliseconds,
        )

    def _warnings(self, tally: Accumulator, placement: Placement, table: SamplerTable) -> Iterator[str]:
        rule, field = self.manifest.input, placement.field
        whole = max(placement.image_height, placement.image_width)
        if rule.geometry == "native" and not placement.pointed_at and whole > 2 * rule.context:
            yield (
                f"the network saw only {field.width}x{field.height} px of this {placement.image_width}x{placement.image_height} image, "
                "in its middle: the model outlines what someone points at, so give a region or a point"
            )
        default = self.manifest.sampling
        if default.tuned and (table.sampler, len(table)) != (default.sampler, default.steps):
            yield (
                f"the model was tuned to draw in {default.steps} step{'s' * (default.steps > 1)} of {default.sampler}: its figures "
                f"do not hold for {len(table)} of {table.sampler}, so leave steps and sampler as they are"
            )
        if not tally.counts.any():
            yield f"all {tally.samples} samples are empty: the model sees no {' or '.join(self.manifest.classes)} here"
