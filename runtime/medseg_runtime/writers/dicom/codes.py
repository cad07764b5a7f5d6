"""Coded terms for segments: SNOMED CT, as in DICOM PS3.16, CID 7150 and 7151."""

from __future__ import annotations

from dataclasses import dataclass

Term = tuple[str, str, str]
"""Value, coding scheme, meaning."""

ABNORMAL: Term = ("49755003", "SCT", "Morphologically Abnormal Structure")
NODULE: Term = ("27925004", "SCT", "Nodule")
LESION: Term = ("52988006", "SCT", "Lesion")
LUNG: Term = ("39607008", "SCT", "Lung")
ARTIFICIAL_INTELLIGENCE: Term = ("123110", "DCM", "Artificial Intelligence")
"""Family of an algorithm, CID 7162."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Category, type and anatomic region of a segment."""

    category: Term
    kind: Term
    region: Term | None = None


def finding(class_name: str, task: str) -> Finding:
    """Return the codes of a bundle's class: nodule of the lung if name and task say so, otherwise lesion."""
    if "nodule" in class_name.lower() and "lung" in f"{class_name} {task}".lower():
        return Finding(ABNORMAL, NODULE, LUNG)
    return Finding(ABNORMAL, LESION)
