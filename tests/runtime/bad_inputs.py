"""What is wrong with an input, an argument or a bundle, row by row, and how each is made: the table of `test_bad_input`."""

import importlib.util
import io
import json
import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.data import get_testdata_file

from medseg_runtime import BackendError, Box, BundleError, ImageError, OutputError, ParameterError
from medseg_runtime.readers.image import read_image
from medseg_runtime.testing import toy_segmenter

MARKER = "MARKER^PATIENT"
H, W = 60, 90
GREY = np.add.outer(np.arange(H), 2 * np.arange(W)).astype(np.uint8)
RGB = np.stack([GREY, 255 - GREY, GREY // 2], axis=-1)
NOISE = np.random.default_rng(0).integers(0, 255, (H, W), np.uint8)


def encoded(values, kind="PNG", mode=None, **options):
    picture = values if isinstance(values, Image.Image) else Image.fromarray(values)
    buffer = io.BytesIO()
    (picture.convert(mode) if mode else picture).save(buffer, kind, **options)
    return buffer.getvalue()


def png(width, height, rows=b""):
    """A PNG written by hand, for headers that Pillow would not write."""

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def file_of(name):
    """One of pydicom's own files, with a name in it that must not come out."""
    return changed(name)


def changed(name="CT_small.dcm", **values):
    dataset = pydicom.dcmread(get_testdata_file(name, download=False))
    dataset.PatientName = dataset.PatientID = dataset.InstitutionName = MARKER
    for keyword, value in values.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    assert MARKER.encode() in buffer.getvalue()
    return buffer.getvalue()


def tiny():
    """The three graphs of tests/runtime/tiny_bundle.py, in onnx's text format."""
    onnx = pytest.importorskip("onnx")
    spec = importlib.util.spec_from_file_location("tiny_bundle", Path(__file__).with_name("tiny_bundle.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module, onnx


def model(change):
    """Return a function that writes a bundle whose graphs fit bundle.json, then changes it."""

    def build(folder):
        module, onnx = tiny()
        folder = folder / "model"
        folder.mkdir()
        change(folder, module, onnx)
        return folder

    return build


def damaged(name, damage):
    def change(folder, module, _):
        module.write_bundle(folder)
        damage(folder / name)

    return model(change)


def rewritten(name, edit):
    """A graph changed in a way that its hash in bundle.json does not show."""

    def change(folder, module, onnx):
        graph = onnx.load_from_string(module.model(name))
        edit(graph, onnx)
        module.write_bundle(folder, **{name: graph.SerializeToString()})

    return model(change)


def manifest(edit):
    def change(path):
        content = json.loads(path.read_text())
        edit(content)
        path.write_text(json.dumps(content))

    return damaged("bundle.json", change)


def swapped(folder, module, _):
    module.write_bundle(folder, encoder=module.model("decoder"), decoder=module.model("encoder"))


def linked(folder, module, _):
    module.write_bundle(folder)
    (folder / "encoder.onnx").rename(folder.parent / "elsewhere.onnx")
    (folder / "encoder.onnx").symlink_to(folder.parent / "elsewhere.onnx")


def renamed(graph, _):
    graph.graph.input[0].name = graph.graph.node[0].input[0] = "picture"


def appended(operator, constant, **attributes):
    """Put one more node with a constant behind the graph's last."""

    def edit(graph, onnx):
        last = graph.graph.node[-1]
        name = last.output[0]
        last.output[0] = "before"
        graph.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(constant), "constant"))
        graph.graph.node.append(onnx.helper.make_node(operator, ["before", "constant"], [name], **attributes))

    return edit


def external(graph, onnx):
    tensor = onnx.numpy_helper.from_array(np.ones(1, np.float32), "constant")
    onnx.external_data_helper.set_external_data(tensor, "../weights")
    tensor.ClearField("raw_data")
    graph.graph.initializer.append(tensor)


def opset(graph, _):
    graph.opset_import[0].version = 99


def typed(graph, onnx):
    graph.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    appended("Cast", 0.0)(graph, onnx)
    graph.graph.node[-1].CopyFrom(
        onnx.helper.make_node("Cast", ["before"], [graph.graph.output[0].name], to=onnx.TensorProto.DOUBLE)
    )


def one_sample_only(graph, _):
    for value in (*graph.graph.input, *graph.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1


def other_sides(graph, _):
    graph.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 3


def older_result(folder):
    plain = toy_segmenter()
    source = read_image(written(folder, "older.png", encoded(GREY)))
    plain(source, samples=2).save(folder / "out")


def written(folder, name, content):
    path = folder / name
    path.write_bytes(content)
    return path


PLAIN = encoded(GREY)


@dataclass(frozen=True)
class Bad:
    error: type[Exception] | None
    """None: only a shell can type it."""
    says: str
    image: bytes | Callable[[], bytes] | None = PLAIN
    """None: there is no such file."""
    name: str = "image"
    options: tuple[str, ...] = ()
    keywords: dict[str, Any] = field(default_factory=dict)
    """What `options` are in Python."""
    bundle: Callable[[Path], Path] | None = None
    backend: str = "auto"
    before: Callable[[Path], object] = lambda _: None
    """What is there already."""
    out: str = "out"
    audited: bool = True
    """A mistyped command is not a run."""


def image(content, says, **more):
    return Bad(ImageError, says, image=content, **more)


def run(option, value, says, **keywords):
    error = ParameterError if keywords else None
    return Bad(error, says, options=(option, value), keywords=keywords, audited=bool(keywords))


ANIMATION = {"save_all": True, "append_images": [Image.fromarray(RGB), Image.fromarray(255 - RGB)]}
NAN = np.where(NOISE > 250, np.nan, NOISE).astype(np.float32)
BAD_CHECKSUM = bytearray(encoded(RGB))
BAD_CHECKSUM[BAD_CHECKSUM.index(b"IEND") - 8] ^= 1

IMAGES = {
    "empty": image(b"", "empty"),
    "text": image(b"patient,area\n1,2\n" * 99, "not an image"),
    "truncated header": image(encoded(RGB)[:20], "not an image|cut short"),
    "truncated png": image(encoded(NOISE)[:-500], "cut short"),
    "truncated jpeg": image(encoded(NOISE, "JPEG")[:-500], "cut short"),
    "truncated tiff": image(encoded(NOISE, "TIFF", compression="tiff_lzw")[:-500], "cut short|not an image"),
    "tiff without strips, of which libtiff prints a line": image(
        encoded(GREY > 99, "TIFF", compression="group4").replace(
            struct.pack("<HH", 273, 4), struct.pack("<HH", 5888, 4)
        ),
        "damaged",
    ),
    "bad checksum": image(bytes(BAD_CHECKSUM), "damaged"),
    "0x10": image(png(0, 10), "damaged|not an image"),
    "1x1": image(encoded(GREY[:1, :1]), "1x1 px is too small"),
    "65535x1": image(png(65535, 1, bytes(65536)), "too small"),
    "above our limit": image(png(9460, 9460), "too large"),
    "20000x20000": image(png(20000, 20000), "too large"),
    "NaN in a tiff": image(encoded(NAN, "TIFF"), "NaN"),
    "gif": image(encoded(RGB, "GIF", **ANIMATION), "is a GIF, which is not read"),
    "animated png": image(encoded(RGB, "PNG", **ANIMATION), "several images"),
    "pages": image(encoded(RGB, "TIFF", **ANIMATION), "several images"),
    "text as png": image(b"hello " * 99, "not an image", name="text.png"),
    "text as dcm": image(b"\x08\x00\x05\x00" + bytes(500), "lacks its preamble and the DICM mark", name="text.dcm"),
}
DICOM = {
    "no preamble": image(lambda: changed()[132:], "lacks its preamble and the DICM mark"),
    "truncated DICOM header": image(lambda: changed()[:400], "cut short|no image"),
    "truncated DICOM pixels": image(lambda: changed()[:-5000], "cut short"),
    "truncated compressed pixels": image(lambda: changed("MR_small_RLE.dcm")[:-2000], "cut short|no image"),
    "rows 0": image(lambda: changed(Rows=0), "too small"),
    "rows beyond the pixels": image(lambda: changed(Rows=4000), "cut short"),
    "60000x60000": image(lambda: changed(Rows=60000, Columns=60000), "too large"),
    "no photometric interpretation": image(lambda: changed(PhotometricInterpretation=None), "Photometric"),
    "unknown photometric interpretation": image(lambda: changed(PhotometricInterpretation="ARGB"), "Photometric"),
    "samples per pixel do not fit": image(lambda: changed(SamplesPerPixel=3), "SamplesPerPixel"),
    "1e5 frames": image(lambda: changed(NumberOfFrames=100_000), "frames"),
    "slope 0": image(lambda: changed(RescaleSlope="0"), "slope"),
    "slope 1e308": image(lambda: changed(RescaleSlope="1e308"), "slope"),
    "no pixels": image(lambda: changed(PixelData=None), "no image"),
    "SR": image(lambda: file_of("test-SR.dcm"), "no image"),
    "RT plan": image(lambda: file_of("rtplan.dcm"), "no image"),
    "RT structures": image(lambda: changed(PixelData=None, Modality="RTSTRUCT"), "no image"),
    "SEG": image(lambda: file_of("liver_1frame.dcm"), "segmentation"),
    "several frames, none named": image(lambda: file_of("examples_ybr_color.dcm"), "frames"),
    "JPEG lossless": image(lambda: file_of("SC_rgb_jpeg_gdcm.dcm"), "JPEG Lossless"),
}
FILES = {
    "missing": image(None, "No such file"),
    "name too long": image(None, "too long", name="x" * 300),
    "null in the name": image(None, "null", name="null\0byte", audited=False),
    "name of two lines": image(b"x", "not an image", name="two\nlines"),
    "name that is not unicode": image(b"x", "not an image", name=os.fsdecode(b"not unicode \xff")),
    "FIFO": image(None, "pipe", name="fifo", before=lambda folder: os.mkfifo(folder / "fifo")),
    "device": image(None, "device", name="null", before=lambda folder: (folder / "null").symlink_to("/dev/zero")),
    "folder without images": Bad(
        ImageError, "no image|folder", image=None, before=lambda folder: (folder / "image").mkdir()
    ),
}
OUTPUTS = {
    "existing result": Bad(OutputError, "exists already", before=older_result),
    "other files in it": Bad(
        OutputError,
        "other files",
        before=lambda folder: ((folder / "out").mkdir(), written(folder, "out/thesis.tex", b"ten years")),
    ),
    "output is a file": Bad(OutputError, "not a folder", before=lambda folder: written(folder, "out", b"x")),
    "output is a link": Bad(OutputError, "not a folder", before=lambda folder: (folder / "out").symlink_to("/tmp")),  # noqa: S108 - never written to
    "below a file": Bad(
        OutputError, "below a file|Not a directory", out="x/out", before=lambda folder: written(folder, "x", b"x")
    ),
    "output name too long": Bad(OutputError, "too long", out="x" * 300),
    "null in the output's name": Bad(OutputError, "null", out="null\0byte", audited=False),
    "output that nobody can write": Bad(OutputError, "cannot be written", out="/proc/medseg"),
}
RUNS = {
    "samples 0": run("--samples", "0", "out of range", samples=0),
    "samples -1": run("--samples", "-1", "out of range", samples=-1),
    "samples 1e6": run("--samples", "1000000", r"Use at most \d+ samples", samples=10**6),
    "samples 1e9": run("--samples", "1000000000", r"Use at most \d+ samples", samples=10**9),
    "samples abc": run("--samples", "abc", "--samples"),
    "samples 1e3": run("--samples", "1e3", "--samples"),
    "threshold NaN": run("--threshold", "nan", "threshold", threshold=float("nan")),
    "threshold 0": run("--threshold", "0", "threshold", threshold=0.0),
    "threshold 1": run("--threshold", "1", "threshold", threshold=1.0),
    "threshold -inf": run("--threshold", "-inf", "threshold", threshold=float("-inf")),
    "threshold half": run("--threshold", "half", "--threshold"),
    "steps 0": run("--steps", "0", "Use 1 to 1000", steps=0),
    "steps 1001": run("--steps", "1001", "Use 1 to 1000", steps=1001),
    "seed -1": run("--seed", "-1", "seed", seed=-1),
    "sampler": run("--sampler", "heun", "Use one of", sampler="heun"),
    "sampler of another objective": run("--sampler", "ddpm", "Use one of", sampler="ddpm"),
    "roi of three": run("--roi", "1,2,3", "--roi X,Y,W,H"),
    "roi of words": run("--roi", "a,b,c,d", "--roi X,Y,W,H"),
    "roi outside": run("--roi", "80,50,60,60", "not inside", region=Box(x=80, y=50, width=60, height=60)),
    "roi empty": run("--roi", "10,10,0,5", "not inside", region=Box(x=10, y=10, width=0, height=5)),
    "option that is none": run("--sampels", "3", "--samples"),
    "option without its value": Bad(None, "requires an argument", options=("--seed",), audited=False),
}
MODELS = {
    "no model": Bad(BundleError, "No such file", bundle=lambda folder: folder / "none"),
    "model is a file": Bad(BundleError, "Give the folder", bundle=lambda folder: written(folder, "m", b"x")),
    "graph missing": Bad(BundleError, "No such file", bundle=damaged("denoiser.onnx", Path.unlink)),
    "graph is a pipe": Bad(
        BundleError, "pipe", bundle=damaged("decoder.onnx", lambda path: (path.unlink(), os.mkfifo(path)))
    ),
    "graph truncated": Bad(
        BundleError,
        "SHA-256 differs",
        bundle=damaged("encoder.onnx", lambda path: path.write_bytes(path.read_bytes()[:-9])),
    ),
    "one bit flipped": Bad(
        BundleError,
        "SHA-256 differs",
        bundle=damaged(
            "encoder.onnx", lambda path: path.write_bytes(path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 1]))
        ),
    ),
    "graphs swapped": Bad(
        BundleError,
        "SHA-256 differs",
        bundle=damaged("encoder.onnx", lambda path: path.write_bytes((path.parent / "decoder.onnx").read_bytes())),
    ),
    "graphs swapped with their hashes": Bad(BackendError, "not those of bundle.json", bundle=model(swapped)),
    "bundle.json truncated": Bad(
        BundleError,
        "cannot be used",
        bundle=damaged("bundle.json", lambda path: path.write_bytes(path.read_bytes()[:99])),
    ),
    "bundle.json is not text": Bad(
        BundleError, "not text", bundle=damaged("bundle.json", lambda path: path.write_bytes(b"\xff\xfe\0"))
    ),
    "foreign schema": Bad(BundleError, "schema version 7", bundle=manifest(lambda m: m.update(schema_version=7))),
    "unknown field": Bad(BundleError, "unknown fields", bundle=manifest(lambda m: m.update(secret=1))),
    "absolute path": Bad(
        BundleError, "outside its folder", bundle=manifest(lambda m: m["graphs"]["encoder"].update(file="/etc/passwd"))
    ),
    "path with ..": Bad(
        BundleError, "outside its folder", bundle=manifest(lambda m: m["graphs"]["encoder"].update(file="../x.onnx"))
    ),
    "link out of the folder": Bad(BundleError, "link to a file outside the bundle", bundle=model(linked)),
    "weights in another file": Bad(BundleError, "weights in another file", bundle=rewritten("decoder", external)),
    "no ONNX": Bad(
        BundleError, "is not ONNX", bundle=model(lambda folder, tiny, _: tiny.write_bundle(folder, decoder=b"x"))
    ),
    "wrong opset": Bad(BackendError, "cannot load", bundle=rewritten("encoder", opset)),
    "wrong input name": Bad(BackendError, "not those of bundle.json", bundle=rewritten("encoder", renamed)),
    "wrong input shape": Bad(
        BackendError, "not those of bundle.json|cannot load", bundle=rewritten("decoder", other_sides)
    ),
    "fixed batch": Bad(BackendError, "not those of bundle.json", bundle=rewritten("decoder", one_sample_only)),
    "wrong type": Bad(BackendError, "not those of bundle.json", bundle=rewritten("decoder", typed)),
    "NaN weights": Bad(
        BackendError, "NaN", bundle=rewritten("encoder", appended("Add", np.full(1, np.nan, np.float32)))
    ),
    "infinite weights": Bad(
        BackendError, "NaN or infinite", bundle=rewritten("decoder", appended("Add", np.full(1, np.inf, np.float32)))
    ),
    "no masks come out": Bad(
        BackendError, "not", bundle=rewritten("decoder", appended("GatherND", np.zeros((0, 1), np.int64)))
    ),
    "backend that is none": Bad(
        ParameterError,
        "Use one of",
        bundle=model(lambda folder, tiny, _: tiny.write_bundle(folder)),
        backend="tensorflow",
        options=("--backend", "tensorflow"),
    ),
}
BAD = IMAGES | DICOM | FILES | OUTPUTS | RUNS | MODELS
