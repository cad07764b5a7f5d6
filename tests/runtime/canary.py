"""A CT in which every element that can hold one has a mark of its own, and the search for marks in all that a command leaves.

text, names, bytes   QZX00001
UIDs                 1.2.826.0.1.9773.1
numbers              977300001
dates, times         18770101 to 18991231, 012345.9xxxxx
"""

import datetime as dt
import gzip
import io
import re
import zipfile
import zlib

import pydicom
from pydicom.data import get_testdata_file
from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset
from pydicom.tag import Tag

TEXT = ("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UT")
BYTES = ("OB", "OW", "UN")
WHOLE = ("SL", "UL", "SV", "UV")
FIRST_DAY = dt.date(1877, 1, 1)
FORMS = {
    **dict.fromkeys(TEXT, "QZX{:05d}"),
    **dict.fromkeys(("DS", "IS"), "9773{:05d}"),
    "UI": "1.2.826.0.1.9773.{}",
    "UR": "https://QZX{:05d}.example/x",
    "TM": "012345.9{:05d}",
    "DT": "18770101012345.9{:05d}",
}
"""Value representation -> mark."""

IN_ALL = re.compile(rb"QZX[-\d][\dp]{4}|1\.2\.826\.0\.1\.9773\.\d|Q\0Z\0X\0\d")
IN_TEXT = re.compile(
    rb"9773\d{5}(?!\d)|18[789]\d(0[1-9]|1[012])[0-3]\d(?!\d)|18[789]\d-(0[1-9]|1[012])-[0-3]\d|012345\.9"
)
"""Only text is searched for numbers: in compressed pixels they come by chance."""
TEXT_FILES = (".json", ".jsonl", ".html", ".csv", ".txt", ".log", "", ".svg")

KEPT_GROUPS = (0x0000, 0x0002, 0x0004, 0x0028, 0x5400, 0x7FE0)
"""What the file is, and what its pixels mean."""
KEPT = {
    "SOPClassUID", "SpecificCharacterSet", "Modality", "PatientSex", "ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "LengthToEnd", "LossyImageCompression", "ReferencedImageSequence",
    "PatientOrientation", "Laterality", "ImageLaterality", "QueryRetrieveLevel", "SliceThickness", "SpacingBetweenSlices", "GantryDetectorTilt",
}  # fmt: skip
"""Coded values and geometry, without which the file is no image that is read, or highdicom writes no SEG."""


class Marks:
    """Hands out marks."""

    def __init__(self):
        self.count = 0

    def value(self, representation):
        """A value with a mark; None where there is no room for one."""
        self.count += 1
        if representation in FORMS:
            return FORMS[representation].format(self.count % 100_000)
        if representation in BYTES:
            return f"QZX{self.count % 100_000:05d} ".encode()
        if representation in WHOLE:
            return 977300000 + self.count % 100_000
        if representation in ("FD", "FL"):
            return 977300000.0 + self.count % 100_000
        if representation == "DA":
            return (FIRST_DAY + dt.timedelta(self.count % 8000)).strftime("%Y%m%d")
        return None

    def item(self, depth=1):
        """An item of a sequence, with one in it."""
        item = Dataset()
        for keyword in ("PatientID", "IssuerOfPatientID", "PatientName", "CodeValue", "TextValue"):
            setattr(item, keyword, self.value("LO"))
        item.add_new(Tag(0x0029, 0x0010), "LO", self.value("LO"))
        item.add_new(Tag(0x0029, 0x1001), "UT", self.value("UT"))
        if depth:
            item.OtherPatientIDsSequence = [self.item(depth - 1)]
        return item


def marked_ct(**values):
    """A CT with every element of the dictionary, private ones, a preamble and file meta information, all marked. Return it and how many."""
    marks, dataset = Marks(), pydicom.dcmread(get_testdata_file("CT_small.dcm", download=False))
    for number, (kinds, _, _, _, keyword) in DicomDictionary.items():
        tag, kind = Tag(number), kinds[:2]
        if tag.group in KEPT_GROUPS or keyword in KEPT or not keyword:
            continue
        value = [marks.item()] if kind == "SQ" else marks.value(kind)
        if value is not None:
            dataset.add_new(tag, kind, value)
    for keyword in ("RescaleType", "VOILUTFunction", "WindowCenterWidthExplanation", "PixelIntensityRelationship"):
        setattr(dataset, keyword, marks.value("LO"))
    block = dataset.private_block(0x0029, marks.value("LO"), create=True)
    for offset, kind in enumerate((*FORMS, *BYTES, *WHOLE, "FD")):
        block.add_new(offset, kind, marks.value(kind))
    block.add_new(0x40, "SQ", [marks.item(3)])
    meta = dataset.file_meta
    for keyword in ("SourceApplicationEntityTitle", "SendingApplicationEntityTitle", "ReceivingApplicationEntityTitle"):
        setattr(meta, keyword, marks.value("AE"))
    meta.ImplementationVersionName = marks.value("SH")
    meta.PrivateInformationCreatorUID = marks.value("UI")
    meta.PrivateInformation = marks.value("OB")
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    dataset.preamble = b"QZX-preamble".ljust(128, b"\0")
    return dataset, marks.count


def marks_in(name, content):
    """The marks in a file, also where it is compressed."""
    found = set()
    for part in unpacked(content):
        found |= {match[0] for match in IN_ALL.finditer(part)}
    if name.endswith(TEXT_FILES) or "." not in name.rpartition("/")[2]:
        found |= {match[0] for match in IN_TEXT.finditer(content)}
    return found


def unpacked(content):
    """A file, and what is in it if it is a gzip, a zip or a PNG with compressed chunks."""
    yield content
    if content.startswith(b"\x1f\x8b"):
        yield gzip.decompress(content)
    if content.startswith(b"PK\3\4"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            yield from map(archive.read, archive.namelist())
    if content.startswith(b"\x89PNG"):
        yield from text_chunks(content)


def text_chunks(png):
    """The chunks of a PNG that are no pixels: tEXt, zTXt, iTXt, iCCP, eXIf."""
    at = 8
    while at + 12 <= len(png):
        length, kind = int.from_bytes(png[at : at + 4]), png[at + 4 : at + 8]
        data = png[at + 8 : at + 8 + length]
        if kind != b"IDAT":
            yield data
        if kind in (b"zTXt", b"iTXt", b"iCCP"):
            for start in range(len(data)):
                try:
                    yield zlib.decompressobj().decompress(data[start:])
                except zlib.error:
                    continue
        at += 12 + length


def marked_elements(dataset, where=""):
    """The elements of a DICOM object that hold a mark, as keywords with the sequences that they are in."""
    found = set()
    for element in dataset:
        name = f"{where}{element.keyword or element.tag}"
        if element.VR == "SQ":
            for item in element.value:
                found |= marked_elements(item, f"{name}/")
        else:
            text = element.value if isinstance(element.value, bytes) else str(element.value).encode()
            if IN_ALL.search(text) or (element.VR not in ("OB", "OW", "OF") and IN_TEXT.search(text)):
                found.add(name)
    return found
