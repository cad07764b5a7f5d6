"""Where a frame lies in the patient, and what its pixels measure; None where the header does not really say it."""

from __future__ import annotations

import math

from medseg_runtime.readers.dicom.frame_header import FrameHeader
from medseg_runtime.readers.dicom.header import image_type, modality
from medseg_runtime.readers.dicom.mosaic import states_mosaic
from medseg_runtime.readers.patient_plane import PatientPlane

_STORAGE = "1.2.840.10008.5.1.4.1.1."
SECONDARY_CAPTURES = frozenset(_STORAGE + end for end in ("7", "7.1", "7.2", "7.3", "7.4"))
PROJECTIONS = frozenset(
    _STORAGE + end for end in ("1", "1.1", "1.1.1", "1.2", "1.2.1", "1.3", "1.3.1", "12.1", "12.2", "12.3")
)
"""Computed and digital radiography, mammography, intra-oral, angiography and fluoroscopy (PS3.4, B.5)."""
PLANE = {"ImagePositionPatient": 3, "ImageOrientationPatient": 6}
"""Elements of a plane, and their number of values."""
TOMOGRAPHIC = frozenset({"CT", "MR", "PT"})
"""Modalities whose images state a plane (PS3.3, C.7.6.2)."""
CT_STORAGE = frozenset(_STORAGE + end for end in ("2", "2.1", "2.2"))
TILT_DEGREES = 1.0
"""Largest angle that counts as no tilt."""


def spacing_of(header: FrameHeader) -> tuple[float, float] | None:
    """Return Pixel Spacing: (between rows, between columns) in mm; None if it is not stated or not valid."""
    spacing = header.vector("PixelSpacing", 2)
    if spacing and min(spacing) <= 0:
        header.not_used("PixelSpacing")
        spacing = []
    if not spacing:
        _warn_of_unequal_sides(header)
        return None
    if _is_projection(header) and not _is_calibrated(header, spacing):
        header.warn("PixelSpacing of a projection is measured at the detector: sizes in the patient are smaller")
    return spacing[0], spacing[1]


def frame_plane(header: FrameHeader, spacing_mm: tuple[float, float] | None) -> PatientPlane | None:
    """Return the plane of a frame in the patient; None if it is not stated, or with a warning if it cannot be right."""
    problem = _problem(header)
    if problem and (header.holder("ImagePositionPatient") is not None or _is_mosaic(header)):
        header.warn(f"the position in the patient was not used: {problem}")
    if problem:
        return None
    position = header.vector("ImagePositionPatient", 3)
    orientation = header.vector("ImageOrientationPatient", 6)
    if not (position and orientation and spacing_mm):
        return None
    thickness = header.number("SliceThickness")
    if thickness is not None and not (math.isfinite(thickness) and thickness > 0):
        header.not_used("SliceThickness")
    plane = PatientPlane.parse(position, orientation, spacing_mm, [] if thickness is None else [thickness])
    if plane is None:
        header.not_used("ImageOrientationPatient")
    elif _contradicts_tilt(header, plane):
        header.warn("the position in the patient was not used: GantryDetectorTilt and ImageOrientationPatient differ")
        return None
    elif _is_ct(header) and "LOCALIZER" in image_type(header.dataset):
        header.warn("this is a CT localizer: a projection, and sizes and points beside its plane are not exact")
    return plane


def missing_of_plane(header: FrameHeader) -> list[str]:
    """Return the elements without which a frame that should have a plane in the patient has none."""
    stated = any(header.holder(keyword) is not None for keyword in ("ImagePositionPatient", "ImageOrientationPatient"))
    if _problem(header) or not (stated or modality(header.dataset) in TOMOGRAPHIC):
        return []
    missing = [keyword for keyword, length in PLANE.items() if not header.vector(keyword, length)]
    if spacing_of(header) is None:
        missing.append("PixelSpacing")
    return missing or ["ImageOrientationPatient"]


def _problem(header: FrameHeader) -> str | None:
    """Say why a stated position is not that of the pixels, if it is not. An enhanced object has planes of its own."""
    if header.enhanced:
        return None
    if header.frames > 1:
        return "it is that of the first of several frames"
    if _is_mosaic(header):
        return "the image is a mosaic of slices (MOSAIC), and each lies elsewhere"
    if _is_projection(header):
        return "the image is a projection"
    if header.text("SOPClassUID") in SECONDARY_CAPTURES:
        return "the image is a secondary capture, and its position was copied from another one"
    return None


def _is_projection(header: FrameHeader) -> bool:
    return header.text("SOPClassUID") in PROJECTIONS


def _is_mosaic(header: FrameHeader) -> bool:
    """Tell whether slices are tiled into one picture, as older Siemens scanners write EPI. Enhanced objects may say so and are none."""
    if header.enhanced:
        return False
    return "MOSAIC" in image_type(header.dataset) or states_mosaic(header.dataset)


def _is_ct(header: FrameHeader) -> bool:
    """Tell whether an object is CT, by its modality or, without one, by its SOP class."""
    return (modality(header.dataset) or ("CT" if header.text("SOPClassUID") in CT_STORAGE else "")) == "CT"


def _is_calibrated(header: FrameHeader, spacing: list[float]) -> bool:
    """Tell whether a projection's spacing was corrected for magnification (PS3.3, 10.7.1.3)."""
    if header.text("PixelSpacingCalibrationType"):
        return True
    detector = header.vector("ImagerPixelSpacing", 2)
    return bool(detector) and not all(math.isclose(a, b) for a, b in zip(detector, spacing, strict=True))


def _contradicts_tilt(header: FrameHeader, plane: PatientPlane) -> bool:
    """Tell whether a CT slice states a tilt of the gantry, and an upright plane. A derived one may have been resampled."""
    if not _is_ct(header) or "DERIVED" in image_type(header.dataset):
        return False
    stated = header.number("GantryDetectorTilt")
    upright = abs(float(plane.normal[2])) > math.cos(math.radians(TILT_DEGREES))
    return upright and stated is not None and math.isfinite(stated) and abs(stated) > TILT_DEGREES


def _warn_of_unequal_sides(header: FrameHeader) -> None:
    for keyword in ("PixelAspectRatio", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        sides = header.vector(keyword, 2) if header.text(keyword) else []
        if sides and min(sides) > 0 and not math.isclose(*sides, rel_tol=0.01):
            header.warn(f"pixels are not square ({keyword}), and shapes are those of the stored pixels")
