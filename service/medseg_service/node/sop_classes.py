"""What the node takes and sends: classes of objects and transfer syntaxes (PS3.4, annex B.5; PS3.6, annex A)."""

from __future__ import annotations

_STORAGE = "1.2.840.10008.5.1.4.1.1."
_IMAGES = tuple(
    f"{_STORAGE}{last}"
    for last in (
        "1", "1.1", "1.1.1", "1.2", "1.2.1", "1.3", "1.3.1",  # CR, DX, mammography and intra-oral, for presentation and for processing
        "2", "2.1", "2.2",  # CT, enhanced, legacy converted
        "4", "4.1", "4.3", "4.4",  # MR, enhanced, in color, legacy converted
        "3.1", "6.1", "6.2",  # US: multi-frame, single, enhanced volume
        "7", "7.1", "7.2", "7.3", "7.4",  # Secondary Capture, and multi-frame
        "12.1", "12.2", "20", "128",  # XA, RF, NM, PET
        "77.1.1", "77.1.2", "77.1.4", "77.1.5.1",  # endoscopy, microscopy, photography, ophthalmic photography
    )
)  # fmt: skip
"""Images that the runtime reads."""
REPORTS = tuple(f"{_STORAGE}88.{last}" for last in ("11", "22", "33", "34", "50", "65", "69"))
"""SR that may point into them: Basic Text, Enhanced, Comprehensive, Comprehensive 3D; CAD of breast, chest and colon."""
SOP_CLASSES = (*_IMAGES, *REPORTS)

_SYNTAX = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = f"{_SYNTAX}.1"
TRANSFER_SYNTAXES = (
    EXPLICIT_LITTLE,
    _SYNTAX,  # implicit
    f"{_SYNTAX}.2",  # big endian
    f"{_SYNTAX}.1.99",  # deflated
    *(f"{_SYNTAX}.4.{last}" for last in (50, 51, 57, 70, 80, 81, 90, 91, 201, 202, 203)),  # JPEG, JPEG-LS, JPEG 2000
    f"{_SYNTAX}.5",  # RLE
)
