"""Write measurements with their distribution as a DICOM Structured Report: TID 1500 "Measurement Report" (PS3.16).

    measurements.dcm   per class a Measurement Group: certainty of the finding, number of samples, and mean, standard deviation,
                       median, 5th and 95th percentile, minimum and maximum of area, axes, diameters and volume

Each group refers to the consensus of its class in the SEG, and to the source images. Statistics are those of the samples that are not empty.

The object is an Enhanced SR: TID 1500 without coordinates needs no more, and every archive and viewer that takes an SR takes this one. It
is COMPLETE, because nothing is to be added to it, and UNVERIFIED and PRELIMINARY, because no physician has seen it. It has a series of its own.
UIDs and dates are those of `identity`, and the object is read back and compared before it is returned.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset

from medseg_runtime._version import __version__
from medseg_runtime.readers.dicom.guard import import_highdicom
from medseg_runtime.result.measurements import Measurements
from medseg_runtime.result.segmentation import Segmentation
from medseg_runtime.writers.dicom.encoding import encoded
from medseg_runtime.writers.dicom.identity import MAKER, MEASUREMENTS, MODEL, entropy, uid
from medseg_runtime.writers.dicom.measurement_codes import DEVICE, IMAGING_PROCEDURE, OWN_SCHEME
from medseg_runtime.writers.dicom.measurement_group import ReferencedImages, comment, measurement_group, values_of
from medseg_runtime.writers.dicom.read_back import check_values

RESEARCH_ONLY = "Research software, not a medical device. Not verified by a physician."


def measurement_report(
    results: Sequence[Segmentation],
    measurements: Sequence[Measurements],
    headers: Sequence[Dataset],
    consensus: bytes,
) -> bytes:
    """Return the content of a report.

    results: of one image, or of slices of one series in their order. measurements: of all of them together, one for each class.
    headers: of the sources, of `sources.prepare`. consensus: the SEG that has the consensus of each class, in their order.

    Raises:
        OutputError: it did not read back as it was written.
    """
    highdicom = import_highdicom("a DICOM SR")
    result, seg = results[0], pydicom.dcmread(io.BytesIO(consensus))
    decides = [*entropy(results, headers, (pydicom.__version__, highdicom.__version__)), str(seg.SOPInstanceUID)]
    origins = [each.source.dicom for each in results]
    frames = [origin.frame if origin is not None and origin.frames > 1 else None for origin in origins]
    images = ReferencedImages(seg=seg, headers=headers, frames=frames)
    marked = np.any([each.consensus.reshape(len(each.classes), -1).any(axis=1) for each in results], axis=0)
    groups = [
        measurement_group(result, each, images, segment, agreed=bool(agreed))
        for each, segment, agreed in zip(measurements, seg.SegmentSequence, marked, strict=True)
    ]
    report = highdicom.sr.EnhancedSR(
        evidence=[*headers, seg],
        content=_content(highdicom.sr, groups, result, uid(decides, "device")),
        series_instance_uid=uid(decides, f"series {MEASUREMENTS.name}"),
        series_number=MEASUREMENTS.number,
        sop_instance_uid=uid(decides, MEASUREMENTS.name),
        instance_number=1,
        is_complete=True,
        manufacturer=MAKER,
        manufacturer_model_name=MODEL,
        software_versions=__version__,
        device_serial_number=result.provenance.bundle_sha256[:16] or "none",
        series_description=MEASUREMENTS.description,
    )
    report.CodingSchemeIdentificationSequence = [_own_scheme()]
    content = encoded(report, headers[0])
    check_values(content, [values_of(each) for each in measurements])
    return content


def _content(sr: Any, groups: Sequence[Any], result: Segmentation, device_uid: str) -> Any:
    observer = sr.DeviceObserverIdentifyingAttributes(
        uid=device_uid,
        name=MODEL,
        manufacturer_name=MAKER,
        model_name=MODEL,
        serial_number=result.provenance.bundle_sha256[:16] or "none",
    )
    context = sr.ObserverContext(observer_type=sr.CodedConcept(*DEVICE), observer_identifying_attributes=observer)
    content = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=context),
        procedure_reported=sr.CodedConcept(*IMAGING_PROCEDURE),
        imaging_measurements=groups,
    )
    content[0].ContentSequence.append(comment(RESEARCH_ONLY))
    return content


def _own_scheme() -> Dataset:
    scheme = Dataset()
    scheme.CodingSchemeDesignator, scheme.CodingSchemeName = OWN_SCHEME, f"{MAKER} measurements"
    scheme.CodingSchemeResponsibleOrganization = MAKER
    return scheme
