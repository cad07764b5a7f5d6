"""What is in the DICOM objects: exact values, codes, provenance; the same bytes again; refusals."""

import hashlib
import io
import warnings

import numpy as np
import pydicom
import pytest

from medseg_runtime import OutputError, ParameterError
from medseg_runtime.readers.image import read_image
from medseg_runtime.testing import toy_manifest, toy_segmenter
from medseg_runtime.writers.dicom import read_back
from medseg_runtime.writers.dicom import seg as module
from medseg_runtime.writers.dicom.codes import LESION, LUNG, NODULE, finding
from medseg_runtime.writers.dicom.reference import reference
from medseg_runtime.writers.dicom.sources import writing


def opened(content):
    return pydicom.dcmread(io.BytesIO(content))


@pytest.mark.parametrize("samples", [1, 3, 16, 100, 255])
def test_shares_round_trip_exactly(samples, write, sources):
    made = write(sources("MR_small.dcm"), samples=samples)
    seg = opened(made.objects["confidence.dcm"])
    assert seg.SegmentationFractionalType == "PROBABILITY"
    highest = int(seg.MaximumFractionalValue)
    assert (highest % samples, 255 - highest < samples) == (0, True)
    np.testing.assert_array_equal(seg.pixel_array.astype(int) * samples, made.result.masks.sum(axis=0) * highest)


def test_bytes_depend_on_the_input_alone(write, sources, monkeypatch):
    path = sources("CT_small.dcm")
    first = write(path).objects
    import datetime as dt

    class Later(dt.datetime):
        @classmethod
        def now(cls, tz=None):
            return super().now(tz) + dt.timedelta(days=40)

    monkeypatch.setattr("highdicom.base.datetime.datetime", Later)
    assert write(path).objects == first


def uids(objects):
    return {str(opened(content).SOPInstanceUID) for content in objects.values()}


def test_another_seed_number_or_bundle_gives_other_uids(write, sources):
    path = sources("CT_small.dcm")
    other_bundle = toy_segmenter()
    other_bundle.bundle_sha256 = "1" * 64
    runs = [write(path), write(path, seed=1), write(path, samples=5), write(path, segmenter=other_bundle)]
    assert len(set().union(*(uids(run.objects) for run in runs))) == 4 * len(runs)


def test_patient_study_and_grid_are_the_sources(written):
    made = written("CT, big endian rescale")
    source = pydicom.dcmread(made.path)
    for content in made.objects.values():
        dataset = opened(content)
        for keyword in ("PatientID", "PatientName", "StudyInstanceUID"):
            assert dataset[keyword] == source[keyword]
        assert dataset.SeriesInstanceUID != source.SeriesInstanceUID
    seg = opened(made.objects["consensus.dcm"])
    assert seg.FrameOfReferenceUID == source.FrameOfReferenceUID
    assert (seg.Rows, seg.Columns) == (source.Rows, source.Columns)
    (algorithm,) = seg.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence
    assert "toy" in algorithm.AlgorithmName
    assert f"bundle_sha256={'0' * 64}" in algorithm.AlgorithmParameters


def test_a_frame_of_many_is_named(written):
    seg = opened(written("enhanced CT, frame 2").objects["consensus.dcm"])
    groups = seg.PerFrameFunctionalGroupsSequence[0]
    assert groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber == 2
    plane = written("enhanced CT, frame 2").image.dicom.plane
    assert tuple(groups.PlanePositionSequence[0].ImagePositionPatient) == plane.position


def test_several_classes(write, sources):
    made = write(sources("MR_small.dcm"), segmenter=toy_segmenter(toy_manifest(classes=("core", "ring"))))
    np.testing.assert_array_equal(opened(made.objects["consensus.dcm"]).pixel_array, made.result.consensus)
    chosen = made.result.masks[made.chosen.samples]
    expected = [*chosen[:, 0], *chosen[:, 1]]
    np.testing.assert_array_equal(opened(made.objects["representatives.dcm"]).pixel_array, expected)


def test_codes():
    nodule = finding("nodule", "outline the lung nodule at the center of a chest CT crop")
    assert (nodule.kind, nodule.region) == (NODULE, LUNG)
    assert (finding("nodule", "thyroid").kind, finding("nodule", "thyroid").region) == (LESION, None)
    assert finding("polyp", "colonoscopy").kind == LESION


def test_codes_are_those_of_the_standard():
    pytest.importorskip("highdicom")
    from pydicom.sr.codedict import codes

    for term, known in (
        (NODULE, codes.SCT.Nodule),
        (LESION, codes.SCT.Lesion),
        (LUNG, codes.SCT.Lung),
        (finding("x", "").category, codes.SCT.MorphologicallyAbnormalStructure),
    ):
        assert (term[0], term[1]) == (known.value, known.scheme_designator)


def test_an_object_that_does_not_read_back_is_refused(sources, monkeypatch):
    pytest.importorskip("highdicom")
    real = pydicom.dcmread

    def flipped(content):
        dataset = real(content)
        dataset.PixelData = bytes([dataset.PixelData[0] ^ 1]) + dataset.PixelData[1:]
        return dataset

    result = toy_segmenter()(read_image(sources("CT_small.dcm")), samples=2, center=(9, 9))
    monkeypatch.setattr(read_back.pydicom, "dcmread", flipped)
    with pytest.raises(OutputError, match="did not read back"):
        module.dicom_objects([result], np.zeros((4, 4, 3), np.uint8))


def test_a_source_without_a_study_is_refused_without_a_patient_value(write, changed, tmp_path):
    dataset = changed("CT_small.dcm", StudyInstanceUID=None, FrameOfReferenceUID=None)
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    with pytest.raises(OutputError, match="StudyInstanceUID"):
        write(tmp_path / "a.dcm")
    dataset.StudyInstanceUID = "1.2.3"
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    with pytest.raises(OutputError, match="cannot refer to this source: FrameOfReferenceUID") as caught:
        write(tmp_path / "a.dcm")
    assert caught.value.__cause__ is None
    assert "CompressedSamples" not in str(caught.value)


def test_without_highdicom_the_extra_is_named(sources, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "highdicom.seg", None)
    with pytest.raises(ParameterError, match=r"highdicom, which is not installed.*medseglatdiff\[dicom\]"):
        module.check_sources([read_image(sources("CT_small.dcm"))])


def test_no_output_of_highdicom_leaks(write, changed, tmp_path, caplog, capfd):
    dataset = changed("CT_small.dcm", PatientName="DOE^JANE^19700101", PatientID="")
    del dataset.PatientSex
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    caplog.set_level("DEBUG")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        write(tmp_path / "a.dcm")
    out, err = capfd.readouterr()
    assert caught == []
    assert "DOE" not in out + err + caplog.text


@pytest.mark.parametrize(
    ("name", "frame"), [("CT_small.dcm", None), ("eCT_Supplemental.dcm", 2), ("examples_ybr_color.dcm", 7)]
)
def test_the_source_image_is_left_alone(name, frame, sources):
    image = read_image(sources(name), frame)
    before = hashlib.sha256(repr(image.dicom.header).encode()).hexdigest()
    reference(image)
    assert hashlib.sha256(repr(image.dicom.header).encode()).hexdigest() == before


@pytest.mark.parametrize(
    ("extension", "name"),
    [("ISO 2022 IR 87", "Yamada^Tarou=\u5c71\u7530^\u592a\u90ce"), ("ISO 2022 IR 149", "Hong=\ud64d")],
)
def test_names_with_code_extensions(extension, name, write, changed, tmp_path):
    """Their first character set has no name in most Japanese, Korean and Chinese studies (PS3.5, annexes H, I and K)."""
    dataset = changed("CT_small.dcm", SpecificCharacterSet=["", extension])
    dataset.PatientName = name
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    for content in write(tmp_path / "a.dcm").objects.values():
        assert str(opened(content).PatientName) == name


def test_a_frame_without_a_position(write, changed, tmp_path):
    dataset = changed("examples_ybr_color.dcm", FrameOfReferenceUID="1.2.3", PositionReferenceIndicator="")
    dataset.save_as(tmp_path / "us.dcm", enforce_file_format=True)
    made = write(tmp_path / "us.dcm", 7)
    assert "PixelMeasuresSequence" not in opened(made.objects["consensus.dcm"]).SharedFunctionalGroupsSequence[0]


@pytest.mark.parametrize("thickness", ["", None])
def test_a_slice_of_unknown_thickness_is_refused(thickness, changed, tmp_path):
    """A SEG must state it (PS3.3, C.7.6.16.2.1)."""
    pytest.importorskip("highdicom")
    changed("CT_small.dcm", SliceThickness=thickness).save_as(tmp_path / "a.dcm", enforce_file_format=True)
    with pytest.raises(ParameterError, match="slice thickness"):
        module.check_sources([read_image(tmp_path / "a.dcm")])


def test_once_lossy_always_lossy(write, changed, tmp_path):
    changed("CT_small.dcm", LossyImageCompression="01", LossyImageCompressionRatio="8").save_as(
        tmp_path / "a.dcm", enforce_file_format=True
    )
    for content in write(tmp_path / "a.dcm").objects.values():
        assert opened(content).LossyImageCompression == "01"


@pytest.mark.parametrize("failure", [MemoryError(), OSError(24, "Too many open files")], ids=["memory", "descriptors"])
def test_what_the_machine_lacks_is_not_blamed_on_the_header(failure):
    with pytest.raises(type(failure)), writing():
        raise failure
