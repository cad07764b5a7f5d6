"""From an SR that points (TID 1500 and CAD reports, with SCOORD or SCOORD3D) to orders."""

from __future__ import annotations

import io
from collections.abc import Iterator

from medseg_runtime.readers.dicom.guard import reading
from medseg_runtime.readers.dicom.parse import parse
from medseg_runtime.readers.dicom.pointing_sr import ImagePoint, PatientPoint, PointedFinding, find_findings
from medseg_service.node.job import Order
from medseg_service.node.object_store import ReceivedObject, is_uid
from medseg_service.node.sop_classes import REPORTS

EVIDENCE = ("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence")


def orders_of(received: ReceivedObject) -> list[Order]:
    """Return an order for each finding of a report that has coordinates; none for an image, or a report without them.

    Raises:
        ImageError: it is a report, and damaged.
    """
    if received.sop_class not in REPORTS:
        return []
    findings = find_findings(received.content)
    evidence = dict(_evidence(received.content)) if findings else {}
    return [_order(finding, evidence, received) for finding in findings]


def _order(finding: PointedFinding, evidence: dict[str, tuple[str, str]], received: ReceivedObject) -> Order:
    trigger = f"{received.instance}#{finding.number}"
    tracking_uid = finding.tracking_uid if is_uid(finding.tracking_uid) else None
    match finding.point:
        case ImagePoint(instance, frame, x, y) if is_uid(instance):
            study, series = evidence.get(instance, (received.study, ""))
            return Order(
                origin="sr",
                trigger=trigger,
                study=study,
                series=series,
                instance=instance,
                frame=frame,
                center=(x, y),
                tracking_uid=tracking_uid,
            )
        case PatientPoint(reference_frame, x, y, z):
            named = set(evidence.values())
            study, series = named.pop() if len(named) == 1 else (received.study, "")
            return Order(
                origin="sr",
                trigger=trigger,
                study=study,
                series=series,
                center_mm=(x, y, z),
                reference_frame=reference_frame,
                tracking_uid=tracking_uid,
            )
    fault = finding.fault or "it refers to an image whose SOP Instance UID is not valid"
    return Order(origin="sr", trigger=trigger, study=received.study, series="", fault=fault)


def _evidence(content: bytes) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield the objects that a report rests on: SOP Instance UID, and the UIDs of study and series."""
    with reading():
        report = parse(io.BytesIO(content))
        for keyword in EVIDENCE:
            for study in report.get(keyword) or []:
                for series in study.get("ReferencedSeriesSequence") or []:
                    uids = str(study.get("StudyInstanceUID") or ""), str(series.get("SeriesInstanceUID") or "")
                    for reference in series.get("ReferencedSOPSequence") or []:
                        if all(map(is_uid, uids)):
                            yield str(reference.get("ReferencedSOPInstanceUID") or ""), uids
