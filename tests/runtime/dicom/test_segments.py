"""What a viewer lists: series, segments, their labels and colors."""

import io
import itertools
import json

import numpy as np
import pydicom
import pytest

from medseg_runtime.readers.image import read_image
from medseg_runtime.result.output_request import OutputRequest
from medseg_runtime.result.representatives import FEW, Representatives, every_sample
from medseg_runtime.result.segmentation import common_representatives
from medseg_runtime.testing import toy_manifest, toy_segmenter
from medseg_runtime.writers.dicom.colors import consensus_color, sample_color
from medseg_runtime.writers.dicom.identity import Tracking
from medseg_runtime.writers.dicom.segments import confidence_segments, consensus_segments, representative_segments
from medseg_runtime.writers.folder import write_result

TRACKING = [Tracking("MedSegLatDiff nodule", "1.2.3")]


@pytest.fixture
def segmented(sources):
    """segmented(samples, ...): a result on a CT slice."""

    def build(samples=16, *, classes=("nodule",), center=(77, 38)):
        segmenter = toy_segmenter(toy_manifest(classes=classes))
        return segmenter(read_image(sources("CT_small.dcm")), samples=samples, center=center)

    return build


def opened(content):
    return pydicom.dcmread(io.BytesIO(content))


def test_each_kind_has_a_series_of_its_own(write, sources):
    datasets = [opened(content) for content in write(sources("CT_small.dcm"), samples=9).objects.values()]
    assert [(dataset.Modality, dataset.SeriesNumber, dataset.SeriesDescription) for dataset in datasets] == [
        ("SEG", 900, "Consensus (MedSegLatDiff, research only)"),
        ("SEG", 901, "Representatives, 4 of 9 (MedSegLatDiff, research only)"),
        ("SEG", 902, "Confidence (MedSegLatDiff, research only)"),
        ("OT", 903, "Overlay (MedSegLatDiff, research only)"),
    ]
    assert len({str(dataset.SeriesInstanceUID) for dataset in datasets}) == 4
    assert {int(dataset.InstanceNumber) for dataset in datasets} == {1}
    assert [dataset.ContentLabel for dataset in datasets[:3]] == ["CONSENSUS", "REPRESENTATIVES", "CONFIDENCE"]


def test_they_hold_no_private_element(written):
    for name in written.names:
        for content in written(name).objects.values():
            assert not [element.tag for element in opened(content).iterall() if element.tag.is_private]


def test_another_choice_is_another_series_and_leaves_the_others_alone(write, sources):
    few, all_of_them = (write(sources("CT_small.dcm"), samples=9, choice=choice).objects for choice in (4, "all"))
    assert {name for name in few if few[name] != all_of_them[name]} == {"representatives.dcm"}
    first, second = opened(few["representatives.dcm"]), opened(all_of_them["representatives.dcm"])
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "SeriesDescription"):
        assert first[keyword].value != second[keyword].value


def test_another_choice_of_as_many_is_another_object(segmented):
    pytest.importorskip("highdicom")
    from medseg_runtime.writers.dicom.seg import dicom_objects

    choices = [Representatives(np.array(samples), np.array([0.5, 0.5])) for samples in ([0, 1], [0, 2])]
    result, overlay = segmented(4), np.zeros((4, 4, 3), np.uint8)
    objects = [dicom_objects([result], overlay, chosen=chosen).files["representatives.dcm"] for chosen in choices]
    assert (
        len(
            {
                str(opened(content)[keyword].value)
                for content in objects
                for keyword in ("SOPInstanceUID", "SeriesInstanceUID")
            }
        )
        == 4
    )


def test_another_overlay_is_another_object(segmented):
    pytest.importorskip("highdicom")
    from medseg_runtime.writers.dicom.seg import dicom_objects

    result = segmented(2)
    uids = {
        str(opened(dicom_objects([result], np.full((4, 4, 3), shade, np.uint8)).files["overlay.dcm"])[keyword].value)
        for shade in (0, 1)
        for keyword in ("SOPInstanceUID", "SeriesInstanceUID")
    }
    assert len(uids) == 4


def test_labels_say_how_many_samples_a_segment_stands_for(segmented):
    result = segmented()
    chosen = Representatives(np.array([7, 2, 11]), np.array([0.694, 0.305, 0.001]))
    segments = list(representative_segments([result], chosen))
    assert [segment.label for segment in segments] == [
        "nodule, outline 1 of 3, 69 % of samples",
        "nodule, outline 2 of 3, 30 % of samples",
        "nodule, outline 3 of 3, < 1 % of samples",
    ]
    assert segments[0].description == "Sample 07, which stands for 69 % of 16 samples"
    np.testing.assert_array_equal([segment.values[0] for segment in segments], result.masks[[7, 2, 11]])
    (consensus,), (confidence,) = consensus_segments([result], TRACKING), confidence_segments([result])
    assert (consensus.label, confidence.label) == ("nodule, consensus of 16 samples", "nodule, share of 16 samples")


def test_a_segment_without_a_pixel_says_so(segmented):
    result = segmented()
    result.kept_masks[3] = False
    result.consensus[:] = False
    one = Representatives(np.array([3]), np.array([1.0]))
    (segment,), (consensus,) = representative_segments([result], one), consensus_segments([result], TRACKING)
    assert segment.label == "nodule, outline 1 of 1 (empty), 100 % of samples"
    assert consensus.label == "nodule, consensus of 16 samples (empty)"


def test_a_long_class_name_is_cut_and_not_what_comes_after_it(segmented):
    result = segmented(classes=("x" * 90,))
    for segment in representative_segments([result], every_sample(16)):
        assert len(segment.label) == 64
        assert segment.label.endswith("of 16, 6 % of samples")


def test_by_default_a_few_and_on_request_all(segmented, tmp_path):
    pytest.importorskip("highdicom")
    result = segmented()
    for name, options, count in (
        ("few", {}, FEW),
        ("two", {"representatives": 2}, 2),
        ("all", {"representatives": "all"}, 16),
    ):
        result.save(tmp_path / name, dicom_seg=True, **options)
        seg = pydicom.dcmread(tmp_path / name / "dicom" / "representatives.dcm")
        record = json.loads((tmp_path / name / "result.json").read_text())
        assert len(seg.SegmentSequence) == len(record["representatives"]) == count
        expected = result.masks[[entry["sample"] for entry in record["representatives"]]]
        np.testing.assert_array_equal(seg.pixel_array, expected)
        assert (tmp_path / name / "representatives.png").exists() == bool(options)
    np.testing.assert_array_equal(expected, result.masks)


def test_no_more_segments_than_samples(segmented, tmp_path):
    pytest.importorskip("highdicom")
    segmented(1).save(tmp_path / "out", dicom_seg=True)
    seg = pydicom.dcmread(tmp_path / "out" / "dicom" / "representatives.dcm")
    assert [segment.SegmentLabel for segment in seg.SegmentSequence] == ["nodule, outline 1 of 1, 100 % of samples"]


def test_of_slices_the_samples_that_represent_all_of_them(five_slices, tmp_path):
    """In one slice all samples may be equal, and differ in the next."""
    pytest.importorskip("highdicom")
    segmenter = toy_segmenter()
    results = [segmenter(read_image(five_slices / f"IM{k}.dcm"), samples=8, center=(77, 38)) for k in range(3)]
    for result in results[:2]:
        result.kept_masks[:] = result.kept_masks[0]
    assert len(results[0].representatives(4)) == 1
    write_result(tmp_path / "out", results, OutputRequest(dicom_seg=True))
    seg = pydicom.dcmread(tmp_path / "out" / "dicom" / "representatives.dcm")
    assert len(seg.SegmentSequence) == 4
    assert len(common_representatives(results, 99)) == len(np.unique(results[2].masks, axis=0))


def lab(color):
    return np.array(_cielab().from_rgb(*color).value) / 65535 * [100, 255, 255]


def _cielab():
    return pytest.importorskip("highdicom").color.CIELabColor


@pytest.mark.parametrize(("count", "apart"), [(FEW, 40), (16, 10)])
def test_colors_are_apart(count, apart):
    """In CIELab, where a distance of 2 is just seen."""
    colors = [lab(color) for color in (consensus_color(0), *map(sample_color, range(count)))]
    assert min(np.linalg.norm(one - other) for one, other in itertools.combinations(colors, 2)) > apart


def test_colors_are_in_the_objects(written):
    made = written("CT, big endian rescale")
    for name, expected in (
        ("consensus.dcm", [consensus_color(0)]),
        ("representatives.dcm", [sample_color(number) for number in range(len(made.chosen))]),
    ):
        segments = opened(made.objects[name]).SegmentSequence
        stored = [
            _cielab().from_dicom_value(tuple(segment.RecommendedDisplayCIELabValue)).to_rgb() for segment in segments
        ]
        np.testing.assert_allclose(stored, expected, atol=3)


def test_segments_say_who_drew_them(written):
    """Which Weasis and Slicer show of a segment."""
    made = written("CT, big endian rescale")
    for segment in opened(made.objects["representatives.dcm"]).SegmentSequence:
        assert segment.SegmentAlgorithmName == "MedSegLatDiff toy"
        assert segment.SegmentAlgorithmType == "SEMIAUTOMATIC"
        assert segment.SegmentDescription.startswith("Sample ")
