"""From an SR that points (TID 1500 and CAD reports, with SCOORD or SCOORD3D) to orders."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

from medseg_runtime.errors import ImageError
from medseg_runtime.readers.dicom.guard import reading
from medseg_runtime.readers.dicom.parse import parse
from medseg_runtime.readers.dicom.pointing_sr import ImagePoint, PatientPoint, PointedFinding, read_findings
from medseg_service.node.job import Order
from medseg_service.node.object_store import ReceivedObject, is_uid
from medseg_service.node.sop_classes import REPORTS

EVIDENCE = ("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence")
log = logging.getLogger(__name__)


def orders_of(received: ReceivedObject) -> list[Order]:
    """Return an order for each finding of a report that has a point; none for an image, or a report without coordinates."""
    if received.sop_class not in REPORTS:
        return []
    try:
        findings = read_findings(received.content)
    except ImageError:  # it holds no coordinates; that it can be read is known
        return []
    evidence = dict(_evidence(received.content))
    orders = [order for finding in findings if (order := _order(finding, evidence, received)) is not None]
    if len(orders) < len(findings):
        log.warning("%d of the %d findings of a report do not say where", len(findings) - len(orders), len(findings))
    return orders


def _order(finding: PointedFinding, evidence: dict[str, tuple[str, str]], received: ReceivedObject) -> Order | None:
    trigger = f"{received.instance}#{finding.number}"
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
            )
    return None


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
