"""The whole way of your own data: outlines or DICOM images, a training, an export, and masks of a file of the same folder."""

import io
import json
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file

from medseg_runtime import Segmenter
from medseg_trainer.data.split import split_folder
from medseg_trainer.training.loop import fit
from tests.trainer.data.own_folder import build, encoded

NAMES = [f"p{k}/a" for k in range(12)]
OUTLINE = [54, 54, 74, 54, 74, 74, 54, 74]


def ct(number):
    dataset = pydicom.dcmread(get_testdata_file("CT_small.dcm", download=False))
    dataset.PixelData = np.roll(dataset.pixel_array, number, axis=1).tobytes()
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def coco_folder(root):
    images = [{"id": k, "file_name": f"{name}.jpg", "height": 128, "width": 128} for k, name in enumerate(NAMES)]
    instances = [
        {"id": k, "image_id": k, "category_id": 1, "segmentation": [OUTLINE], "iscrowd": 0} for k in range(len(NAMES))
    ]
    content = {"images": images, "annotations": instances, "categories": [{"id": 1, "name": "disc"}]}
    grey = np.random.default_rng(0).integers(0, 255, (128, 128), np.uint8)
    files = {f"images/{name}.jpg": encoded(np.roll(grey, k), "JPEG") for k, name in enumerate(NAMES)}
    return build(root, files | {"annotations.json": json.dumps(content)}, None)


def dicom_folder(root):
    mask = np.zeros((128, 128), np.uint8)
    mask[54:74, 54:74] = 255
    files = {f"images/{name}.dcm": ct(k) for k, name in enumerate(NAMES)}
    return build(root, files | {f"masks/{name}_mask.png": mask for name in NAMES}, None)


@pytest.mark.slow
@pytest.mark.parametrize(("folder", "suffix"), [(coco_folder, "jpg"), (dicom_folder, "dcm")], ids=["COCO", "DICOM"])
def test_own_data_are_trained_on_exported_and_segmented(folder, suffix, micro, medseg_export, tmp_path):
    data = folder(tmp_path / "data")
    split_folder(data, val=0.2, test=0.2, seed=0, group=None).write(data)
    denoiser = replace(micro().denoiser, raters_per_image=1)
    fit(micro(raters=1, classes=("disc",), denoiser=denoiser), data, tmp_path / "run")
    assert medseg_export("--ckpt", tmp_path / "run")[0] == 0
    with Segmenter.load(tmp_path / "run-bundle", backend="onnxruntime") as segmenter:
        result = segmenter(data / "images" / f"p0/a.{suffix}", samples=3)
    assert result.masks.shape == (3, 128, 128)
    assert segmenter.manifest.classes == ("disc",)
