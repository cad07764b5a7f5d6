"""Files to begin with, small and whole: drawn here, of the repository, and of pydicom's own examples."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from PIL import Image
from pydicom.data import get_testdata_file

ROOT = Path(__file__).parents[3]
MARK = "QZXMARK"
"""The name of every patient. It must be in no message."""
Seeds = Callable[[], Iterator[bytes]]

SMOOTH = np.add.outer(np.arange(24), 3 * np.arange(30)).astype(np.uint8)
NOISE = np.random.default_rng(0).integers(0, 255, (24, 30, 3), np.uint8)
DISC = (np.hypot(*np.mgrid[-12:12, -15:15]) < 8).astype(np.uint8)
SMALL_DICOM = (
    "CT_small.dcm", "MR_small.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm", "MR_small_implicit.dcm", "SC_rgb_jpeg_dcmtk.dcm",
    "SC_rgb_small_odd.dcm", "SC_rgb_small_odd_jpeg.dcm", "SC_rgb_rle.dcm", "JPEG2000.dcm", "MR_small_jpeg_ls_lossless.dcm",
    "MR_small_jp2klossless.dcm", "JPGExtended.dcm", "image_dfl.dcm", "liver_1frame.dcm", "emri_small_RLE.dcm", "rtdose_rle_1frame.dcm",
    "test-SR.dcm", "reportsi.dcm", "rtplan.dcm", "693_J2KI.dcm",
)  # fmt: skip
CLIPS = ("SC_rgb_rle_2frame.dcm", "emri_small_RLE.dcm", "rtdose_rle.dcm", "emri_small_jpeg_ls_lossless.dcm")


def encoded(values: Any, kind: str, mode: str | None = None, **options: Any) -> bytes:
    """Return an array as a file."""
    buffer, picture = io.BytesIO(), Image.fromarray(values)
    (picture.convert(mode) if mode else picture).save(buffer, kind, **options)
    return buffer.getvalue()


def pngs() -> Iterator[bytes]:
    """PNG of every mode."""
    yield encoded(SMOOTH, "PNG")
    yield encoded(SMOOTH.astype(np.uint16) * 99, "PNG")
    yield encoded(SMOOTH > 40, "PNG")
    yield encoded(DISC * 255, "PNG")
    for mode in ("RGB", "RGBA", "P", "LA"):
        yield encoded(NOISE, "PNG", mode)


def jpegs() -> Iterator[bytes]:
    """JPEG of every mode that is read."""
    for mode in ("L", "RGB", "CMYK"):
        yield encoded(NOISE, "JPEG", mode)
    yield encoded(NOISE, "JPEG", progressive=True)
    yield encoded(NOISE, "JPEG", restart_marker_blocks=1)


def tiffs() -> Iterator[bytes]:
    """TIFF of several compressions, and BMP."""
    for compression in (None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        yield encoded(NOISE, "TIFF", compression=compression)
    yield encoded(SMOOTH > 40, "TIFF", compression="group4")
    yield encoded(SMOOTH / np.float32(3), "TIFF")
    yield encoded(SMOOTH.astype(np.uint16), "TIFF")
    yield encoded(NOISE, "BMP")
    yield encoded(SMOOTH, "BMP")


def dicom(name: str) -> bytes:
    """Return one of pydicom's files, with a marked name of its patient."""
    dataset = pydicom.dcmread(str(get_testdata_file(name, download=False)))
    dataset.PatientName = MARK
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def dicoms() -> Iterator[bytes]:
    """Images of many kinds, and objects that are none."""
    yield from map(dicom, SMALL_DICOM)


def clips() -> Iterator[bytes]:
    """Objects with several frames."""
    yield from map(dicom, CLIPS)


def pointing_reports() -> Iterator[bytes]:
    """Structured Reports with a point, an outline and a line, in an image and in the patient."""
    sr = import_module("tests.runtime.dicom.structured_reports")
    image = sr.image("1.2.3.5100", frame=1)
    graphics = {
        "POINT": [3, 4],
        "CIRCLE": [3, 4, 5, 6],
        "ELLIPSE": [0, 1, 2, 1, 1, 0, 1, 2],
        "POLYLINE": [0, 0, 4, 0, 4, 4, 0, 0],
    }
    for graphic, data in graphics.items():
        yield sr.report(sr.group(sr.scoord(graphic, data, image), label=MARK), PatientName=MARK)
    yield sr.report(
        sr.group(sr.scoord3d("POINT", [1, 2, 3], "1.2.3")), sr.group(sr.scoord("POLYLINE", [0, 0, 4, 0], image))
    )
    yield dicom("reportsi.dcm")


def series() -> Iterator[bytes]:
    """Zips with three slices."""
    for name in ("CT_small.dcm", "MR_small_RLE.dcm"):
        slices = {}
        for number in range(3):
            dataset = pydicom.dcmread(io.BytesIO(dicom(name)))
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.UID(f"1.2.3.{number}")
            dataset.ImagePositionPatient = [0, 0, 3 * number]
            dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
            if name == "CT_small.dcm":
                dataset.Rows, dataset.Columns, dataset.PixelData = 16, 16, dataset.PixelData[:512]
            buffer = io.BytesIO()
            dataset.save_as(buffer, enforce_file_format=True)
            slices[f"{number}.dcm"] = buffer.getvalue()
        yield zipped(slices)


def zipped(files: dict[str, bytes]) -> bytes:
    """Return files as a zip."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def volumes() -> Iterator[bytes]:
    """NIfTI, NRRD, MetaImage and .npy."""
    nib: Any = import_module("nibabel")
    import SimpleITK

    voxels = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
    for image in (
        nib.Nifti1Image(voxels, np.diag([1.0, 2.0, 3.0, 1.0])),
        nib.Nifti2Image(voxels / np.float32(3), np.eye(4)),
    ):
        yield image.to_bytes()
        yield gzip.compress(image.to_bytes(), 1)
    buffer = io.BytesIO()
    np.save(buffer, voxels)
    yield buffer.getvalue()
    for suffix in ("nrrd", "mha"):
        for compressed in (False, True):
            path = Path(f"seed.{suffix}").absolute()
            SimpleITK.WriteImage(SimpleITK.GetImageFromArray(voxels), str(path), compressed)
            yield path.read_bytes()
            path.unlink()


def manifests() -> Iterator[bytes]:
    """The text of bundle.json: of the shipped bundle, and of toy ones."""
    from medseg_runtime.testing import toy_manifest

    shipped = json.loads((ROOT / "runtime/medseg_runtime/bundles/lidc-nodule/bundle.json").read_bytes())
    yield json.dumps(shipped | {"metrics": {"a": 1}, "training": {}, "parity": {}, "versions": {"numpy": "2"}}).encode()
    yield toy_manifest().to_json().encode()
    yield toy_manifest(classes=("a", "b"), geometry="resize", channels=3, objective="epsilon").to_json().encode()


def graphs() -> Iterator[bytes]:
    """Small ONNX files of operators that medseg-export writes."""
    tiny = import_module("tests.runtime.tiny_bundle")
    for name in tiny.GRAPHS:
        yield tiny.model(name)


def engine_records() -> Iterator[bytes]:
    """The text of engine.json."""
    plan = {"file": "a.plan", "sha256": "0" * 64, "bytes": 3, "source_sha256": "1" * 64}
    yield json.dumps({
        "schema_version": 1, "library": "tensorrt_rtx", "version": "1.2.0.54", "precision": "float32", "gpu": None,
        "compute_capabilities": [86, 89], "profiles": [{"min": 1, "opt": 16, "max": 64}],
        "flags": {"version_compatible": False, "hardware": "none", "workspace_mib": None, "optimization_level": 3},
        "plans": dict.fromkeys(("encoder", "denoiser", "decoder"), plan), "built": "2026-12-01", "driver": None, "cuda": None,
    }).encode()  # fmt: skip


def configurations() -> Iterator[bytes]:
    """The text of config.json of a run folder."""
    from medseg_trainer.config.presets import PRESETS

    yield from (preset().to_json().encode() for preset in PRESETS.values())


def data_records() -> Iterator[bytes]:
    """data.json of a run folder, and lines of its log, with a line between them."""
    split = {"images": 3, "groups": 2, "names_sha256": "0" * 64}
    record = {
        "layout": "own folder", "command": "medseg-train fit", "splits": {"train": split, "val": split}, "licence": "", "citation": "",
        "grouped_by": "groups",
    }  # fmt: skip
    yield (
        json.dumps(record).encode()
        + b'\n{"stage": "denoiser", "step": 3, "loss": 0.5}\n{"stage": "energy", "step": 1}\n'
    )


def coco() -> Iterator[bytes]:
    """A file of COCO instances: polygons and run lengths."""
    yield json.dumps({
        "images": [{"id": 1, "file_name": "a.png", "height": 24, "width": 30}, {"id": 2, "file_name": "b.png", "height": 24, "width": 30}],
        "categories": [{"id": 1, "name": "nodule"}, {"id": 2, "name": "other"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[2, 2, 20, 2, 20, 18.5, 2, 18]], "iscrowd": 0},
            {"id": 2, "image_id": 2, "category_id": 1, "segmentation": {"size": [24, 30], "counts": [100, 50, 570]}, "iscrowd": 1},
            {"id": 3, "image_id": 2, "category_id": 2, "segmentation": {"size": [24, 30], "counts": "d0a1b2"}, "iscrowd": 1},
        ],
    }).encode()  # fmt: skip


def labelme() -> Iterator[bytes]:
    """A file of labelme: every kind of area."""
    import base64

    corners = [[2, 2], [20, 18]]
    shapes: list[dict[str, Any]] = [
        {"label": "nodule", "shape_type": "polygon", "points": [[2, 2], [20, 2], [10, 18]]},
        {"label": "nodule", "shape_type": "rectangle", "points": corners},
        {"label": "nodule", "shape_type": "circle", "points": corners},
        {
            "label": "nodule",
            "shape_type": "mask",
            "points": corners,
            "mask": base64.b64encode(encoded(DISC * 255, "PNG")).decode(),
        },
    ]
    for shape in shapes:
        yield json.dumps({"shapes": [shape], "imageHeight": 24, "imageWidth": 30, "imagePath": "a.png"}).encode()


def tables() -> Iterator[bytes]:
    """splits.csv."""
    yield b"image,split,group,spacing_mm\na,train,1,0.5\nb.png,val,2,0.5 0.6\n"
    yield b'\xef\xbb\xbfimage;split\r\na;train\r\n"b";val\r\n'


def data_zips() -> Iterator[bytes]:
    """Published data sets as zips."""
    image, mask = encoded(SMOOTH, "PNG"), encoded(DISC * 255, "PNG")
    lidc = {"LIDC-IDRI-slices/P1/nodule-1/images/slice-1.png": image}
    lidc |= {f"LIDC-IDRI-slices/P1/nodule-1/mask-{rater}/slice-1.png": mask for rater in range(4)}
    yield zipped(lidc)
    table = b"frame,sequence\n1,1\n"
    yield zipped(
        {
            "CVC-ClinicDB/PNG/Original/1.png": image,
            "CVC-ClinicDB/PNG/Ground Truth/1.png": mask,
            "CVC-ClinicDB/sequences.csv": table,
        }
    )
    isic = "ISIC2018_Task1-2_Training_Input/ISIC_1.jpg", "ISIC2018_Task1_Training_GroundTruth/ISIC_1_segmentation.png"
    yield zipped({isic[0]: encoded(NOISE, "JPEG"), isic[1]: mask})


def masks() -> Iterator[bytes]:
    """Pictures that are masks."""
    yield encoded(DISC * 255, "PNG")
    yield encoded(DISC, "PNG")
    yield encoded(DISC * 255, "PNG", "P")
    yield encoded(DISC * 255, "TIFF", compression="tiff_lzw")


def weights() -> Iterator[bytes]:
    """Safetensors of a tiny mask autoencoder."""
    from safetensors.numpy import save

    yield save(
        {"a": np.ones((2, 3), np.float32), "b": np.zeros(4, np.float32)},
        {"step": "3", "progress": '{"step": 3, "best": 0.5}'},
    )


def videos() -> Iterator[bytes]:
    """Short clips."""
    import av

    for suffix, codec, pixel_format in (
        ("mp4", "libx264", "yuv420p"),
        ("avi", "mjpeg", "yuvj420p"),
        ("mkv", "libvpx-vp9", "yuv420p"),
    ):
        buffer = io.BytesIO()
        with av.open(buffer, "w", format={"mkv": "matroska"}.get(suffix, suffix)) as container:
            stream: Any = container.add_stream(codec, rate=12)
            stream.height, stream.width, stream.pix_fmt = 24, 30, pixel_format
            for number in range(3):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(np.roll(NOISE, number, 0), format="rgb24")))
            container.mux(stream.encode(None))
        yield buffer.getvalue()


def signatures() -> Iterator[bytes]:
    """A signature, then a public key in PEM."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    yield key.sign(b"content") + key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
