"""Which slice of a stack shows a point."""

import numpy as np
import pytest

from medseg_runtime import read_volume
from medseg_runtime.errors import ParameterError
from medseg_runtime.readers.patient_plane import PatientPlane
from medseg_runtime.readers.source import SourceImage
from medseg_runtime.readers.stack import Stack

TILT = np.radians(20)


class Slices(Stack):
    def __init__(self, depths, thickness=None, orientation=(1, 0, 0, 0, 1, 0)):
        normal = np.cross(orientation[:3], orientation[3:])
        self.positions = [depth * np.asarray(normal) for depth in depths]
        self._planes = tuple(
            PatientPlane.parse(position.tolist(), orientation, [1, 1], [thickness] if thickness else [])
            for position in self.positions
        )

    @property
    def planes(self):
        return self._planes

    def __len__(self):
        return len(self._planes)

    def read(self, index):
        return SourceImage(pixels=np.full((4, 4), index, np.uint8), sha256="", kind="test")


def found(depths, z, **options):
    """The place of the slice that shows a point, or None."""
    try:
        return depths[Slices(depths, **options).locate((0.0, 0.0, z))[2]]
    except ParameterError as error:
        assert "all of its slices" in error.remedy  # noqa: PT017 - in a helper
        return None


GAP_OF_5 = [0, 5, 10, 15, 20, 25, 30]
DENSE = [0, 5, 10, 15, 16, 17, 18, 19, 24, 29, 34]


@pytest.mark.parametrize(
    ("depths", "z", "expected"),
    [
        (GAP_OF_5, 12.4, 10),
        (GAP_OF_5, 12.6, 15),
        (GAP_OF_5, -4.9, 0),  # one gap beyond the ends
        (GAP_OF_5, -5.1, None),
        (GAP_OF_5, 34.9, 30),
        (GAP_OF_5, 35.1, None),
        ([0, 5, 15, 20, 25], 10, None),  # one is missing
        ([0, 5, 15, 20, 25], 7.4, 5),
        ([0, 5, 15, 20, 25], 7.6, None),
        ([0, 5, 15, 20, 25], 12.6, 15),
        ([0, 10, 15, 20], 5, None),  # the second
        ([0, 10, 15, 20], -6, None),
        ([0, 5, 15], 10, None),  # the last but one
        ([0, 5, 15], 20, 15),
        ([0, 5, 15], 20.1, None),
        ([0, 5, 15, 25, 30, 35], 20, None),  # two, near each other
        ([0, 5, 15, 25, 30, 35], 10, None),
        ([0, 5, 15, 25, 35, 40, 45], 20, None),  # three
        ([0, 5, 10, 25, 30], 17.5, None),  # two in a row
        ([0, 10, 20, 25], 5, None),  # two at an end
        ([0, 10, 20, 25], 15, None),
        ([0, 10, 20, 25, 30, 35], 15, None),
        ([0, 5, 15, 25], 10, None),
        ([0, 10, 20, 30, 40, 42, 44], 34, 30),  # a dense end makes no hole of the wider gaps before it
        ([0, 2, 4, 8, 10, 12], 6, None),
        (DENSE, 12.5, 10),  # gaps beside a dense part are no holes
        (DENSE, 21.5, 19),
        (DENSE, 16.4, 16),
        ([0, 5, 10, 11, 12, 14, 15, 16, 21, 26], 13, None),  # a hole inside a dense part
        ([0, 4.8, 10.1, 14.9, 20.2], 7.4, 4.8),  # positions that jitter
        ([0, 3, 3.6, 4.2, 7.2], 1.6, None),  # cannot be told from missing slices
    ],
)
def test_between_slices_beyond_them_and_in_holes(depths, z, expected):
    assert found(depths, z) == expected


@pytest.mark.parametrize(
    ("depths", "thickness", "z", "expected"),
    [
        ([0], 2.0, 1.9, 0),
        ([0], 2.0, 2.1, None),
        ([0], None, 4.9, 0),
        ([0, 5], 5.0, 2.4, 0),
        ([0, 10], 5.0, 5.0, None),  # the one between may be missing
        ([0, 10], 5.0, 2.4, 0),
        ([0, 10], None, 4.9, 0),
        ([0, 5], 5.0, 9.9, 5),
        ([0, 2], 5.0, -2.1, None),
    ],
)
def test_one_or_two_slices_are_judged_by_their_thickness(depths, thickness, z, expected):
    assert found(depths, z, thickness=thickness) == expected


def test_gaps_are_measured_along_the_normal_of_tilted_slices():
    orientation = [1, 0, 0, 0, np.cos(TILT), -np.sin(TILT)]
    stack = Slices([0, 5, 15, 20, 25], orientation=orientation)
    normal = np.cross(orientation[:3], orientation[3:])
    assert stack.locate(tuple(7.4 * normal))[2] == 1
    for depth in (10, 7.6, 12.4):
        with pytest.raises(ParameterError, match="slices are missing there"):
            stack.locate(tuple(depth * normal))


def test_slices_around_a_hole_say_so():
    stack = Slices([0, 5, 10, 20, 25, 30])
    assert [image.warnings for image in stack.around(1, 3)] == [()] * 3
    (note,) = {note for image in stack.around(2, 3) for note in image.warnings}
    assert note == "slices are missing in 1 of the 2 gaps between the slices"
    assert stack.around(2, 1)[0].warnings == ()


@pytest.mark.parametrize("index", [-1, 3])
def test_an_index_of_no_slice_is_refused_by_every_stack(index, tmp_path):
    np.save(tmp_path / "volume.npy", np.zeros((3, 8, 8), np.uint8))
    stack = read_volume(tmp_path / "volume.npy")
    for read in (stack.read, stack.around):
        with pytest.raises(ParameterError, match=f"no slice {index}. Give 0 to 2"):
            read(index)


def test_fewer_slices_than_asked_for_are_warned_of():
    stack = Slices(GAP_OF_5)
    assert len(stack.around(0, 5)) == 3
    assert stack.around(0, 5)[0].warnings == ("5 slices were asked for, and there are 3 around the point",)
    assert stack.around(2, 5)[0].warnings == ()
