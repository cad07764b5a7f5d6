"""NIfTI of single frames and of tilted slices; test_series.py has the series."""

import gzip

import numpy as np
import pydicom
import pytest

from medseg_runtime.readers.image import read_image
from medseg_runtime.testing import toy_segmenter
from medseg_runtime.writers.nifti import nifti_files

nibabel = pytest.importorskip("nibabel")


def consensus(paths, frame=None):
    """The header of the NIfTI file of some DICOM files."""
    images = [read_image(path, frame) for path in paths]
    results = [toy_segmenter()(image, samples=2, center=(9, 9)) for image in images]
    return nibabel.Nifti1Image.from_bytes(gzip.decompress(nifti_files(results)["consensus.nii.gz"]))


def test_a_frame_is_as_thick_as_its_functional_group_says(sources):
    pytest.importorskip("highdicom")
    path = sources("eCT_Supplemental.dcm")
    (measures,) = pydicom.dcmread(path).SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
    assert measures.SliceThickness == 10
    assert np.linalg.norm(consensus([path], 1).affine[:3, 2]) == pytest.approx(10)


@pytest.mark.parametrize("thickness", ["nan", "inf", "1e400", "-5", "0", "", "5,0"])
def test_an_unusable_thickness_becomes_one_millimeter(thickness, changed, tmp_path):
    path, placeholder = tmp_path / "a.dcm", b"77777"  # pydicom itself would not write it
    changed("CT_small.dcm", SliceThickness=placeholder.decode()).save_as(path, enforce_file_format=True)
    path.write_bytes(path.read_bytes().replace(placeholder, thickness.encode().ljust(len(placeholder))))
    assert np.linalg.norm(consensus([tmp_path / "a.dcm"]).affine[:3, 2]) == pytest.approx(1)


def test_slices_of_a_tilted_gantry_have_no_qform(changed, tmp_path):
    """A qform cannot express shear. SimpleITK prefers it, and would misplace them by millimeters."""
    tilt = np.deg2rad(20)
    for index in range(3):
        dataset = changed(
            "CT_small.dcm",
            ImageOrientationPatient=[1, 0, 0, 0, float(f"{np.cos(tilt):.6f}"), float(f"{-np.sin(tilt):.6f}")],
            ImagePositionPatient=[-80, -80, 10 + 5 * index],
        )
        dataset.save_as(tmp_path / f"{index}.dcm", enforce_file_format=True)
    tilted = consensus(sorted(tmp_path.iterdir()))
    assert (int(tilted.header["qform_code"]), int(tilted.header["sform_code"])) == (0, 1)
    np.testing.assert_allclose(tilted.affine @ [0, 0, 2, 1], [80, 80, 20, 1], atol=1e-4)  # RAS
    upright = consensus([tmp_path / "0.dcm"])
    assert int(upright.header["qform_code"]) == 1
