"""What a user asks of the writers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from medseg_runtime.result.limits import Limit
from medseg_runtime.result.representatives import Choice


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputRequest:
    """What a result folder holds besides masks, maps and pictures."""

    representatives: Choice | None = None
    """How many samples that represent all to choose and draw, if any. DICOM objects and the report have a few without it."""
    dicom_seg: bool = False
    """DICOM segmentations, and the overlay as Secondary Capture."""
    rtstruct: bool = False
    """A DICOM structure set: contours of the consensus and of the representatives, if any."""
    sr: bool = False
    """A DICOM Structured Report with the measurements, and the segmentations, which it refers to."""
    nifti: bool = False
    """NIfTI volumes."""
    html: bool = False
    """One page that people open."""
    limits: tuple[Limit, ...] = ()
    """Of measurements: result.json says which share of the samples is above each."""

    @property
    def segmentations(self) -> bool:
        """Whether DICOM segmentations are written, for themselves or for the report that refers to them."""
        return self.dicom_seg or self.sr

    def record(self) -> dict[str, Any]:
        """Return what the audit file says of it."""
        return asdict(self) | {"limits": list(map(str, self.limits))}


NOTHING_MORE = OutputRequest()
