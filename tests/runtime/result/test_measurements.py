"""Area and volume of masks, judged by SimpleITK, by scikit-image and by formulas."""

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import medseg_runtime
from medseg_runtime.errors import ImageError, ParameterError
from medseg_runtime.readers.patient_plane import PatientPlane
from medseg_runtime.result.distribution import Distribution
from medseg_runtime.result.measurement_record import measurement_figures
from medseg_runtime.result.measurements import MeasuredSlice, measured
from medseg_runtime.testing import toy_manifest, toy_segmenter

SPACINGS = [(0.7, 0.7, 0.7), (0.6, 0.6, 1.25), (0.5, 0.9, 2.0), (0.8, 0.8, 2.5)]
"""Rows, columns, slices in mm."""
UNCUT = np.zeros((1, 1), bool)
UPRIGHT = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))


def tilted(degrees):
    """Directions of a row and of a column of slices that lean by an angle."""
    angle = math.radians(degrees)
    return (1.0, 0.0, 0.0), (0.0, math.cos(angle), math.sin(angle))


def planes_of(spacing, count, directions=UPRIGHT, step=None):
    """Parallel planes of slices. step: from one to the next in mm; by default along their normal."""
    row, column = directions
    step = spacing[2] * np.cross(row, column) if step is None else np.asarray(step)
    return [
        PatientPlane(
            position=tuple((index * step).tolist()),
            along_row=row,
            along_column=column,
            spacing_mm=spacing[:2],
            thickness_mm=None,
        )
        for index in range(count)
    ]


def slices_of(volume, planes):
    """One sample of one class: masks (slices, H, W)."""
    return [
        MeasuredSlice(masks=mask[None, None], spacing_mm=plane.spacing_mm, plane=plane, cut=UNCUT)
        for mask, plane in zip(volume, planes, strict=True)
    ]


def volume_of(volume, planes):
    (found,) = measured(slices_of(volume, planes), ["nodule"])
    return found


def ellipsoid(half_axes_mm, planes, shape, spacing):
    """The voxels whose centers are in an ellipsoid in the middle, its axes those of the patient: (slices, H, W)."""
    k, i, j = np.meshgrid(np.arange(len(planes)), np.arange(shape[0]), np.arange(shape[1]), indexing="ij")
    step = np.subtract(planes[1].position, planes[0].position)
    points = (
        k[..., None] * step
        + i[..., None] * spacing[0] * np.array(planes[0].along_column)
        + j[..., None] * spacing[1] * np.array(planes[0].along_row)
    )
    middle = points.reshape(-1, 3).mean(axis=0)
    return (np.square((points - middle + 0.13) / half_axes_mm)).sum(axis=3) <= 1


@pytest.mark.parametrize("degrees", [0, 20])
@pytest.mark.parametrize("stretch", [(1, 1, 1), (1.5, 0.8, 0.7)], ids=["sphere", "ellipsoid"])
@pytest.mark.parametrize(("radius", "spacing"), list(product((2.5, 4.0, 6.0, 10.0, 15.0), SPACINGS)))
def test_volumes_of_known_size(radius, spacing, stretch, degrees):
    """Within 3 % or one layer of voxels, whichever is larger."""
    half_axes = radius * np.array(stretch)
    reach = 2.6 * half_axes.max()
    rows, columns, count = (math.ceil(reach / each) + 3 for each in spacing)
    planes = planes_of(spacing, count, tilted(degrees))
    mask = ellipsoid(half_axes, planes, (rows, columns), spacing)
    found = volume_of(mask, planes)
    true = 4 / 3 * math.pi * float(np.prod(half_axes))
    thicker = 4 / 3 * math.pi * float(np.prod(half_axes + np.array(spacing)[[1, 0, 2]] / 2))
    assert found.volume.values[0] == pytest.approx(true, abs=max(0.03 * true, thicker - true))
    assert found.equivalent_diameter.values[0] == pytest.approx((6 * found.volume.values[0] / math.pi) ** (1 / 3))
    assert not found.warnings


@pytest.mark.parametrize("spacing", SPACINGS)
def test_large_volumes_are_within_three_percent(spacing):
    planes = planes_of(spacing, math.ceil(40 / spacing[2]), tilted(20))
    mask = ellipsoid(np.array([15.0, 15.0, 15.0]), planes, [math.ceil(40 / each) for each in spacing[:2]], spacing)
    assert volume_of(mask, planes).volume.values[0] == pytest.approx(4 / 3 * math.pi * 15**3, rel=0.03)


@given(
    hnp.arrays(bool, st.tuples(st.integers(2, 5), st.integers(1, 6), st.integers(1, 6))),
    st.tuples(*[st.floats(0.2, 4)] * 3),
)
def test_volume_is_simpleitks_physical_size(mask, spacing):
    sitk = pytest.importorskip("SimpleITK")
    found = volume_of(mask, planes_of(spacing, len(mask)))
    if not mask.any():
        assert (found.presence, found.volume.values[0], found.equivalent_diameter.values[0]) == (0, 0, 0)
        return
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    image.SetSpacing((spacing[1], spacing[0], spacing[2]))
    judge = sitk.LabelShapeStatisticsImageFilter()
    judge.Execute(image)
    assert found.volume.values[0] == pytest.approx(judge.GetPhysicalSize(1))
    assert found.equivalent_diameter.values[0] == pytest.approx(2 * judge.GetEquivalentSphericalRadius(1))


@given(hnp.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))), st.tuples(*[st.floats(0.2, 4)] * 2))
def test_area_is_scikit_images(mask, spacing):
    regions = pytest.importorskip("skimage.measure").regionprops(mask.astype(int), spacing=spacing)
    (found,) = measured([MeasuredSlice(masks=mask[None, None], spacing_mm=spacing, plane=None, cut=UNCUT)], ["nodule"])
    assert found.area.values[0] == pytest.approx(regions[0].area if regions else 0)
    assert found.area.unit == "mm2"
    assert found.volume is None


def test_slices_that_are_sheared_keep_their_perpendicular_distance():
    mask = np.ones((3, 2, 2), bool)
    sheared = planes_of((1.0, 1.0, 2.0), 3, step=(0.0, 1.5, 2.0))
    assert volume_of(mask, sheared).volume.values[0] == pytest.approx(4 * 6)


def test_slices_at_uneven_distances_reach_half_way():
    planes = [planes_of((1.0, 1.0, float(z)), 2)[1] for z in (1, 2, 4)]
    mask = np.zeros((3, 1, 1), bool)
    mask[1] = True
    assert volume_of(mask, planes).volume.values[0] == pytest.approx(0.5 + 1.0)
    assert volume_of(np.ones((3, 1, 1), bool), planes).volume.values[0] == pytest.approx(1 + 1.5 + 2)


def test_order_does_not_matter_and_disorder_is_refused():
    mask = np.random.default_rng(0).random((4, 5, 5)) < 0.5
    planes = planes_of((1.0, 1.0, 2.0), 4)
    assert volume_of(mask[::-1], planes[::-1]).volume.values == pytest.approx(volume_of(mask, planes).volume.values)
    with pytest.raises(ImageError, match="order of their positions"):
        volume_of(mask, [planes[0], planes[2], planes[1], planes[3]])
    with pytest.raises(ImageError, match="two lie in one place"):
        volume_of(mask, [planes[0], planes[1], planes[1], planes[2]])


def test_slices_that_are_not_parallel_are_refused():
    one, other = planes_of((1.0, 1.0, 2.0), 2)
    leaning = replace(other, along_column=tilted(5)[1])
    with pytest.raises(ImageError, match="not parallel"):
        volume_of(np.ones((2, 3, 3), bool), [one, leaning])


def test_missing_slices_are_named():
    planes = planes_of((1.0, 1.0, 1.0), 9)
    mask = np.zeros((8, 3, 3), bool)
    mask[2:5] = True
    (warning,) = volume_of(mask, [*planes[:4], *planes[5:]]).warnings
    assert "missing in 1 of the 7 gaps" in warning


def test_a_finding_that_leaves_the_slices_is_named():
    planes = planes_of((1.0, 1.0, 1.0), 3)
    mask = np.zeros((3, 3, 3), bool)
    mask[1] = True
    assert not volume_of(mask, planes).warnings
    mask[2, 1, 1] = True
    (warning,) = volume_of(mask, planes).warnings
    assert "1 of 1 samples reach the first or the last of the 3 slices" in warning


def test_axes_over_slices_are_those_of_the_slice_with_the_longest():
    mask = np.zeros((3, 9, 9), bool)
    mask[0, :5, :5] = True  # the largest area
    mask[1, 4, :] = True  # the longest axis
    found = volume_of(mask, planes_of((1.0, 1.0, 1.0), 3))
    assert (found.long_axis.values[0], found.short_axis.values[0], found.mean_diameter.values[0]) == (9, 1, 5)
    assert found.area.values[0] == 25


def test_without_spacing_lengths_are_in_pixels():
    found = medseg_runtime.Segmentation.measurements.fget(result())[0]
    assert list(found.named()) == ["area_px", "long_axis_px", "short_axis_px", "mean_diameter_px"]
    assert found.area.unit == found.long_axis.unit == "px"


def result(samples=4, **changes):
    return replace(toy_segmenter()(np.zeros((128, 128), np.uint8), samples=samples), **changes)


def test_a_segmentation_measures_itself():
    found = result()
    (measures,) = found.measurements
    assert measures.area.values == pytest.approx(found.areas)
    assert (measures.presence, measures.slices, measures.class_name) == (1.0, 1, "nodule")
    diameter = 2 * np.sqrt(found.areas / math.pi)
    assert np.abs(measures.mean_diameter.values - diameter).max() < 1.5


def test_a_finding_that_leaves_the_field_is_named():
    one = result()
    seen = one.placement.seen
    masks = one.masks.copy()
    masks[2, seen.y + seen.height - 1, seen.x + 5] = True
    (warning,) = replace(one, kept_masks=masks).measurements[0].warnings
    assert "1 of 4 samples reach the side of the field" in warning
    whole = replace(one.placement, image_height=seen.height, image_width=seen.width, field=replace(seen, x=0, y=0))
    beyond = np.ones((4, seen.height, seen.width), bool)
    assert not replace(one, kept_masks=beyond, placement=whole).measurements[0].warnings


def test_figures_in_words_are_of_the_samples_that_are_not_empty():
    def said(*, slices, spacing, classes=("nodule",)):
        masks = np.zeros((4, len(classes), 8, 8), bool)
        masks[0, 0, 2:4, 2:6] = True
        uncut = np.zeros((4, len(classes)), bool)
        planes = [PatientPlane.parse((0, 0, 2.0 * z), (1, 0, 0, 0, 1, 0), (1, 1)) for z in range(slices)]
        series = [MeasuredSlice(masks=masks, spacing_mm=spacing, plane=plane, cut=uncut) for plane in planes]
        return list(measurement_figures(measured(series, classes)))

    axis = "long axis 4.12 {unit} (4.12 to 4.12)"
    assert said(slices=1, spacing=None) == [axis.format(unit="px")]
    assert said(slices=1, spacing=(1.0, 1.0)) == ["area 8 mm2 (8 to 8)", axis.format(unit="mm")]
    of_two = said(slices=2, spacing=(1.0, 1.0))
    assert of_two[:2] == ["over 2 slices in 1 of 4 samples", "area 8 mm2 (8 to 8)"]
    assert of_two[-1] == "volume 32 mm3 (32 to 32)"
    classes = said(slices=1, spacing=None, classes=("core", "rim"))
    assert (classes[0], classes[-1]) == ("core in 1 of 4 samples", "rim in 0 of 4 samples")


def test_several_classes_are_measured_each():
    found = toy_segmenter(toy_manifest(classes=("core", "ring")))(np.zeros((128, 128), np.uint8), samples=4)
    measures = found.measurements
    assert [each.class_name for each in measures] == ["core", "ring"]
    for index, each in enumerate(measures):
        assert each.area.values == pytest.approx(found.areas[:, index])
    assert (measures[1].long_axis.values > measures[0].long_axis.values).all()


def test_masks_that_were_not_kept_are_not_measured():
    with pytest.raises(ParameterError, match="not kept"):
        _ = toy_segmenter()(np.zeros((128, 128), np.uint8), samples=4, keep_masks=False).measurements


def placed(segmentation, plane):
    """The same segmentation, as of a slice with a place in the patient."""
    origin = medseg_runtime.readers.source.DicomOrigin(header=None, frame=1, frames=1, plane=plane)
    source = replace(segmentation.source, dicom=origin, spacing_mm=plane.spacing_mm)
    return replace(segmentation, source=source)


def test_several_segmentations_have_a_volume():
    one = result()
    planes = planes_of((0.5, 0.5, 2.0), 3)
    (found,) = medseg_runtime.measure([placed(one, plane) for plane in planes])
    assert found.volume.values == pytest.approx(one.areas * 0.25 * 6)
    assert found.slices == 3
    assert "4 of 4 samples reach" in found.warnings[0]


def test_slices_without_a_place_have_no_volume():
    assert medseg_runtime.measure([result(), result()])[0].volume is None


@pytest.mark.parametrize(
    "change",
    [
        {"samples": 5},
        {"sampler": "ddim"},
        {"steps": 9},
        {"classes": ("other",)},
        {"request": medseg_runtime.SampleRequest(seed=1)},
        {"request": medseg_runtime.SampleRequest(threshold=0.4)},
    ],
)
def test_slices_with_other_hypotheses_are_refused(change):
    with pytest.raises(ParameterError, match="differ in bundle"):
        medseg_runtime.measure([result(), replace(result(), **change)])


def test_nothing_is_refused():
    with pytest.raises(ParameterError, match="no segmentation"):
        medseg_runtime.measure([])


def test_a_distribution_says_what_its_samples_say():
    found = Distribution(np.array([0.0, 2.0, 4.0, 6.0]), "mm")
    assert (found.mean, found.median, len(found)) == (3.0, 3.0, 4)
    assert found.standard_deviation == pytest.approx(math.sqrt(20 / 3))
    assert (found.low, found.high) == pytest.approx((0.3, 5.7))
    assert [found.share_above(limit) for limit in (-1, 0, 2, 6)] == [1, 0.75, 0.5, 0]
    assert found.present.values.tolist() == [2, 4, 6]
    assert (found.present.median, found.present.unit) == (4.0, "mm")


def test_a_distribution_of_nothing_is_not_a_number():
    nothing = Distribution(np.zeros(3), "mm").present
    assert len(nothing) == 0
    figures = (nothing.mean, nothing.median, nothing.low, nothing.high, nothing.standard_deviation)
    assert all(math.isnan(figure) for figure in (*figures, nothing.share_above(1.0)))
    assert math.isnan(Distribution(np.ones(1), "mm").standard_deviation)
