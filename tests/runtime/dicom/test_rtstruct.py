"""Structure sets, read back by plastimatch and rt-utils where they are installed, and checked by dciodvfy."""

import hashlib
import io
import json
import subprocess
from dataclasses import replace

import numpy as np
import pydicom
import pytest

from medseg_runtime import OutputError, ParameterError, Segmenter
from medseg_runtime.commands import infer as infer_command
from medseg_runtime.readers.dicom.series import read_series
from medseg_runtime.readers.image import read_image
from medseg_runtime.result.polygons import polygons
from medseg_runtime.result.representatives import Representatives
from medseg_runtime.testing import toy_manifest, toy_segmenter
from medseg_runtime.writers.dicom import rtstruct
from medseg_runtime.writers.dicom.rtstruct import check_sources, structure_set

SLICES = 4
GRIDS = {
    "axial": ([1, 0, 0, 0, 1, 0], [0.7, 0.7]),
    "axial, not isotropic": ([1, 0, 0, 0, 1, 0], [1.5, 0.4]),
    "prone": ([-1, 0, 0, 0, -1, 0], [0.7, 0.7]),
    "coronal": ([1, 0, 0, 0, 0, -1], [0.7, 0.7]),
    "oblique": ([0.8, 0.6, 0.0, -0.48, 0.64, 0.6], [0.7, 0.7]),
    "oblique, not isotropic": ([0.8, 0.6, 0.0, -0.48, 0.64, 0.6], [0.5, 0.25]),
}
BUT_CORONAL = tuple(name for name in GRIDS if name != "coronal")
"""What plastimatch 1.9.4 reads right. In a coronal plane it cuts the first corner off, where SimpleITK and rt-utils do not."""
SQUARE = tuple(name for name, (_, spacing) in GRIDS.items() if spacing[0] == spacing[1])
"""What rt-utils takes: of two spacings it uses each for the other direction."""


@pytest.fixture
def series(tmp_path, changed):
    """series(grid) -> the folder of four CT slices, 128x128, on one of `GRIDS`."""

    def write(grid):
        orientation, spacing = GRIDS[grid]
        folder = tmp_path / "series"
        folder.mkdir()
        normal = np.cross(orientation[:3], orientation[3:])
        for index in range(SLICES):
            dataset = changed(
                "CT_small.dcm",
                ImageOrientationPatient=list(map(float, orientation)),
                ImagePositionPatient=[float(f"{v:.4f}") for v in np.array([10.3, -20.7, 30.1]) + 2.5 * index * normal],
                PixelSpacing=spacing,
                SliceThickness=2.5,
                SOPInstanceUID=f"1.2.3.{index}",
                InstanceNumber=index + 1,
            )
            dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
            dataset.save_as(folder / f"{index}.dcm", enforce_file_format=True)
        return folder

    return write


def drawn():
    """Masks (slices, 128, 128) with every kind of outline that is easily got wrong."""
    masks = np.zeros((SLICES, 128, 128), bool)
    masks[0, 30:60, 40:90] = True
    masks[0, 40:50, 50:60] = masks[0, 45:47, 70:71] = False  # holes, a small one too
    masks[0, 44:46, 54:56] = True  # an island in the hole
    masks[1, 20, 20] = masks[1, 21, 21] = masks[1, 100, 100] = True  # single pixels, two at a corner
    masks[2, :9, :7] = masks[2, -3:, 60:] = masks[2, 64, -1] = True  # at the border
    y, x = np.mgrid[:128, :128]
    masks[3] = np.hypot(y - 70, x - 50) < 20
    masks[3] &= np.random.default_rng(0).random((128, 128)) < 0.9  # many holes
    return masks


@pytest.fixture
def made(series):
    """made(grid) -> (folder, results with the masks of `drawn` as consensus and as sample 1)."""

    def make(grid):
        folder = series(grid)
        images = read_series(folder).around(1, SLICES)
        segmenter = toy_segmenter()
        results = []
        for image, mask in zip(images, drawn(), strict=True):
            result = segmenter(image, samples=3, center=(64, 64))
            masks = result.masks.copy()
            masks[1] = mask[::-1]
            results.append(replace(result, consensus=mask, kept_masks=masks))
        return folder, results

    return make


CHOSEN = Representatives(samples=np.array([1]), shares=np.array([1.0]))


def rois(results):
    """Name -> mask (slices, H, W), as they should be read."""
    return {
        "nodule consensus": np.stack([result.consensus for result in results]),
        "nodule sample 01": np.stack([result.masks[1] for result in results]),
    }


def named(content):
    structures = pydicom.dcmread(io.BytesIO(content))
    return {str(roi.ROIName): int(roi.ROINumber) for roi in structures.StructureSetROISequence}


@pytest.fixture
def written(made, tmp_path):
    """written(grid) -> (folder of the series, file of the structure set, ROIs)."""

    def write(grid):
        folder, results = made(grid)
        path = tmp_path / "structures.dcm"
        path.write_bytes(structure_set(results, CHOSEN))
        return folder, path, rois(results)

    return write


@pytest.mark.parametrize("grid", GRIDS)
def test_dciodvfy_finds_no_error(grid, written, needs):
    folder, path, _ = written(grid)
    program = needs("dciodvfy", "dicom3tools")

    def errors(file):
        done = subprocess.run([program, file], capture_output=True, text=True, check=False, errors="replace")
        return {line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")}

    assert errors(path) - errors(folder / "0.dcm") == set()
    broken = pydicom.dcmread(path)
    del broken.StructureSetLabel
    broken.save_as(path)
    assert errors(path)


@pytest.mark.parametrize("grid", BUT_CORONAL)
def test_plastimatch_reads_equal_masks(grid, written, needs, tmp_path):
    itk = pytest.importorskip("SimpleITK")
    program = needs("plastimatch", "plastimatch")
    folder, path, masks = written(grid)
    arguments = ["--input", path, "--referenced-ct", folder, "--output-prefix", "rois", "--prefix-format", "nrrd"]
    done = subprocess.run([program, "convert", *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    slices = read_series(folder).slices
    for name, mask in masks.items():
        volume = itk.ReadImage(str(tmp_path / "rois" / f"{name}.nrrd"))
        places = [volume.TransformPhysicalPointToIndex(each.plane.position) for each in slices]
        assert {place[:2] for place in places} == {(0, 0)}
        found = itk.GetArrayFromImage(volume)[[place[2] for place in places]] > 0
        np.testing.assert_array_equal(found, mask, err_msg=name)


@pytest.mark.parametrize("grid", GRIDS)
def test_simpleitk_places_the_contours_where_the_masks_are(grid, written):
    """An independent geometry: SimpleITK's grid of the series, and matplotlib's point-in-polygon test."""
    itk = pytest.importorskip("SimpleITK")
    path_class = pytest.importorskip("matplotlib.path").Path
    folder, path, masks = written(grid)
    files = itk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    volume = itk.ReadImage(files)
    order = [int(pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID.rpartition(".")[2]) for file in files]
    x, y = np.meshgrid(np.arange(128), np.arange(128))
    structures = pydicom.dcmread(path)
    for roi, mask in zip(structures.ROIContourSequence, masks.values(), strict=True):
        found = np.zeros(mask.shape, bool)
        for contour in roi.ContourSequence:
            points = np.reshape(np.array(contour.ContourData, float), (-1, 3)).tolist()
            corners = np.array([volume.TransformPhysicalPointToContinuousIndex(point) for point in points])
            (place,) = set(np.rint(corners[:, 2]).astype(int).tolist())
            np.testing.assert_allclose(corners[:, 2], place, atol=1e-3)
            outline = path_class(np.vstack([corners, corners[:1]])[:, :2], closed=True)
            found[order[place]] |= outline.contains_points(np.column_stack([x.ravel(), y.ravel()])).reshape(128, 128)
        np.testing.assert_array_equal(found, mask)


@pytest.mark.parametrize("grid", SQUARE)
@pytest.mark.filterwarnings("ignore")
def test_rt_utils_reads_equal_masks(grid, written):
    builder = pytest.importorskip("rt_utils").RTStructBuilder
    folder, path, masks = written(grid)
    read = builder.create_from(dicom_series_path=str(folder), rt_struct_path=str(path))
    order = [str(dataset.SOPInstanceUID) for dataset in read.series_data]
    for name, mask in masks.items():
        found = np.moveaxis(read.get_roi_mask_by_name(name), -1, 0)
        np.testing.assert_array_equal(found[[order.index(f"1.2.3.{index}") for index in range(SLICES)]], mask)


def test_what_it_says(made):
    _, results = made("oblique")
    structures = pydicom.dcmread(io.BytesIO(structure_set(results, CHOSEN)))
    header = results[0].source.dicom.header
    assert [roi.ROIName for roi in structures.StructureSetROISequence] == ["nodule consensus", "nodule sample 01"]
    assert structures.StructureSetROISequence[1].ROIDescription == "stands for 100% of 3 samples"
    assert (structures.PatientName, structures.StudyInstanceUID) == (header.PatientName, header.StudyInstanceUID)
    (frame,) = structures.ReferencedFrameOfReferenceSequence
    assert frame.FrameOfReferenceUID == header.FrameOfReferenceUID
    (series,) = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence
    assert series.SeriesInstanceUID == header.SeriesInstanceUID
    assert [image.ReferencedSOPInstanceUID for image in series.ContourImageSequence] == [f"1.2.3.{k}" for k in range(4)]
    assert structures.ApprovalStatus == "UNAPPROVED"
    assert [roi.ROIName for roi in pydicom.dcmread(io.BytesIO(structure_set(results))).StructureSetROISequence] == [
        "nodule consensus"
    ]


def test_several_classes_and_an_empty_roi(series):
    image = read_image(series("axial") / "0.dcm")
    result = toy_segmenter(toy_manifest(classes=("core", "rim")))(image, samples=2, center=(64, 64))
    result = replace(result, consensus=np.stack([result.consensus[0], np.zeros((128, 128), bool)]))
    structures = pydicom.dcmread(io.BytesIO(structure_set([result])))
    assert [roi.ROIName for roi in structures.StructureSetROISequence] == ["core consensus", "rim consensus"]
    assert ["ContourSequence" in roi for roi in structures.ROIContourSequence] == [True, False]


def test_the_same_input_gives_the_same_bytes_and_other_masks_another_uid(made):
    _, results = made("axial")
    one, again = structure_set(results, CHOSEN), structure_set(results, CHOSEN)
    assert one == again
    without = structure_set(results)
    other = structure_set([replace(results[0], consensus=~results[0].consensus), *results[1:]])
    uids = {pydicom.dcmread(io.BytesIO(content)).SOPInstanceUID for content in (one, without, other)}
    assert len(uids) == 3


def test_direction_cosines_that_are_rounded(changed, tmp_path):
    """They are not quite unit vectors at right angles, and the contours still lie on the pixels."""
    orientation = [1.0004, 0.0, 0.0, 0.0009, 1.0004, 0.0]
    size = {"Rows": 600, "Columns": 600, "PixelData": bytes(2 * 600 * 600)}
    changed("CT_small.dcm", ImageOrientationPatient=orientation, **size).save_as(tmp_path / "a.dcm")
    result = toy_segmenter()(tmp_path / "a.dcm", samples=1, center=(560, 580))
    assert result.consensus[560:].any()
    assert structure_set([result])


def test_contours_that_do_not_read_back_are_not_returned(made, monkeypatch):
    _, results = made("oblique")
    monkeypatch.setattr(rtstruct, "polygons", lambda mask: [polygon + 1 for polygon in polygons(mask)])
    with pytest.raises(OutputError, match="did not read back"):
        structure_set(results)


@pytest.fixture
def infer(run_command, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Segmenter, "load", lambda *_args, **_kwargs: toy_segmenter())
    return lambda *arguments: run_command(infer_command.main, "medseg-infer", *arguments)


def test_the_command_on_a_series(series, infer, tmp_path):
    folder = series("oblique")
    arguments = (folder, "--center", "64,64,1", "--slices", 3, "--samples", 5, "--representatives", 2, "--rtstruct")
    assert infer(*arguments, "--out", "one")[0] == 0
    content = (tmp_path / "one" / "dicom" / "structures.dcm").read_bytes()
    structures = pydicom.dcmread(io.BytesIO(content))
    record = json.loads((tmp_path / "one" / "result.json").read_text())
    assert record["outputs"]["dicom/structures.dcm"] == hashlib.sha256(content).hexdigest()
    expected = ["nodule consensus", *(f"nodule sample {chosen['sample']:02d}" for chosen in record["representatives"])]
    assert [roi.ROIName for roi in structures.StructureSetROISequence] == expected
    (frame,) = structures.ReferencedFrameOfReferenceSequence
    assert len(frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence[0].ContourImageSequence) == 3
    assert [path.name for path in (tmp_path / "one" / "dicom").iterdir()] == ["structures.dcm"]


def test_the_command_refuses_before_anything_is_drawn(changed, infer, tmp_path, monkeypatch):
    changed("CT_small.dcm", FrameOfReferenceUID=None).save_as(tmp_path / "a.dcm")
    monkeypatch.setattr(Segmenter, "segment", lambda *_args, **_kwargs: pytest.fail("drawn"))
    code, _, err = infer("a.dcm", "--center", "64,64", "--rtstruct", "--out", "one")
    assert (code, (tmp_path / "one").exists()) == (1, False)
    assert "FrameOfReferenceUID" in err
    assert "Leave --rtstruct out" in err


def test_save(series, tmp_path):
    result = toy_segmenter()(series("axial") / "0.dcm", samples=2, center=(64, 64))
    result.save(tmp_path / "one", rtstruct=True)
    assert named((tmp_path / "one" / "dicom" / "structures.dcm").read_bytes()) == {"nodule consensus": 1}


@pytest.mark.parametrize(
    ("changes", "element"),
    [
        ({"FrameOfReferenceUID": None}, "FrameOfReferenceUID"),
        ({"ImagePositionPatient": None, "PixelSpacing": None}, "ImagePositionPatient, PixelSpacing"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "valid values of ImagePositionPatient"),
    ],
)
def test_a_source_without_a_place_in_the_patient_is_refused_by_element(changes, element, changed, tmp_path):
    changed("CT_small.dcm", **changes).save_as(tmp_path / "a.dcm")
    with pytest.raises(ParameterError, match=element):
        check_sources([read_image(tmp_path / "a.dcm")])


def test_multi_frame_objects_and_pictures_are_refused(sources):
    pytest.importorskip("highdicom")
    with pytest.raises(ParameterError, match="NumberOfFrames"):
        check_sources([read_image(sources("eCT_Supplemental.dcm"), 1)])
    picture = toy_segmenter()(np.zeros((64, 64), np.uint8), samples=1)
    with pytest.raises(ParameterError, match="Leave --rtstruct out"):
        structure_set([picture])
