"""DICOM images in training: the same pixels, window and spacing as in inference."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file

from medseg_runtime.errors import DataError
from medseg_runtime.inference.prepare import prepare
from medseg_runtime.model.preprocess import InputRule
from medseg_runtime.result.request import SampleRequest
from medseg_runtime.testing import toy_manifest
from medseg_trainer.data.layouts import read_cases
from medseg_trainer.data.working_set import WorkingSet, working_size
from tests.trainer.data.own_folder import build

RULES = {
    f"{geometry}, {intensity}": InputRule(
        channels=1,
        height=32,
        width=32,
        geometry=geometry,
        intensity=intensity,
        context=64 if geometry == "native" else 0,
    )
    for geometry in ("native", "resize")
    for intensity in ("minmax", "unit")
}


def ct(**values):
    dataset = pydicom.dcmread(get_testdata_file("CT_small.dcm", download=False))
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


@pytest.fixture
def data(tmp_path):
    mask = np.zeros((128, 128), np.uint8)
    mask[50:80, 40:90] = 255
    windowed = ct(WindowCenter="40", WindowWidth="400")
    files = {"images/p1/IM0001": ct(), "images/p2/1.2.840.7.dcm": windowed}
    files |= {"masks/p1/IM0001.png": mask, "masks/p2/1.2.840.7_seg.png": mask}
    return build(tmp_path, files, "image,split\np1/IM0001,train\np2/1.2.840.7.dcm,train\n")


@pytest.mark.parametrize("name", RULES)
def test_a_dicom_image_is_prepared_as_in_inference(name, data):
    rule = RULES[name]
    manifest = replace(toy_manifest(), input=rule)
    for entry, file in zip(read_cases(data, "train", 1).entries, ("p1/IM0001", "p2/1.2.840.7.dcm"), strict=True):
        case = entry.load()
        served = prepare(data / "images" / file, manifest, SampleRequest()).field[0]
        trained, labels = working_size(case, rule)
        if rule.geometry == "native":  # training keeps the context around the field
            trained, labels = trained[:, 16:48, 16:48], labels[:, 16:48, 16:48]
        np.testing.assert_allclose(trained, served, atol=1e-6)
        assert labels.any()
        np.testing.assert_array_equal(case.source.pixels, case.image)


def test_the_spacing_is_the_header_s_unless_the_table_gives_one(data):
    (first, _) = read_cases(data, "train", 1)
    assert first.spacing_mm == pytest.approx((0.661468, 0.661468))
    (data / "splits.csv").write_text("image,split,spacing_mm\np1/IM0001,train,0.5\n")
    assert read_cases(data, "train", 1)[0].spacing_mm == (0.5, 0.5)


def test_a_working_set_is_read_from_dicom(data):
    found = WorkingSet.read(data, "train", RULES["resize, unit"], 1, 1, quiet=True)
    assert found.images.shape == (2, 1, 32, 32)
    assert not np.array_equal(found.images[0], found.images[1])  # the second has a window


def test_an_object_of_several_frames_is_refused_with_a_remedy_for_training(data):
    path = Path(get_testdata_file("examples_ybr_color.dcm", download=False))
    (data / "images/p1/IM0001").write_bytes(path.read_bytes())
    with pytest.raises(DataError, match=r"several frames.*Write each frame into a file of its own\."):
        read_cases(data, "train", 1)[0]
