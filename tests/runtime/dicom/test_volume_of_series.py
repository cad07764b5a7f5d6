"""A series and the volumes that other programs make of it: the same slices, in the same places."""

import subprocess

import numpy as np
import pytest

from medseg_runtime import read_series, read_volume

ANGLE = np.radians(12)
ORIENTATIONS = {
    "axial": [1, 0, 0, 0, 1, 0],
    "oblique": [0.8, 0.6, 0.0, -0.48, 0.64, 0.6],
    "coronal": [1, 0, 0, 0, 0, -1],
    "sagittal": [0, 1, 0, 0, 0, -1],
    "feet first": [-1, 0, 0, 0, 1, 0],
}
SPACINGS = {"thick": ([0.5, 0.5], 2.5), "thin": ([0.7, 0.7], 0.625), "not square": ([0.5, 0.25], 2.0)}


@pytest.fixture
def series(changed, tmp_path):
    """series(orientation, spacing, step): six slices of noise, named against their order."""

    def write(orientation, spacing, step):
        folder = tmp_path / "series"
        folder.mkdir()
        for index in range(6):
            position = np.array([10, -20, 30]) + index * np.asarray(step)
            dataset = changed(
                "MR_small.dcm",
                Rows=40,
                Columns=48,
                ImageOrientationPatient=[float(f"{v:.8f}") for v in orientation],
                ImagePositionPatient=[float(f"{v:.6f}") for v in position],
                PixelSpacing=spacing,
                SliceThickness=float(np.linalg.norm(step)),
                SpacingBetweenSlices=float(np.linalg.norm(step)),
                InstanceNumber=index + 1,
                SOPInstanceUID=f"1.2.3.{index}",
                PixelData=np.random.default_rng(index).integers(0, 3000, (40, 48)).astype(np.int16).tobytes(),
            )
            dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
            dataset.save_as(folder / f"{9 - index}.dcm", enforce_file_format=True)
        return folder

    return write


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_the_nifti_of_dcm2niix_is_the_series(orientation, spacing, series, needs, tmp_path):
    pytest.importorskip("nibabel")
    in_plane, gap = SPACINGS[spacing]
    directions = np.array(ORIENTATIONS[orientation], float)
    folder = series(directions, in_plane, gap * np.cross(directions[:3], directions[3:]))
    subprocess.run(
        [needs("dcm2niix", "dcm2niix"), "-z", "n", "-f", "v", "-o", tmp_path, folder], check=True, capture_output=True
    )
    dicom, nifti = read_series(folder), read_volume(tmp_path / "v.nii")
    assert len(dicom) == len(nifti) == 6
    if orientation == "feet first":  # DICOM shows it mirrored, as it is stored; the volume is shown as usual
        np.testing.assert_array_equal(dicom.read(0).pixels, nifti.read(5).pixels[:, ::-1])
    for x, y, z in ((10.5, 7.5, 2), (40.5, 30.5, 5)):
        plane = dicom.planes[z]
        at = (plane.affine(plane.normal) @ [x - 0.5, y - 0.5, 0, 1])[:3]
        column, row, index = nifti.locate(tuple(at))
        assert nifti.read(index).pixels[int(row), int(column)] == dicom.read(z).pixels[int(y), int(x)]
    if orientation in ("axial", "coronal", "sagittal"):
        for z in range(6):
            (same,) = [k for k in range(6) if abs(nifti.planes[k].locate(dicom.planes[z].position)[2]) < 0.01]
            np.testing.assert_array_equal(dicom.read(z).pixels, nifti.read(same).pixels)
            np.testing.assert_allclose(dicom.planes[z].position, nifti.planes[same].position, atol=1e-3)


@pytest.mark.parametrize("tilted", [False, True], ids=["straight", "tilted gantry"])
def test_slices_lie_where_simpleitk_reads_them(tilted, series):
    """A tilted gantry: slices move along the body, and not along their normal."""
    itk = pytest.importorskip("SimpleITK")
    along_column = [0, np.cos(ANGLE), -np.sin(ANGLE)] if tilted else [0, 1, 0]
    folder = series(np.array([1, 0, 0, *along_column]), [0.5, 0.5], [0, 0, 2.5])
    names = itk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    stack = read_series(folder)
    assert [str(each.path) for each in stack.slices] == list(names)
    for each, name in zip(stack.slices, names, strict=True):
        image = itk.ReadImage(name)
        for column, row in ((0, 0), (47, 39), (3, 30)):
            point = image.TransformIndexToPhysicalPoint((column, row, 0))
            x, y, off = each.plane.locate(point)
            np.testing.assert_allclose((x, y, off), (column + 0.5, row + 0.5, 0), atol=1e-5)
            assert stack.locate(point)[2] == stack.slices.index(each)


def test_the_nifti_of_a_tilted_series_is_read_back_in_its_place(series):
    nibabel = pytest.importorskip("nibabel")
    folder = series(np.array([1, 0, 0, 0, np.cos(ANGLE), -np.sin(ANGLE)]), [0.5, 0.5], [0, 0, 2.5])
    stack = read_series(folder)
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ stack.planes[0].affine(np.array([0, 0, 2.5]))
    voxels = np.stack([stack.read(z).pixels for z in range(6)]).T.astype(np.int16)
    path = folder.parent / "tilted.nii"
    path.write_bytes(nibabel.Nifti1Image(voxels, affine).to_bytes())
    volume = read_volume(path)
    for z in range(6):
        np.testing.assert_array_equal(volume.read(z).pixels, stack.read(z).pixels)
        np.testing.assert_allclose(volume.planes[z].position, stack.planes[z].position, atol=1e-4)
    point = tuple(np.add(stack.planes[3].position, (5.1, 4.2, -0.9)))
    np.testing.assert_allclose(volume.locate(point), stack.locate(point), atol=1e-3)
