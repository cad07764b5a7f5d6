"""An image in, N plausible masks and their agreement out.

image => field in [0, 1] => condition -+
                                       +-> S denoiser calls on a batch of samples => latents => logits => counts => agreement
(seed, k) => noise of sample k --------+
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from os import PathLike, fspath
from threading import Lock
from types import TracebackType
from typing import NoReturn, Self, TypeVar

from medseg_runtime.backends.base import Backend, BackendName, PrecisionName
from medseg_runtime.backends.opening import open_backend
from medseg_runtime.errors import BackendError, ParameterError
from medseg_runtime.inference.cautions import cautions
from medseg_runtime.inference.prepare import Input, Prepared, prepare
from medseg_runtime.inference.request_keywords import request_keywords
from medseg_runtime.inference.sampling import sample
from medseg_runtime.inference.workers import Outcome, run_workers
from medseg_runtime.machine.threads import calls_at_once
from medseg_runtime.model.bundle import MAX_BATCH, Bundle, Manifest
from medseg_runtime.model.preprocess import paste
from medseg_runtime.model.sampler import SamplerTable, sampler_table
from medseg_runtime.result import uncertainty
from medseg_runtime.result.accumulator import Accumulator
from medseg_runtime.result.provenance import BackendRecord, Provenance
from medseg_runtime.result.request import SampleRequest
from medseg_runtime.result.segmentation import Segmentation

Image = TypeVar("Image", bound=Input)

WORKERS = 2
"""Threads of a stream where one call has all processors: one reads while the other computes."""


class Segmenter:
    """A bundle on a backend, ready to be called.

    Threads may share a segmenter: it works on one image at a time, and the others wait. To work on several images at once,
    give each thread a `clone()`, which shares the weights and costs next to nothing, or use `stream`.

    A segmenter cannot be pickled or copied, and does not survive `fork`: load the bundle in each process.

    >>> with Segmenter.load() as segmenter:                          # doctest: +SKIP
    ...     segmenter(pixels, samples=16, seed=0).confidence
    """

    # Who owns which buffer. The backend owns every array that its networks read and write. Only `_sample` calls the backend,
    # and holds `_lock` from the encoder to the last decoded batch; what leaves it (counts, maps, masks) belongs to the result.
    # A clone has a backend clone with buffers of its own, and a lock of its own. So no two images ever share a buffer.

    def __init__(
        self,
        manifest: Manifest,
        backend: Backend,
        *,
        max_batch: int = MAX_BATCH,
        bundle_sha256: str = "",
        workers: int = WORKERS,
    ) -> None:
        """Put a manifest and a backend together; the backend belongs to the segmenter from then on.

        max_batch: samples per network call, 1 to 64. More samples go in several calls, with the same masks.
        workers: images of a stream in progress at once.

        Raises:
            ParameterError: max_batch is out of range.
        """
        if not 1 <= max_batch <= MAX_BATCH:
            raise ParameterError(f"max_batch {max_batch} is out of range", f"Use 1 to {MAX_BATCH}.")
        self.manifest = manifest
        self.backend = backend
        self.max_batch = max_batch
        self.bundle_sha256 = bundle_sha256
        self.workers = workers
        self._lock = Lock()
        self._closed = False

    @classmethod
    def load(
        cls,
        bundle: str | PathLike[str] | None = None,
        *,
        backend: BackendName = "auto",
        precision: PrecisionName = "auto",
        threads: int | None = None,
        max_batch: int = MAX_BATCH,
        cuda_graphs: bool = True,
        trust_graphs: bool = False,
        require_signature: str | PathLike[str] | None = None,
        bundle_sha256: str | None = None,
    ) -> Segmenter:
        """Load a bundle; by default the lung-nodule model that ships with the package.

        backend: `auto` takes the fastest on this CPU whose masks are those of ONNX Runtime in float32.
        precision: what the networks multiply in.
        threads: CPU threads of one call, >= 1; by default as many as the backend chooses. With fewer than there are
            processors, a stream computes several images side by side: more images a second, each a little later.
        cuda_graphs: for a GPU backend, launch all steps of an image at once. False helps to find a fault.
        trust_graphs: take a bundle whose graphs have operators, sub-graphs or functions that medseg-export does not write, and
            version-compatible engines, which run code of their own.
        require_signature: the file of a public key that the bundle must be signed with (`medseg-export sign`).
        bundle_sha256: of bundle.json, in hexadecimal: take no other bundle.

        Raises:
            BundleError: the bundle is missing, damaged, or of another schema.
            ParameterError: there is no such backend or precision here, or a number is out of range.
            BackendError: the backend is not installed, or refuses the graphs.
        """
        loaded = Bundle.load(
            None if bundle is None else fspath(bundle),
            trust_graphs=trust_graphs,
            require_signature=None if require_signature is None else fspath(require_signature),
            bundle_sha256=bundle_sha256,
        )
        opened = open_backend(backend, loaded, precision=precision, threads=threads, cuda_graphs=cuda_graphs)
        workers = calls_at_once(threads) + 1  # one reads, renders or writes while the others compute
        return cls(loaded.manifest, opened, max_batch=max_batch, bundle_sha256=loaded.sha256, workers=workers)

    def clone(self) -> Segmenter:
        """Return another segmenter on the same weights, with buffers of its own, for another thread. Its masks are the same.

        Raises:
            BackendError: the segmenter is closed, or the device has no room for another, as a GPU may not.
        """
        self._check_open()
        return Segmenter(
            self.manifest,
            self.backend.clone(),
            max_batch=self.max_batch,
            bundle_sha256=self.bundle_sha256,
            workers=self.workers,
        )

    def close(self) -> None:
        """Free the networks and their buffers; later calls raise. Close the original last: its clones stop working with it."""
        with self._lock:
            self._closed = True
            self.backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise BackendError(
            "a segmenter cannot be pickled or copied, because it holds a running backend",
            "Call clone() for another thread, and Segmenter.load() in another process.",
        )

    @request_keywords(SampleRequest)
    def __call__(self, image: Input, request: SampleRequest) -> Segmentation:
        """Draw N plausible masks of one image.

        image: (H, W) grey or (H, W, 3) RGB, integers or finite floats; or a PNG, JPEG, TIFF, BMP or DICOM file: its path, its bytes, or the
            file opened in binary mode; or a `SourceImage` from a reader. The other arguments are those of `SampleRequest`.

        Raises:
            ImageError: the image cannot be read, or is not an image.
            ParameterError: an argument is out of range.
            BackendError: the backend failed or returned NaN, or the segmenter is closed.
        """
        return self.segment(image, request)

    @request_keywords(SampleRequest)
    def stream(
        self, images: Iterable[Image], request: SampleRequest
    ) -> Generator[Outcome[Image, Segmentation], None, None]:
        """Segment image after image, in order, while the next ones are read and the caller uses the last.

        images: of the kinds that a call takes. They are taken in the stream's own threads, `2 * workers` images ahead.
            The other arguments are those of `SampleRequest`, the same for every image.

        Yields an `Outcome` for each image: `item` is the image as given, and `result()` returns its segmentation or raises
        what was wrong with it. One bad image does not stop the others. Leaving the loop, or closing the generator, ends the
        threads once their current images are done. It does not wait for `images`: if that does not return, the thread that
        asked it for the next image stays in it, and ends with it.

        Raises:
            ParameterError: an argument is out of range; raised at once, not with the first image.
        """
        return self.segment_all(images, request)

    def segment_all(
        self, images: Iterable[Image], request: SampleRequest
    ) -> Generator[Outcome[Image, Segmentation], None, None]:
        """Segment image after image as a ready request asks for; see `stream`."""
        self.check(request)

        def worker(segmenter: Segmenter) -> Callable[[Image], Segmentation]:
            return lambda image: segmenter.segment(image, request, images_at_once=self.workers)

        # clones: the caller may go on calling this segmenter
        return run_workers(images, [worker(self.clone()) for _ in range(self.workers)], ahead=2 * self.workers)

    def segment(self, image: Input, request: SampleRequest, *, images_at_once: int = 1) -> Segmentation:
        """Draw the masks that a ready request asks for; see `__call__`.

        images_at_once: images in progress in this process, which share the memory.
        """
        table = self.check(request)
        return self._sample(prepare(image, self.manifest, request, images_at_once=images_at_once), request, table)

    def check(self, request: SampleRequest) -> SamplerTable:
        """Check a request against the bundle, without an image. Return the table of the sampler that it would use.

        Raises:
            ParameterError: there is no such sampler, or steps are out of range.
        """
        default = self.manifest.sampling
        return sampler_table(
            self.manifest.path,
            default.sampler if request.sampler is None else request.sampler,
            default.steps if request.steps is None else request.steps,
        )

    @property
    def provenance(self) -> Provenance:
        """Which model, backend and versions make the results."""
        manifest, backend = self.manifest, self.backend
        return Provenance(
            bundle=manifest.name,
            bundle_sha256=self.bundle_sha256,
            task=manifest.task,
            needs_point=manifest.input.geometry == "native",
            backend=BackendRecord(
                name=backend.name,
                version=backend.version,
                precision=backend.precision,
                why=backend.why,
                compiled=backend.compiled,
            ),
        )

    def _sample(self, prepared: Prepared, request: SampleRequest, table: SamplerTable) -> Segmentation:
        with self._lock:
            self._check_open()
            counts, settled = sample(prepared, self.manifest, self.backend, request, table, max_batch=self.max_batch)
            provenance = self.provenance
        with prepared.clock("aggregate"):
            return self._segmentation(counts, prepared, request, table, provenance, settled)

    def _check_open(self) -> None:
        if self._closed:
            raise BackendError("the segmenter is closed", "Load the bundle again with Segmenter.load().")

    def _segmentation(
        self,
        counts: Accumulator,
        prepared: Prepared,
        request: SampleRequest,
        table: SamplerTable,
        provenance: Provenance,
        settled: bool | None,
    ) -> Segmentation:
        """Bring the counts into the image's grid, without the class axis where there is one class."""
        only = 0 if len(self.manifest.classes) == 1 else slice(None)
        masks, confidence, placement = counts.masks(), counts.confidence(), prepared.placement
        return Segmentation(
            source=prepared.source,
            request=request,
            provenance=provenance,
            samples=counts.samples,
            settled=settled,
            kept_masks=None if masks is None else masks[:, only],
            confidence=paste(confidence, placement)[only],
            consensus=paste(uncertainty.consensus(confidence), placement)[only],
            entropy=paste(uncertainty.entropy(confidence), placement)[only],
            mean_probability=paste(counts.mean_probability(), placement)[only],
            areas=counts.areas()[:, only],
            standard_error=counts.standard_error(),
            mean_pairwise_iou=counts.mean_pairwise_iou()[only],
            classes=self.manifest.classes,
            placement=placement,
            sampler=table.sampler,
            steps=len(table),
            warnings=tuple(cautions(self.manifest, counts, placement, table)),
            timings_ms=prepared.clock.milliseconds,
        )
