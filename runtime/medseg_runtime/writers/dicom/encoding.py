"""Encode an object that highdicom made, without what depends on when and how often this runs."""

from __future__ import annotations

import io

import pydicom
from pydicom.uid import ExplicitVRLittleEndian

from medseg_runtime.writers.dicom.reference import date_and_time

WHEN_WE_RAN = (
    "DateOfSecondaryCapture", "InstanceCreationDate", "InstanceCreationTime", "SeriesDate", "SeriesTime",
    "TimeOfSecondaryCapture",
)  # fmt: skip


def encoded(dataset: pydicom.Dataset, header: pydicom.Dataset) -> bytes:
    """Return the file of an object. Its date is that of its source, and `header` the source's."""
    dataset.ContentDate, dataset.ContentTime = date_and_time(header)
    for keyword in WHEN_WE_RAN:
        if keyword in dataset:
            delattr(dataset, keyword)
    for equipment in dataset.get("ContributingEquipmentSequence") or []:
        if "ContributionDateTime" in equipment:
            del equipment.ContributionDateTime
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
