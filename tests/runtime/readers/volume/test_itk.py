"""NRRD and MetaImage, written by SimpleITK."""

import hashlib
import json
import re
from itertools import product

import numpy as np
import pytest

from medseg_runtime import ImageError, Segmenter, read_volume
from medseg_runtime.commands import infer as infer_command
from medseg_runtime.testing import toy_segmenter
from tests.support.stderr import other_than_a_part

SHAPE = (80, 70, 9)
VOXELS = np.random.default_rng(0).integers(-1000, 2000, SHAPE).astype(np.int16)


@pytest.fixture
def itk():
    return pytest.importorskip("SimpleITK")


@pytest.fixture
def infer(run_command, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Segmenter, "load", lambda *_args, **_kwargs: toy_segmenter())
    return lambda *arguments: run_command(infer_command.main, "medseg-infer", *arguments)


@pytest.fixture
def sitk_image(itk):
    image = itk.GetImageFromArray(VOXELS.T)
    image.SetSpacing((0.7, 0.7, 2.5))
    turn = itk.Euler3DTransform((0, 0, 0), 0.1, -0.05, np.pi - 0.2)
    image.SetDirection(turn.GetMatrix())
    image.SetOrigin((-60.123456789, 31.25, -400.5))
    return image


ITK_FILES = ("a.nrrd", "a.nhdr", "a.mha", "a.mhd", "a.nii.gz")


@pytest.mark.parametrize("name", ITK_FILES)
def test_volumes_of_simpleitk(name, itk, sitk_image, tmp_path):
    pytest.importorskip("nibabel")
    itk.WriteImage(sitk_image, str(tmp_path / name), useCompression=name not in ("a.nhdr", "a.mhd"))
    volume = read_volume(tmp_path / name)
    upright = itk.DICOMOrient(sitk_image, "LPS")
    for index, expected in enumerate(itk.GetArrayFromImage(upright)):
        np.testing.assert_array_equal(volume.read(index).pixels, expected)
    for voxel in ((0, 0, 0), (79, 69, 8), (5, 60, 2)):
        point = sitk_image.TransformIndexToPhysicalPoint(voxel)
        np.testing.assert_allclose(volume.locate(point), volume.pixel(voxel), atol=1e-3)


def test_the_hash_is_of_header_and_data_together(itk, sitk_image, tmp_path):
    itk.WriteImage(sitk_image, str(tmp_path / "a.mhd"))
    content = (tmp_path / "a.mhd").read_bytes() + (tmp_path / "a.raw").read_bytes()
    assert read_volume(tmp_path / "a.mhd").sha256 == hashlib.sha256(content).hexdigest()


ITK_REFUSED = {
    "NRRD without a space": ("a.nrrd", rb"space: [^\n]*\n", b"", "could be mirrored"),
    "NRRD with an unknown space": ("a.nrrd", rb"space: [^\n]*\n", b"space: scanner-xyz\n", "could be mirrored"),
    "MetaImage without a matrix": ("a.mha", rb"TransformMatrix[^\n]*\n", b"", "could be mirrored"),
    "data elsewhere": ("a.mhd", rb"a\.raw", b"../../etc/passwd", "another folder"),
    "absolute data": ("a.mhd", rb"a\.raw", b"/etc/passwd", "another folder"),
    "a list of data": ("a.mhd", rb"a\.raw", b"LIST", "several data files"),
    "NRRD data elsewhere": ("a.nhdr", rb"data file: [^\n]*", b"data file: /etc/passwd", "another folder"),
    "no data": ("a.mhd", rb"a\.raw", b"b.raw", "beside its header"),
    "a size that is not there": ("a.mhd", rb"DimSize = 80", b"DimSize = 90", "damaged or cut short"),
    "larger than memory": ("a.mhd", rb"DimSize = 80 70 9", b"DimSize = 80000 70000 9000", "of memory"),
}


@pytest.mark.parametrize("name", ITK_REFUSED)
def test_what_is_no_volume_of_itk_is_refused(name, itk, sitk_image, tmp_path):
    file, old, new, problem = ITK_REFUSED[name]
    itk.WriteImage(sitk_image, str(tmp_path / file))
    content = (tmp_path / file).read_bytes()
    changed = re.sub(old, new, content)
    assert changed != content
    (tmp_path / file).write_bytes(changed)
    with pytest.raises(ImageError, match=problem):
        read_volume(tmp_path / file)


@pytest.mark.parametrize(
    ("name", "line", "problem"),
    [
        ("a.mha", "ElementSpacing", "origin and spacing"),
        ("a.mha", "Offset", "origin and spacing"),
        ("a.nrrd", "space origin", "origin and spacing"),
        ("a.mha", "TransformMatrix", "mirrored"),
    ],
)
def test_what_the_header_does_not_state_is_not_made_up(name, line, problem, itk, sitk_image, tmp_path):
    itk.WriteImage(sitk_image, str(tmp_path / name))
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(re.sub(rb"(?m)^" + line.encode() + rb".*\n", b"", content, count=1))
    with pytest.raises(ImageError, match=problem):
        read_volume(tmp_path / name)


def test_a_unit_other_than_mm_is_refused(itk, sitk_image, tmp_path):
    itk.WriteImage(sitk_image, str(tmp_path / "a.nrrd"))
    content = (tmp_path / "a.nrrd").read_bytes()
    for unit, right in ((b"mm", True), (b"um", False)):
        stated = b'space units: "%b" "%b" "%b"\nspace origin' % (unit, unit, unit)
        (tmp_path / "a.nrrd").write_bytes(content.replace(b"space origin", stated, 1))
        if right:
            assert len(read_volume(tmp_path / "a.nrrd")) == SHAPE[2]
            continue
        with pytest.raises(ImageError, match="another unit"):
            read_volume(tmp_path / "a.nrrd")


def test_vectors_and_time_are_refused(itk, tmp_path):
    vector = itk.GetImageFromArray(np.zeros((4, 5, 6, 3), np.uint8), isVector=True)
    itk.WriteImage(vector, str(tmp_path / "v.nrrd"))
    with pytest.raises(ImageError, match="several numbers"):
        read_volume(tmp_path / "v.nrrd")
    itk.WriteImage(itk.GetImageFromArray(np.zeros((2, 4, 5, 6), np.uint8), isVector=False), str(tmp_path / "t.mha"))
    with pytest.raises(ImageError, match="4 dimensions"):
        read_volume(tmp_path / "t.mha")


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha"])
def test_nifti_of_other_volumes_lies_on_them(name, infer, itk, sitk_image, tmp_path):
    pytest.importorskip("nibabel")
    itk.WriteImage(sitk_image, str(tmp_path / name))
    code, _, err = infer(name, "--center", "41,29,4", "--slices", 2, "--samples", 2, "--nifti", "--out", "one")
    assert (code, other_than_a_part(err)) == (0, [])
    written = itk.ReadImage(str(tmp_path / "one/nifti/confidence.nii.gz"))
    assert written.GetSize() == sitk_image.GetSize()
    for corner in product(*((0, size - 1) for size in SHAPE)):
        np.testing.assert_allclose(
            written.TransformIndexToPhysicalPoint(corner), sitk_image.TransformIndexToPhysicalPoint(corner), atol=1e-3
        )
    assert written[41, 29, 4] > 0.5
    record = json.loads((tmp_path / "one/result.json").read_text())
    assert record["input"]["sha256"] == hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
    assert (record["input"]["kind"], record["input"]["slice"]) == ({"a.nrrd": "NRRD", "a.mha": "MetaImage"}[name], 4)
