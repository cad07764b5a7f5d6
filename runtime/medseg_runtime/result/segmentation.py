"""What a segmenter returns: N plausible masks of one image, and what they say together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

import numpy as np
import numpy.typing as npt

from medseg_runtime.errors import ParameterError
from medseg_runtime.model.preprocess import Placement
from medseg_runtime.readers.source import SourceImage
from medseg_runtime.result.limits import Limit
from medseg_runtime.result.measurements import MeasuredSlice, Measurements, measured
from medseg_runtime.result.output_request import OutputRequest
from medseg_runtime.result.provenance import Provenance
from medseg_runtime.result.representatives import FEW, Choice, Representatives, every_sample, representatives
from medseg_runtime.result.request import SampleRequest

Bool = npt.NDArray[np.bool_]
Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class Segmentation:
    """N plausible masks of one image, in its own pixel grid (H, W), and what they say together.

    With several classes every map has a class axis before (H, W), and so have `areas`, (N, classes), and
    `mean_pairwise_iou`, (classes,). A result is data: it can be pickled and saved without the segmenter that made it.
    """

    source: SourceImage = field(repr=False)
    """The image, as it was given; not a copy."""
    request: SampleRequest
    """What was asked for."""
    provenance: Provenance
    """Which model, backend and versions answered."""
    samples: int
    """N, how many were drawn."""
    settled: bool | None
    """With `samples="auto"`: whether drawing stopped because the confidence had settled, not at the limit. Otherwise None."""
    kept_masks: Bool | None = field(repr=False)
    """(N, H, W), or None with `keep_masks=False`. `masks` is the same, and never None."""
    confidence: Float32
    """(H, W) share of samples that contain the pixel, in [0, 1]."""
    consensus: Bool
    """(H, W) where at least half of the samples agree."""
    entropy: Float32
    """(H, W) binary entropy of the confidence in bits, in [0, 1]."""
    mean_probability: Float32
    """(H, W) mean over the samples of the decoder's probability, before the threshold."""
    areas: npt.NDArray[np.int64]
    """(N,) pixels in each mask."""
    standard_error: float
    """Of the confidence with N samples: its root mean square over the field; NaN for a single sample. See `stopping`."""
    mean_pairwise_iou: npt.NDArray[np.float64]
    """() mean IoU of sample pairs i != j: 1 when all agree, NaN for a single sample. Without kept masks: of the first 64 samples."""
    classes: tuple[str, ...]
    placement: Placement
    """Where in the image the network looked."""
    sampler: str
    """Used for these samples; the bundle's default where the request names none."""
    steps: int
    """Denoiser calls per sample; likewise."""
    warnings: tuple[str, ...] = ()
    """What a reader of the masks should know, one sentence each."""
    timings_ms: dict[str, float] = field(default_factory=dict)
    """Wall time per stage: preprocess, encode, denoise, decode, aggregate."""

    @property
    def masks(self) -> Bool:
        """(N, H, W) one plausible mask per sample.

        Raises:
            ParameterError: the masks were not kept.
        """
        if self.kept_masks is None:
            raise ParameterError("the masks of this call were not kept", "Call the segmenter with keep_masks=True.")
        return self.kept_masks

    def representatives(self, count: int) -> Representatives:
        """Choose at most `count` samples that represent all N best, with the share of samples each stands for.

        With several classes, samples are compared by the IoU over all classes.

        Raises:
            ParameterError: count is not between 1 and N, or the masks were not kept.
        """
        return representatives(_seen(self), count)

    @property
    def measurements(self) -> tuple[Measurements, ...]:
        """What the samples measure, one `Measurements` per class; computed anew at each access. `measure` takes several slices.

        Raises:
            ParameterError: the masks were not kept.
        """
        return measured([self.measured_slice()], self.classes)

    def measured_slice(self) -> MeasuredSlice:
        """Return the masks of the field with a class axis, and the size of their pixels."""
        seen, placement = self.placement.seen, self.placement
        whole = self.masks if len(self.classes) > 1 else self.masks[:, None]
        masks = whole[..., seen.y : seen.y + seen.height, seen.x : seen.x + seen.width]
        cut = np.zeros(masks.shape[:2], np.bool_)
        for side, goes_on in (
            (masks[..., 0, :], seen.y > 0),
            (masks[..., -1, :], seen.y + seen.height < placement.image_height),
            (masks[..., 0], seen.x > 0),
            (masks[..., -1], seen.x + seen.width < placement.image_width),
        ):
            cut |= goes_on & np.any(side, axis=-1)
        return MeasuredSlice(masks=masks, spacing_mm=self.source.spacing_mm, plane=self.source.plane, cut=cut)

    def save(
        self,
        folder: str | PathLike[str],
        *,
        force: bool = False,
        representatives: Choice | None = None,
        dicom_seg: bool = False,
        rtstruct: bool = False,
        sr: bool = False,
        nifti: bool = False,
        limits: Sequence[Limit] = (),
        html: bool = False,
    ) -> None:
        """Write the result folder, whole or not at all; `medseg_runtime.writers.folder` lists its files.

        force: replace an older result. A folder that holds anything else is never touched.
        representatives: also render this many samples that represent all, or "all" of them. DICOM objects hold the same ones.
        dicom_seg, nifti: also write DICOM objects or NIfTI volumes, for a DICOM source; both need the extra `dicom`.
            Without `representatives`, the DICOM objects hold four of them.
        rtstruct: also write a DICOM structure set with the contours of the consensus and of the representatives, if any.
        sr: also write a DICOM Structured Report with the measurements, and the segmentations, which it refers to.
        limits: of measurements; result.json says which share of the samples is above each.
        html: also write `report.html`, one page that people open.

        Raises:
            OutputError: the folder exists or cannot be written; then nothing has changed on disk.
            ParameterError: the masks were not kept, or an option does not fit the source.
        """
        from medseg_runtime.writers.folder import write_result  # a caller who saves nothing needs no pictures

        asked = OutputRequest(
            representatives=representatives,
            dicom_seg=dicom_seg,
            rtstruct=rtstruct,
            sr=sr,
            nifti=nifti,
            html=html,
            limits=tuple(limits),
        )
        write_result(Path(folder), [self], asked, force=force)


def common_representatives(results: Sequence[Segmentation], choice: Choice = FEW) -> Representatives:
    """Choose samples that represent all N over some slices, in each of which sample k is the same hypothesis.

    results: of neighbouring slices, or one. choice: more than N means N.

    Raises:
        ParameterError: the number is below 1, or the masks were not kept.
    """
    count = results[0].samples
    if choice == "all":
        return every_sample(count)
    masks = np.concatenate([_seen(result).reshape(count, -1) for result in results], axis=1)
    return representatives(masks, min(choice, count))


def _seen(result: Segmentation) -> Bool:
    """Return the part of the masks where the network looked; there is nothing elsewhere."""
    seen = result.placement.seen
    return result.masks[..., seen.y : seen.y + seen.height, seen.x : seen.x + seen.width]
