"""What the DICOM suites share: sources of every kind, and what we write for each."""

import copy
import shutil
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataelem import RawDataElement

from medseg_runtime.figures.overlay import render_overlay
from medseg_runtime.readers.image import read_image
from medseg_runtime.readers.source import SourceImage
from medseg_runtime.result.representatives import Representatives
from medseg_runtime.result.segmentation import Segmentation, common_representatives
from medseg_runtime.testing import toy_segmenter

SAMPLES = 4

SOURCES = {
    "CT, big endian rescale": ("CT_small.dcm", None),
    "CT, JPEG 2000": ("J2K_pixelrep_mismatch.dcm", None),
    "CT, tiny": ("dicomdirtests/98892001/CT2N/6293", None),
    "MR": ("MR_small.dcm", None),
    "MR, JPEG-LS": ("MR_small_jpeg_ls_lossless.dcm", None),
    "MR, RLE": ("MR_small_RLE.dcm", None),
    "MR, overlays": ("MR-SIEMENS-DICOM-WithOverlays.dcm", None),
    "enhanced CT, frame 1": ("eCT_Supplemental.dcm", 1),
    "enhanced CT, frame 2": ("eCT_Supplemental.dcm", 2),
    "US, RGB": ("examples_rgb_color.dcm", None),
    "US, palette": ("examples_palette.dcm", None),
    "US, JPEG 2000": ("examples_jpeg2k.dcm", None),
    "US multi-frame, frame 7": ("examples_ybr_color.dcm", 7),
    "CR 1": ("dicomdirtests/77654033/CR1/6154", None),
    "CR 2": ("dicomdirtests/77654033/CR2/6247", None),
    "CR, large": ("RG3_UNCI.dcm", None),
    "SC, RGB": ("SC_rgb.dcm", None),
    "SC, NM": ("JPEG2000.dcm", None),
    "SC, deflated": ("image_dfl.dcm", None),
}


@dataclass(frozen=True)
class Written:
    path: Path
    image: SourceImage
    result: Segmentation
    chosen: Representatives
    objects: dict[str, bytes]


def path_of(name):
    found = get_testdata_file(name, download=False)
    if found is None:
        pytest.skip(f"{name} is absent: pip install pydicom-data")
    return Path(found)


def changed_copy(name, **values):
    dataset = copy.deepcopy(pydicom.dcmread(path_of(name)))
    for keyword, value in values.items():
        if value is None:
            dataset.pop(keyword, None)
        else:
            setattr(dataset, keyword, value)
    return dataset


def write_objects(path, frame=None, *, samples=SAMPLES, seed=0, segmenter=None, choice=4):
    from medseg_runtime.writers.dicom.seg import dicom_objects

    segmenter = segmenter or toy_segmenter()
    image = read_image(path, frame)
    height, width = image.pixels.shape[:2]
    # off the middle and over the edge, so that a flip or a shift shows
    result = segmenter(image, samples=samples, seed=seed, center=(0.6 * width, 0.3 * height))
    chosen = common_representatives([result], choice)
    objects = dicom_objects([result], render_overlay(image.pixels, result), chosen=chosen).files
    return Written(path, image, result, chosen, objects)


@pytest.fixture(scope="session")
def sources():
    return path_of


@pytest.fixture(scope="session")
def changed():
    return changed_copy


def put_raw(dataset, keyword, vr, value):
    """Put bytes into an element that pydicom itself would not write."""
    tag = pydicom.tag.Tag(keyword)
    value += b"" if len(value) % 2 == 0 else b" "
    dataset[tag] = RawDataElement(tag, vr, len(value), value, 0, is_implicit_VR=False, is_little_endian=True)
    return dataset


@pytest.fixture(scope="session")
def put():
    return put_raw


@pytest.fixture
def read(tmp_path):
    """read(dataset, frame=None): a `SourceImage`, by way of a file."""

    def write_and_read(dataset, frame=None):
        path = tmp_path / "image.dcm"
        dataset.save_as(path, enforce_file_format=True)
        return read_image(path, frame)

    return write_and_read


@pytest.fixture(scope="session")
def write():
    pytest.importorskip("highdicom")
    return write_objects


@pytest.fixture(scope="session")
def written():
    """written(name) for a name of SOURCES, made once."""
    pytest.importorskip("highdicom")
    made = {}

    def get(name):
        if name not in made:
            file, frame = SOURCES[name]
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # nothing of highdicom may leak
                made[name] = write_objects(path_of(file), frame)
        return made[name]

    get.names = tuple(SOURCES)
    return get


@pytest.fixture
def needs():
    """needs("dciodvfy", "dicom3tools"): the program, or a loud skip."""

    def find(program, package):
        found = shutil.which(program) or shutil.which(program, path="/usr/sbin")
        if found is None:
            pytest.skip(f"NOT JUDGED: {program} is absent; as root: apt-get install {package}")
        return found

    return find


@pytest.fixture
def write_slice(changed):
    """write_slice(path, z, **elements): a slice at z."""

    def slice_at(path, z, *, uid=None, series="1.2.3", **values):
        path.parent.mkdir(parents=True, exist_ok=True)
        dataset = changed(
            "CT_small.dcm",
            ImagePositionPatient=[0, 0, z],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            SOPInstanceUID=uid or f"{series}.{int(10 * z) + 5000}",
            SeriesInstanceUID=series,
            SliceThickness=5,
            **values,
        )
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        dataset.save_as(path, enforce_file_format=True)
        return path

    return slice_at


@pytest.fixture
def five_slices(write_slice, tmp_path):
    """A folder with IM0.dcm to IM4.dcm, 5 mm apart."""
    for index in range(5):
        write_slice(tmp_path / "series" / f"IM{index}.dcm", 5 * index)
    return tmp_path / "series"


@pytest.fixture(scope="session")
def zip_of():
    """zip_of(folder, path): pack a folder."""

    def packed(folder, path):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(folder.rglob("*")):
                if file.is_file():
                    archive.write(file, file.relative_to(folder.parent))
        return path

    return packed
