"""DICOM images in; `medseg_runtime.dicom_seg` writes.

`contained` keeps the errors and warnings of pydicom and highdicom in, `reading` gives one picture of a file or a frame of it, and
`series` sorts the slices of a folder in the patient.
"""

from medseg_runtime.io.dicom.reading import read_dicom

__all__ = ["read_dicom"]
