"""DICOM: images in, and segmentations out.

contained.py     whatever pydicom and highdicom raise, warn or log becomes one of our errors, without their text
reading.py       one picture: a file, or a frame of it
series.py        a folder of slices, sorted in the patient
segmentation.py  SEG and Secondary Capture objects, deterministic, read back before they leave
codes.py         the coded terms in them
"""

from medseg_runtime.io.dicom.reading import read_dicom

__all__ = ["read_dicom"]
