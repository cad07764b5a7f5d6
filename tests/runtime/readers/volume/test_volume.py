"""Volume files in, and NIfTI out on their own grid."""

import gzip
import hashlib
import pickle
import shutil
import struct
import subprocess
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from medseg_runtime import ImageError, ParameterError, Segmenter, read_image, read_series, read_volume
from medseg_runtime.commands import infer as infer_command
from medseg_runtime.readers.target import Location, read_target
from medseg_runtime.testing import toy_segmenter
from tests.support.stderr import other_than_a_part

RNG = np.random.default_rng(0)
SHAPE = (80, 70, 9)
VOXELS = RNG.integers(-1000, 2000, SHAPE).astype(np.int16)
AFFINE = np.array([[-0.7, 0, 0.1, 60], [0, 0.7, 0, -31.25], [0.02, 0, 2.5, -400.5], [0, 0, 0, 1]])
AFFINE[:3, 0] *= 0.7 / np.linalg.norm(AFFINE[:3, 0])
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@pytest.fixture
def nibabel():
    return pytest.importorskip("nibabel")


@pytest.fixture
def itk():
    return pytest.importorskip("SimpleITK")


@pytest.fixture
def nifti(nibabel, tmp_path):
    """nifti(voxels, affine, name, **header fields) -> path."""

    def write(voxels=VOXELS, affine=AFFINE, name="scan.nii.gz", kind=nibabel.Nifti1Image, **fields):
        image = kind(voxels, affine, dtype=voxels.dtype)
        content = image.to_bytes()
        header = nibabel.Nifti1Header(content[:348], check=False)
        for field, value in fields.items():
            header[field] = value
        content = (header.binaryblock if fields else content[:348]) + content[348:]
        path = tmp_path / name
        path.write_bytes(gzip.compress(content, mtime=0) if name.endswith(".gz") else content)
        return path

    return write


@pytest.fixture
def infer(run_command, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Segmenter, "load", lambda *_args, **_kwargs: toy_segmenter())
    return lambda *arguments: run_command(infer_command.main, "medseg-infer", *arguments)


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz", "no-suffix"])
def test_nifti_slices_lie_where_the_affine_says(name, nifti):
    path = nifti(name=name)
    volume = read_volume(path)
    assert (len(volume), volume.kind) == (9, "NIfTI")
    assert volume.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    for voxel in ((0, 0, 0), (79, 69, 8), (12, 40, 3)):
        x, y, index = volume.locate(tuple((LPS @ AFFINE @ [*voxel, 1])[:3]))
        image = volume.read(index)
        assert image.pixels[int(y), int(x)] == VOXELS[voxel]
        np.testing.assert_allclose(volume.pixel(voxel), (x, y, index), atol=1e-4)
    assert image.pixels.dtype == np.int16
    np.testing.assert_allclose(image.spacing_mm, (0.7, 0.7), atol=1e-6)


def test_nifti_2_and_big_endian_are_the_same_volume(nifti, nibabel, tmp_path):
    expected = read_volume(nifti()).read(4).pixels
    np.testing.assert_array_equal(read_volume(nifti(kind=nibabel.Nifti2Image, name="two.nii")).read(4).pixels, expected)
    swapped = nibabel.Nifti1Image(VOXELS.astype(">i2"), AFFINE, nibabel.Nifti1Header(endianness=">"))
    (tmp_path / "big.nii").write_bytes(swapped.to_bytes())
    image = read_volume(tmp_path / "big.nii").read(4)
    np.testing.assert_array_equal(image.pixels, expected)
    assert image.pixels.dtype.isnative


@pytest.mark.parametrize(
    ("slope", "intercept", "dtype"), [(1, -1024, np.int32), (2, 0, np.int32), (0.5, 0.25, np.float64), (0, 7, np.int16)]
)
def test_scaling_is_that_of_nibabel(slope, intercept, dtype, nifti, nibabel):
    path = nifti(name="a.nii")
    content = bytearray(path.read_bytes())
    content[112:120] = struct.pack("<2f", slope, intercept)  # scl_slope and scl_inter, nifti1.h
    path.write_bytes(content)
    image = read_volume(path).read(3)
    assert image.pixels.dtype == dtype
    np.testing.assert_array_equal(image.pixels, nibabel.load(path).get_fdata()[::1, ::-1, 3].T)


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
def test_every_type_of_voxel(dtype, nifti, nibabel):
    voxels = (VOXELS % 100).astype(dtype)
    pixels = read_volume(nifti(kind=nibabel.Nifti2Image, voxels=voxels)).read(3).pixels
    np.testing.assert_array_equal(pixels, voxels[:, ::-1, 3].T)


def test_units_are_millimeters_in_the_end(nifti):
    point = read_volume(nifti()).grid.plane(4).position
    odd = (
        read_volume(nifti(name="odd.nii", xyzt_units=88)).grid.plane(4).position
    )  # no unit of space, an unknown one of time
    np.testing.assert_array_equal(odd, point)
    meters = AFFINE / 1000
    meters[3, 3] = 1
    in_meters = read_volume(nifti(affine=meters, name="m.nii", xyzt_units=1)).grid.plane(4).position
    np.testing.assert_allclose(in_meters, point, atol=1e-3)


def test_nan_is_the_lowest_value_and_is_warned_of(nifti):
    voxels = VOXELS.astype(np.float32)
    voxels[:9, :, 2], voxels[:, :, 5] = np.nan, np.nan
    volume = read_volume(nifti(voxels))
    image = volume.read(2)
    assert image.pixels[:, :9].max() == image.pixels.min() == np.nanmin(voxels[:, :, 2])
    assert "NaN" in image.warnings[0]
    assert not volume.read(3).warnings
    with pytest.raises(ImageError, match="only NaN"):
        volume.read(5)


def test_the_range_to_show_is_the_headers(nifti):
    assert read_volume(nifti()).read(0).value_range is None
    assert read_volume(nifti(cal_min=-1350, cal_max=150)).read(0).value_range == (-1350, 150)


def test_sform_and_qform(nibabel, tmp_path):
    def written(sform, qform):
        image = nibabel.Nifti1Image(VOXELS, None)
        image.set_sform(sform, code=0 if sform is None else 1)
        image.set_qform(qform, code=0 if qform is None else 1)
        (tmp_path / "forms.nii").write_bytes(image.to_bytes())
        return tmp_path / "forms.nii"

    straight, moved = np.diag([-0.7, 0.7, 2.5, 1]), np.diag([-0.7, 0.7, 2.5, 1])
    moved[0, 3] = 20
    for forms, affine, warned in (
        ((straight, None), straight, False),
        ((None, moved), moved, False),
        ((moved, moved), moved, False),
        ((straight, moved), straight, True),
    ):
        volume = read_volume(written(*forms))
        np.testing.assert_allclose(volume.grid.affine, LPS @ affine, atol=1e-5)
        assert bool(volume.warnings) == warned
    with pytest.raises(ImageError, match="could be mirrored"):
        read_volume(written(None, None))


NIFTI_REFUSED = {
    "four dimensions": (lambda write, _: write(np.zeros((8, 8, 3, 2), np.int16)), "4 dimensions"),
    "colors": (
        lambda write, _: write(np.zeros((8, 8, 3), np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))),
        "no plain numbers",
    ),
    "complex": (lambda write, _: write(np.zeros((8, 8, 3), np.complex64)), "no plain numbers"),
    "skewed": (lambda write, _: write(affine=np.array([[1, 0.6, 0, 0], [0, 0.8, 0, 0], [0, 0, 3, 0], [0, 0, 0, 1.0]])), "right angles"),
    "cut short": (lambda write, cut: cut(write(name="a.nii"), 0.6), "cut short"),
    "a gzip cut short": (lambda write, cut: cut(write(), 0.6), "damaged or cut short"),
    "a gzip with a damaged end": (lambda write, cut: cut(write(), None), "damaged or cut short"),
    "a header alone": (lambda write, cut: cut(write(name="a.nii"), 348 / 88_552), "cut short"),
    "negative sizes": (lambda write, _: write(name="a.nii", dim=[3, -5, 5, 5, 1, 1, 1, 1]), "no valid size"),
    "no sizes": (lambda write, _: write(name="a.nii", dim=[3, 0, 5, 5, 1, 1, 1, 1]), "no valid size"),
    "too large for memory": (lambda write, _: write(name="a.nii", dim=[3, 32767, 32767, 32767, 1, 1, 1, 1]), "of memory"),
    "far voxels": (lambda write, _: write(name="a.nii", vox_offset=1e30), "no valid offset"),
    "voxels in another file": (lambda write, _: write(name="a.nii", magic=b"ni1"), "one file"),
}  # fmt: skip


@pytest.mark.parametrize("name", NIFTI_REFUSED)
def test_what_is_no_volume_is_refused(name, nifti):
    def cut(path, share):
        content = path.read_bytes()
        end = bytes(8) if share is None else b""
        path.write_bytes(content[: len(content) - 8 if share is None else int(share * len(content))] + end)
        return path

    make, problem = NIFTI_REFUSED[name]
    with pytest.raises(ImageError, match=problem):
        read_volume(make(nifti, cut))


@pytest.mark.parametrize(("slope", "intercept"), [(np.inf, 0), (2, np.nan), (2, -np.inf)])
def test_a_scaling_that_is_none_is_refused(slope, intercept, nifti):
    path = nifti(name="a.nii")
    content = bytearray(path.read_bytes())
    content[112:120] = struct.pack("<2f", slope, intercept)
    path.write_bytes(content)
    with pytest.raises(ImageError, match="no valid scaling"):
        read_volume(path)


@pytest.mark.parametrize("channels", [2, 4])
def test_channels_of_an_array_are_no_slices(channels, tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((8, 9, channels), np.uint8))
    with pytest.raises(ImageError, match=f"looks like {channels} channels"):
        read_volume(tmp_path / "a.npy")
    np.save(tmp_path / "a.npy", np.arange(72, dtype=np.uint8).reshape(8, 9, 1))
    np.testing.assert_array_equal(read_volume(tmp_path / "a.npy").read(0).pixels, np.arange(72).reshape(8, 9))


def test_a_gzip_that_unpacks_to_much_is_read_no_further_than_its_volume(nifti):
    path = nifti(name="a.nii")
    path.write_bytes(gzip.compress(path.read_bytes() + bytes(1 << 28)))
    assert len(read_volume(path)) == 9


def test_arrays_of_numpy(tmp_path):
    for name, shape, slices in (("grey", (70, 80), 1), ("rgb", (70, 80, 3), 1), ("volume", (9, 70, 80), 9)):
        array = RNG.integers(0, 255, shape).astype(np.uint8)
        np.save(tmp_path / f"{name}.npy", array)
        volume = read_volume(tmp_path / f"{name}.npy")
        assert len(volume) == slices
        np.testing.assert_array_equal(volume.read(slices - 1).pixels, array[-1] if slices > 1 else array)
    assert volume.pixel((10, 20, 3)) == (10.5, 20.5, 3)
    with pytest.raises(ImageError, match="no position in the patient"):
        volume.locate((0, 0, 0))
    for name, array in (
        ("objects", np.array([{}])),
        ("four", np.zeros((2, 3, 4, 5))),
        ("text", np.full((4, 4), "a")),
        ("nothing", np.zeros((0, 4, 4))),
    ):
        np.save(tmp_path / f"{name}.npy", array)
        with pytest.raises(ImageError):
            read_volume(tmp_path / f"{name}.npy")
    (tmp_path / "cut.npy").write_bytes((tmp_path / "volume.npy").read_bytes()[:-9])
    with pytest.raises(ImageError, match="damaged"):
        read_volume(tmp_path / "cut.npy")


def test_a_volume_is_not_one_image(nifti):
    path = nifti()
    with pytest.raises(ParameterError, match=r"9 slices.*--center X,Y,Z"):
        read_target(path, Location())
    for call in (read_image, toy_segmenter()):
        with pytest.raises(ImageError, match="read_volume"):
            call(path)
    with pytest.raises(ParameterError, match="needs a point"):
        toy_segmenter()(read_volume(nifti(np.zeros((600, 20, 3), np.int16))).read(1))


@pytest.mark.parametrize(("order", "flips"), [((0, 1, 2), (0, 0, 0)), ((2, 0, 1), (1, 0, 1)), ((1, 2, 0), (0, 1, 1))])
@pytest.mark.parametrize("form", ["sform", "qform"])
def test_nifti_out_lies_on_the_source(order, flips, form, infer, nibabel, itk, tmp_path):
    """Voxel (i, j, k) of the source and of the output are one point, and marked where the model was pointed at."""
    affine = AFFINE.copy()
    affine[:3, :3] = np.linalg.qr(AFFINE[:3, :3])[0] * (0.7, 0.7, 2.5)
    voxels, source = np.ascontiguousarray(VOXELS.transpose(order)), affine.copy()
    source[:3, :3] = affine[:3, list(order)]
    for axis, flip in enumerate(flips):
        if flip:
            voxels = np.flip(voxels, axis)
            source[:3, 3] += source[:3, axis] * (voxels.shape[axis] - 1)
            source[:3, axis] *= -1
    image = nibabel.Nifti1Image(voxels, None)
    image.set_sform(source if form == "sform" else None, code=2 if form == "sform" else 0)
    image.set_qform(source, code=1)
    nibabel.save(image, tmp_path / "scan.nii.gz")
    image = nibabel.load(tmp_path / "scan.nii.gz")
    voxel = [0, 0, 0]
    for axis, (whole, flip) in enumerate(zip(order, flips, strict=True)):
        at = (41, 29, 4)[whole]
        voxel[axis] = SHAPE[whole] - 1 - at if flip else at

    point = ",".join(map(str, voxel))
    code, _, err = infer(
        "scan.nii.gz", "--center", point, "--slices", 3, "--samples", 4, "--nifti", "--out", "by-voxel"
    )
    assert (code, other_than_a_part(err)) == (0, [])
    millimeters = ",".join(map(str, (LPS @ image.affine @ [*voxel, 1])[:3]))
    code, _, err = infer(
        "scan.nii.gz", "--center-mm", millimeters, "--slices", 3, "--samples", 4, "--nifti", "--out", "by-mm"
    )
    assert (code, other_than_a_part(err)) == (0, [])

    for name in ("consensus", "confidence", "samples"):
        path = tmp_path / "by-voxel" / "nifti" / f"{name}.nii.gz"
        assert path.read_bytes() == (tmp_path / "by-mm" / "nifti" / f"{name}.nii.gz").read_bytes()
        written = nibabel.load(path)
        assert written.shape[:3] == image.shape
        np.testing.assert_array_equal(written.affine, image.affine)
        for field in ("qform_code", "sform_code"):
            assert written.header[field] == image.header[field]
    marked = np.asarray(nibabel.load(tmp_path / "by-voxel/nifti/consensus.nii.gz").dataobj)
    assert marked[tuple(voxel)] == 1
    slice_axis = order.index(2)
    np.testing.assert_array_equal(np.unique(np.nonzero(marked)[slice_axis]), voxel[slice_axis] + np.arange(-1, 2))

    first, second = (itk.ReadImage(str(tmp_path / p)) for p in ("scan.nii.gz", "by-voxel/nifti/consensus.nii.gz"))
    itk.Cast(first, itk.sitkFloat32) * itk.Cast(second, itk.sitkFloat32)  # refused by ITK if the grids differ
    for corner in product(*((0, size - 1) for size in image.shape)):
        np.testing.assert_allclose(
            first.TransformIndexToPhysicalPoint(corner), second.TransformIndexToPhysicalPoint(corner), atol=1e-4
        )


def test_nothing_of_a_nifti_header_but_its_geometry_is_written(nifti, infer, tmp_path):
    nifti(descrip=b"DOE^JANE", aux_file=b"DOE^JANE", db_name=b"DOE^JANE", intent_name=b"DOE^JANE")
    assert infer("scan.nii.gz", "--center", "9,9,3", "--nifti", "--samples", 2, "--out", "one")[0] == 0
    for path in (tmp_path / "one").rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert b"DOE" not in (gzip.decompress(content) if path.suffix == ".gz" else content)


def test_a_result_of_a_volume_is_data(nifti, tmp_path):
    result = toy_segmenter()(read_volume(nifti()).read(3), samples=2, center=(40, 30))
    again = pickle.loads(pickle.dumps(result))  # noqa: S301 - our own
    again.save(tmp_path / "again", nifti=True)
    result.save(tmp_path / "out", nifti=True)
    for name in ("consensus", "confidence", "samples"):
        one, other = (tmp_path / folder / "nifti" / f"{name}.nii.gz" for folder in ("again", "out"))
        assert one.read_bytes() == other.read_bytes()


BAD_ARGUMENTS = {
    "no point": ((), "Give --center X,Y,Z or --center-mm X,Y,Z"),
    "two numbers": (("--center", "5,5"), "Give --center X,Y,Z"),
    "a slice that is not there": (("--center", "5,5,9"), "Give 0 to 8"),
    "far away": (("--center-mm", "900,900,900"), "patient coordinates"),
    "a frame": (("--center", "5,5,1", "--frame", 1), "DICOM file"),
    "a series": (("--center", "5,5,1", "--series", 1), "Leave --series out"),
    "a SEG": (("--center", "5,5,1", "--dicom-seg"), "DICOM"),
}


@pytest.mark.parametrize("name", BAD_ARGUMENTS)
def test_bad_arguments_are_one_line(name, nifti, infer, tmp_path):
    nifti()
    arguments, remedy = BAD_ARGUMENTS[name]
    code, out, err = infer("scan.nii.gz", *arguments)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert remedy in err
    assert not (tmp_path / "results").exists()


def test_the_result_folder_of_a_volume(nifti, infer, tmp_path):
    nifti()
    assert infer("scan.nii.gz", "--center", "9,9,3", "--samples", 2)[0] == 0
    assert (tmp_path / "results" / "scan" / "result.json").exists()


def test_an_array_has_no_nifti(infer, tmp_path):
    np.save(tmp_path / "a.npy", VOXELS.T)
    assert infer("a.npy", "--center", "40,30,4", "--samples", 2)[0] == 0
    code, _, err = infer("a.npy", "--center", "40,30,4", "--nifti", "--out", "other")
    assert code == 1
    assert "Leave --nifti out" in err


REAL = Path(__file__).parents[5] / "shared" / "data" / "chest-ct-dicom.zip"


def test_the_chest_ct_as_nifti_gives_the_masks_of_its_dicom(tmp_path):
    """dcm2niix writes the volume; each of its slices is the DICOM one, in pixels, place and masks."""
    if not REAL.exists():
        pytest.skip(f"no real chest CT: {REAL} is absent")
    if shutil.which("dcm2niix") is None:
        pytest.skip("NOT JUDGED: dcm2niix is absent; as root: apt-get install dcm2niix")
    pytest.importorskip("nibabel")
    series = read_series(REAL)
    for each in series.slices:
        (tmp_path / each.file.name).write_bytes(each.file.read())
    subprocess.run(["dcm2niix", "-z", "n", "-f", "ct", "-o", tmp_path, tmp_path], check=True, capture_output=True)
    volume = read_volume(tmp_path / "ct.nii")
    assert len(volume) == len(series) == 30
    for index in range(30):
        one, other = series.read(index), volume.read(index)
        np.testing.assert_array_equal(one.pixels, other.pixels)
        np.testing.assert_allclose(one.plane.position, other.plane.position, atol=1e-3)
    with Segmenter.load(backend="onnxruntime") as segmenter:
        one, other = (segmenter(image, center=(199, 298), samples=4) for image in (series.read(17), volume.read(17)))
    np.testing.assert_array_equal(one.masks, other.masks)
