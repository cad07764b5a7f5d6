"""Change DICOM elements, with all lengths mended by pydicom: odd values, other representations, elements left out, moved or nested."""

from __future__ import annotations

import io
import warnings
from random import Random
from typing import Any

import pydicom
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.tag import BaseTag, Tag

# fmt: off
KEYWORDS = (
    "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel", "PlanarConfiguration",
    "NumberOfFrames", "PhotometricInterpretation", "RescaleSlope", "RescaleIntercept", "RescaleType", "WindowCenter", "WindowWidth",
    "VOILUTFunction", "PixelSpacing", "ImagerPixelSpacing", "PixelPaddingValue", "ImageOrientationPatient", "ImagePositionPatient",
    "SliceThickness", "SpacingBetweenSlices", "Modality", "BurnedInAnnotation", "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID",
    "StudyInstanceUID", "FrameOfReferenceUID", "SpecificCharacterSet", "InstanceNumber", "PixelData", "LossyImageCompression",
    "ModalityLUTSequence", "VOILUTSequence", "LUTDescriptor", "LUTData", "RedPaletteColorLookupTableDescriptor",
    "RedPaletteColorLookupTableData", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "PixelMeasuresSequence",
    "PlaneOrientationSequence", "PlanePositionSequence", "SequenceOfUltrasoundRegions", "FrameTime", "FrameTimeVector", "CineRate",
    "ContentSequence", "ValueType", "GraphicData", "GraphicType", "ReferencedSOPSequence", "ReferencedFrameNumber", "ImageType",
    "ConceptNameCodeSequence", "TextValue", "MeasuredValueSequence",
)
ODD_VALUES: tuple[bytes, ...] = (
    b"", b"0", b"1", b"-1", b"1e308", b"-1e308", b"nan", b"inf", b"1\\2", b"0\\0", b"1\\0\\0\\0\\1\\0", b"x", b"\\", b"\\" * 300,
    b"MONOCHROME1", b"PALETTE COLOR", b"YBR_FULL_422", b"RGB", b"YES", b"SIGMOID", b"\xff\xfe\0\0", b"\0\0", b"\1\0", b"\xff\xff",
    b"\0\0\0\0", b"\xff" * 8, b"\xc3\xa9" * 9, b"\x1b$B", b"\x1b[31m", b"1.2.840.10008.5.1.4.1.1.66.4", b"9" * 400,
)
REPRESENTATIONS = (
    "AE", "AS", "AT", "CS", "DA", "DS", "DT", "FD", "FL", "IS", "LO", "LT", "OB", "OW", "PN", "SH", "SL", "SQ", "SS", "ST", "TM",
    "UI", "UL", "UN", "US", "UT", "UV",
)
SYNTAXES = (
    "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.5",
    "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.80",
    "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.4.201", "1.2.3",
)
# fmt: on


def change(content: bytes, chance: Random) -> bytes:
    """Return the file with one to three elements changed.

    Raises:
        ValueError: pydicom does not read or write it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            dataset = pydicom.dcmread(io.BytesIO(content))
            for _ in range(chance.randint(1, 3)):
                _change_one(dataset, chance)
            buffer = io.BytesIO()
            dataset.save_as(buffer)
        except Exception as error:  # pydicom has many; the bytes are then changed as they are
            raise ValueError("not written") from error
    return buffer.getvalue()


def _change_one(dataset: Any, chance: Random) -> None:
    if chance.random() < 0.05 and hasattr(dataset, "file_meta"):
        dataset.file_meta.TransferSyntaxUID = chance.choice(SYNTAXES)
        return
    tags = list(dataset.keys())
    tag = Tag(chance.choice(KEYWORDS)) if not tags or chance.random() < 0.4 else chance.choice(tags)
    sequence = dataset.get(tag) if tag in dataset and dataset.get_item(tag).VR == "SQ" else None
    if sequence is not None and len(sequence.value) and chance.random() < 0.8:
        _change_one(chance.choice(list(sequence.value)), chance)
    elif tag in dataset and chance.random() < 0.2:
        del dataset[tag]
    elif tag in dataset and tags and chance.random() < 0.2:
        _copy(dataset, tag, chance.choice(tags), chance)
    else:
        _odd(dataset, tag, chance)


def _odd(dataset: Any, tag: BaseTag, chance: Random) -> None:
    usual = dictionary_VR(tag) if pydicom.datadict.dictionary_has_tag(tag) else "UN"
    kind = chance.choice(REPRESENTATIONS) if chance.random() < 0.1 else usual[:2]
    value = chance.choice(ODD_VALUES) if chance.random() < 0.8 else chance.randbytes(2 * chance.randint(0, 9))
    padded = value + b" " * (len(value) % 2)
    if kind == "SQ":
        dataset[tag] = pydicom.DataElement(tag, "SQ", [pydicom.Dataset()] * chance.choice((0, 1, 2)))
    else:
        dataset[tag] = RawDataElement(
            tag, kind, len(padded), padded, 0, dataset.is_implicit_VR or False, is_little_endian=True
        )


def _copy(dataset: Any, tag: BaseTag, other: BaseTag, chance: Random) -> None:
    """Put the value of one element into another, or an element into a sequence."""
    if chance.random() < 0.3:
        item = pydicom.Dataset()
        item[other] = dataset[other]
        dataset[Tag("ContentSequence")] = pydicom.DataElement("ContentSequence", "SQ", [item])
        return
    found = dataset.get_item(other)
    if isinstance(found, RawDataElement):
        dataset[tag] = found._replace(tag=tag)
