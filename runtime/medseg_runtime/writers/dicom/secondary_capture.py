"""Write the overlay as a Secondary Capture, which any viewer shows."""

from __future__ import annotations

from collections.abc import Sequence

import pydicom

from medseg_runtime.figures.viewport import Canvas
from medseg_runtime.readers.dicom.guard import import_highdicom
from medseg_runtime.result.segmentation import Segmentation
from medseg_runtime.writers.dicom.encoding import encoded
from medseg_runtime.writers.dicom.identity import MAKER, OVERLAY, parameters, sha256_of, uid
from medseg_runtime.writers.dicom.read_back import check_picture

LOSSY = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")


def secondary_capture(result: Segmentation, header: pydicom.Dataset, overlay: Canvas, decides: Sequence[str]) -> bytes:
    """Return the overlay of one slice as a picture that belongs to the source's study.

    header: of the slice. decides: of `identity.entropy`.
    """
    decides = [*decides, str(header.SOPInstanceUID), sha256_of(overlay)]
    capture = import_highdicom("a Secondary Capture").sc.SCImage.from_ref_dataset(
        ref_dataset=header,
        pixel_array=overlay,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        series_instance_uid=uid(decides, f"series {OVERLAY.name}"),
        series_number=OVERLAY.number,
        sop_instance_uid=uid(decides, OVERLAY.name),
        instance_number=1,
        manufacturer=MAKER,
        patient_orientation=("L", "P"),
        laterality="L",
    )
    # The overlay is an enlarged part without orientation marks.
    capture.PatientOrientation = None
    capture.Laterality = ""
    capture.ImageType = ["DERIVED", "SECONDARY"]
    # The overlay holds the source's pixels, and no more text than they have.
    capture.pop("BurnedInAnnotation", None)
    if header.get("BurnedInAnnotation") in {"YES", "NO"}:
        capture.BurnedInAnnotation = header.BurnedInAnnotation
    capture.SeriesDescription = OVERLAY.description
    for keyword in LOSSY:  # once lossy, always lossy (PS3.3, C.7.6.1.1.5)
        if keyword in header:
            capture[keyword] = header[keyword]
    capture.DerivationDescription = "; ".join(f"{name} {value}" for name, value in parameters(result).items())
    content = encoded(capture, header)
    check_picture(content, overlay)
    return content
