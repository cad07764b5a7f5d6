"""DICOM data sets as files."""

import io

import pydicom


def encoded(dataset: pydicom.Dataset) -> bytes:
    """Return a data set as the bytes of a file."""
    content = io.BytesIO()
    dataset.save_as(content, enforce_file_format=True)
    return content.getvalue()
