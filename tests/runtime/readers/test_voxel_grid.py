"""Slices of volumes in every orientation, against nibabel and SimpleITK."""

from itertools import permutations, product

import numpy as np
import pytest

from medseg_runtime import ImageError
from medseg_runtime.readers.voxel_grid import VoxelGrid

SHAPE = (4, 5, 6)  # left-right, back-front, feet-head
SPACING = (0.5, 0.5, 2.0)
ORIENTATIONS = [(order, flips) for order in permutations(range(3)) for flips in product((False, True), repeat=3)]
OBLIQUE = np.array([[0.99, -0.14, 0.02], [0.14, 0.98, -0.13], [0.0, 0.13, 0.99]])


def volume(order, flips, turn=None, spacing=SPACING):
    """An array and its affine in RAS: the same volume for every order and direction of its axes. Its values are all different."""
    turn = np.eye(3) if turn is None else np.linalg.qr(turn)[0] * np.sign(np.diag(np.linalg.qr(turn)[1]))
    array = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
    affine = np.eye(4)
    affine[:3, :3] = turn * np.array(spacing)
    affine[:3, 3] = (-70.25, 31.5, -400)
    for axis, flip in enumerate(flips):
        if flip:
            affine[:3, 3] += affine[:3, axis] * (SHAPE[axis] - 1)
            affine[:3, axis] *= -1
    array = array[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]
    affine[:3, :3] = affine[:3, list(order)]
    return np.ascontiguousarray(array.transpose(order)), affine


def grid_of(array, affine):
    return VoxelGrid.of(array.shape, np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine)


@pytest.mark.parametrize("turn", [None, OBLIQUE], ids=["straight", "oblique"])
@pytest.mark.parametrize(("order", "flips"), ORIENTATIONS)
def test_slices_are_those_of_nibabel_in_every_orientation(order, flips, turn):
    nibabel = pytest.importorskip("nibabel")
    array, affine = volume(order, flips, turn)
    grid = grid_of(array, affine)
    canonical = nibabel.as_closest_canonical(nibabel.Nifti1Image(array, affine))
    upright = np.asarray(canonical.dataobj)[::-1, ::-1]  # right-anterior-superior => left-posterior-superior
    assert len(grid) == SHAPE[2]
    for index in range(len(grid)):
        np.testing.assert_array_equal(grid.view(array, index), upright[:, :, index].T)


@pytest.mark.parametrize(("order", "flips"), ORIENTATIONS)
def test_slices_and_points_are_those_of_simpleitk(order, flips):
    itk = pytest.importorskip("SimpleITK")
    array, affine = volume(order, flips, OBLIQUE)
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    image = itk.GetImageFromArray(array.T)
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    upright = itk.DICOMOrient(image, "LPS")
    grid = grid_of(array, affine)
    for index, expected in enumerate(itk.GetArrayFromImage(upright)):
        np.testing.assert_array_equal(grid.view(array, index), expected)
        for column, row in ((0, 0), (3, 1)):
            point = upright.TransformIndexToPhysicalPoint((column, row, index))
            x, y, off = grid.plane(index).locate(point)
            np.testing.assert_allclose((x, y, off), (column + 0.5, row + 0.5, 0), atol=1e-6)


@pytest.mark.parametrize(("order", "flips"), ORIENTATIONS)
def test_a_voxel_is_found_and_written_back(order, flips):
    array, affine = volume(order, flips)
    grid = grid_of(array, affine)
    for voxel in ((0, 0, 0), (1, 2, 3), tuple(n - 1 for n in array.shape)):
        x, y, index = grid.pixel(voxel)
        assert grid.view(array, index)[int(y), int(x)] == array[voxel]
        at = np.array([-1, -1, 1]) * (affine @ [*voxel, 1])[:3]
        np.testing.assert_allclose(grid.plane(index).locate(tuple(at)), (x, y, 0), atol=1e-9)
    again = np.zeros_like(array)
    for index in range(len(grid)):
        grid.view(again, index)[:] = grid.view(array, index)
    np.testing.assert_array_equal(again, array)


@pytest.mark.parametrize(
    ("spacing", "expected"),
    [
        ((0.7, 0.7, 5), "axial"),
        ((0.7, 0.7, 0.625), "axial"),  # thin slices: the coarsest axis is in the plane
        ((1, 1, 1), "axial"),
        ((1.2, 1, 1), "sagittal"),
        ((3, 0.5, 0.5), "sagittal"),
        ((0.5, 4, 0.5), "coronal"),
        ((0.9, 0.8, 5), "axial"),
        ((5, 0.9, 0.8), "sagittal"),
    ],
)
def test_the_plane_is_the_one_that_was_measured(spacing, expected):
    for order, flips in ORIENTATIONS[::7]:
        grid = grid_of(*volume(order, flips, spacing=spacing))
        assert grid.plane_name == expected


@pytest.mark.parametrize(
    ("spacing", "along_row", "along_column", "normal"),
    [
        ((3, 0.5, 0.5), (0, 1, 0), (0, 0, -1), (-1, 0, 0)),
        ((0.5, 4, 0.5), (1, 0, 0), (0, 0, -1), (0, 1, 0)),
        ((0.5, 0.5, 4), (1, 0, 0), (0, 1, 0), (0, 0, 1)),
    ],
)
def test_planes_are_turned_as_dicom_shows_them(spacing, along_row, along_column, normal):
    for order, flips in ORIENTATIONS:
        grid = grid_of(*volume(order, flips, spacing=spacing))
        plane = grid.plane(0)
        np.testing.assert_allclose((plane.along_row, plane.along_column), (along_row, along_column), atol=1e-9)
        assert grid.plane(1).depth > plane.depth
        np.testing.assert_allclose(plane.normal, normal, atol=1e-9)


def test_a_tilted_gantry_keeps_its_planes():
    array, affine = volume((0, 1, 2), (False,) * 3)
    affine[1, 2] = 0.7  # each slice is further in front
    grid = grid_of(array, affine)
    first, second = grid.plane(0), grid.plane(1)
    np.testing.assert_allclose(np.subtract(second.position, first.position), (0, -0.7, 2))
    assert second.depth - first.depth == pytest.approx(2)
    assert first.thickness_mm == pytest.approx(2)


def test_what_is_no_grid_is_refused():
    array, affine = volume((0, 1, 2), (False,) * 3)
    skewed, flat, endless, far = (affine.copy() for _ in range(4))
    skewed[1, 0], flat[:3, 2], endless[0, 0], far[0, 0] = 0.1, 0, np.nan, 1e300
    nowhere = "no valid position"
    for matrix, problem in ((skewed, "right angles"), (flat, nowhere), (endless, nowhere), (far, nowhere)):
        with pytest.raises(ImageError, match=problem):
            grid_of(array, matrix)
