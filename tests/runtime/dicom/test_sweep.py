"""Every DICOM file at hand: nothing but our own errors; pixels as GDCM and DCMTK decode them; places as GDCM reads them.

The files: pydicom's, those of pydicom-data, and the chest CT and the SEG references in ../shared/data, where they are.
"""

import re
import shutil
import subprocess
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image

from medseg_runtime import MedsegError
from medseg_runtime.readers.image import is_dicom, read_image

ARCHIVES = ("chest-ct-dicom.zip", "dicom-seg-references.zip")
SHARED = Path(__file__).parents[4] / "shared" / "data"
EXPECTED = re.compile(
    r"holds no image|is a segmentation|cannot be decoded here|damaged or cut short|no known Photometric|NumberOfFrames|stated rows and columns"
)
GDCM_IS_WRONG = {  # pydicom and DCMTK agree against it
    "SC_rgb_rle_16bit.dcm", "SC_rgb_rle_16bit_2frame.dcm", "SC_rgb_rle_32bit.dcm", "SC_rgb_rle_32bit_2frame.dcm",
    "rtdose_expb.dcm", "mlut_18.dcm",
}  # fmt: skip

pytestmark = pytest.mark.filterwarnings("ignore")  # pydicom's, of damaged files


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    data_store = pytest.importorskip("data_store")  # pydicom-data

    folders = [Path(pydicom.__file__).parent / "data", Path(data_store.__file__).parent / "data"]
    for name in ARCHIVES:
        if (SHARED / name).exists():
            folders.append(tmp_path_factory.mktemp(Path(name).stem))
            with zipfile.ZipFile(SHARED / name) as archive:
                archive.extractall(folders[-1])
    paths = sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())
    return [path for path in paths if is_dicom(path.read_bytes()[:132])]


@pytest.fixture(scope="module")
def read(files):
    """The images of those that are read: path => (first frame, header)."""
    images = {}
    for path in files:
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True)
            frames = int(header.get("NumberOfFrames") or 1)
        except Exception:  # noqa: BLE001 - a damaged one
            frames = 1
        try:
            images[path] = read_image(path, 1 if frames > 1 else None), header
        except MedsegError as error:
            assert EXPECTED.search(error.problem), (path.name, error.problem)  # noqa: PT017
    return images


def test_most_are_read_and_the_others_are_errors_of_ours(files, read):
    assert len(files) >= 250
    assert len(read) >= 130


def same(ours, theirs, image):
    """Whether pixels are equal, within the rounding of floats; padding, which we replace, is left out."""
    padded = any("padding" in warning for warning in image.warnings)
    where = ours > ours.min() if padded else np.ones(ours.shape, bool)
    return np.allclose(ours[where], theirs[where], rtol=1e-4, atol=1e-3)


def gdcm_image(path):
    itk = pytest.importorskip("SimpleITK")
    itk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        return itk.ReadImage(str(path))
    except RuntimeError:  # it does not read this one
        return None


def test_grey_pixels_are_those_of_gdcm(read):
    itk = pytest.importorskip("SimpleITK")
    compared = 0
    for path, (image, _) in read.items():
        volume = gdcm_image(path) if image.pixels.ndim == 2 else None
        if volume is None or path.name in GDCM_IS_WRONG:
            continue
        theirs = itk.GetArrayFromImage(volume)
        theirs = theirs[0] if theirs.ndim == 3 else theirs
        assert same(image.pixels.astype(float), theirs.astype(float), image), path.name
        compared += 1
    assert compared >= 80


def test_places_and_spacings_are_those_of_gdcm(read):
    compared = 0
    for path, (image, _) in read.items():
        plane = image.dicom.plane
        volume = gdcm_image(path) if plane is not None else None
        if volume is None:
            continue
        np.testing.assert_allclose(volume.GetOrigin(), plane.position, atol=1e-3, err_msg=path.name)
        np.testing.assert_allclose(volume.GetSpacing()[:2], plane.spacing_mm[::-1], atol=1e-5, err_msg=path.name)
        direction = np.reshape(volume.GetDirection(), (3, 3))
        np.testing.assert_allclose(direction[:, :2].T, [plane.along_row, plane.along_column], atol=1e-4)
        compared += 1
    assert compared >= 30


def test_colors_are_those_of_dcmtk(read, needs, tmp_path):
    program = needs("dcmj2pnm", "dcmtk")
    compared, out = 0, tmp_path / "out.ppm"
    for path, (image, _) in read.items():
        if image.pixels.ndim != 3:
            continue
        out.unlink(missing_ok=True)
        subprocess.run([program, "--write-raw-pnm", "--frame", "1", path, out], capture_output=True, check=False)
        if out.exists():  # it decodes neither JPEG 2000 nor JPEG-LS
            ours = image.pixels * (255.0 / image.value_range[1])
            np.testing.assert_allclose(ours, np.asarray(Image.open(out)), atol=2.01, err_msg=path.name)
            compared += 1
    assert compared >= 40


@pytest.mark.slow
def test_what_is_read_compressed_is_read_alike_when_gdcm_decompressed_it(read, needs, tmp_path):
    program, out, compared = needs("gdcmconv", "libgdcm-tools"), tmp_path / "out.dcm", 0
    for path, (image, header) in read.items():
        if not header.file_meta.TransferSyntaxUID.is_encapsulated or path.name in GDCM_IS_WRONG:
            continue
        out.unlink(missing_ok=True)
        done = subprocess.run([program, "--raw", path, out], capture_output=True, check=False)
        if done.returncode or not out.exists():
            continue
        plain = read_image(out, image.dicom.frame if image.dicom.frames > 1 else None)
        tolerance = 3 if image.pixels.ndim == 3 else 1
        np.testing.assert_allclose(plain.pixels, image.pixels, atol=tolerance, err_msg=path.name)
        compared += 1
    assert compared >= 40


def test_dcm2niix_places_the_chest_ct_alike(read, needs, tmp_path):
    """A slice of each series: its first and last pixel, found by their values' place in the file."""
    nibabel = pytest.importorskip("nibabel")
    program = needs("dcm2niix", "dcm2niix")
    series = {}
    for path, (image, header) in read.items():
        if "chest" in str(path) and image.dicom.plane is not None:
            series.setdefault(header.SeriesInstanceUID, (path, image))
    if not series:
        pytest.skip("no chest CT in ../shared/data")
    for path, image in series.values():
        folder = tmp_path / path.stem
        (folder / "in").mkdir(parents=True)
        shutil.copy(path, folder / "in")
        subprocess.run(
            [program, "-b", "n", "-z", "n", "-f", "o", "-o", folder, folder / "in"], capture_output=True, check=True
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            affine = nibabel.load(next(folder.glob("*.nii"))).affine
        rows = image.pixels.shape[0]
        ours = np.diag([-1, -1, 1, 1]) @ image.dicom.plane.affine(np.ones(3))
        for row, column in ((0, 0), (0, 17), (rows - 1, 0), (5, 9)):  # it counts rows from the last one
            np.testing.assert_allclose(ours @ [column, row, 0, 1], affine @ [column, rows - 1 - row, 0, 1], atol=1e-2)
