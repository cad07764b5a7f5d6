"""The list of bad input: each row is one error of ours, on the command line and in Python, and nothing is written.

    on the command line    exit code 1, one line on stderr that ends with the remedy, no traceback, no output folder,
                           one line in the audit file, and no patient's name anywhere
    in Python              the type that the row names

Below it the odd ones that are valid: their masks land in the grid of the stored pixels.
"""

import json
import os
import re
import sys
import warnings

import numpy as np
import pytest
from PIL import Image

from medseg_runtime import BackendError, Box, ParameterError, Segmenter
from medseg_runtime.commands import infer as infer_command
from medseg_runtime.machine import memory
from medseg_runtime.readers.image import read_image
from medseg_runtime.testing import toy_segmenter
from tests.runtime.bad_inputs import (
    BAD,
    DICOM,
    FILES,
    GREY,
    IMAGES,
    MARKER,
    MODELS,
    OUTPUTS,
    RGB,
    RUNS,
    H,
    W,
    changed,
    encoded,
    file_of,
    model,
    written,
)


@pytest.fixture(autouse=True)
def _no_foreign_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def prepared(row, folder):
    """Write the row's image; return its path."""
    row.before(folder)
    path = folder / row.name
    content = row.image
    if content is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # writing an invalid file is what we want
            path.write_bytes(content() if callable(content) else content)
    return path


def listing(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.fixture
def infer(monkeypatch, capfd, tmp_path):
    """Run medseg-infer in this process, on a toy model unless the arguments name one."""
    monkeypatch.chdir(tmp_path)
    load = Segmenter.load
    monkeypatch.setattr(
        Segmenter,
        "load",
        lambda bundle, *, backend, **_: (
            load(bundle, backend=backend) if bundle or backend != "auto" else toy_segmenter()
        ),
    )

    def run_it(*arguments):
        monkeypatch.setattr(sys, "argv", ["medseg-infer", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            infer_command.main()
        out, err = capfd.readouterr()  # of file descriptors: libraries in C write there
        return exit_.value.code, out, err

    return run_it


@pytest.mark.parametrize("name", BAD)
def test_bad_input_on_the_command_line(name, infer, tmp_path, caplog):
    row = BAD[name]
    path = prepared(row, tmp_path)
    bundle = () if row.bundle is None else ("--bundle", row.bundle(tmp_path))
    before = listing(tmp_path)
    code, out, err = infer(path, *bundle, "--out", row.out, "--audit", "audit.jsonl", *row.options)
    assert (code, out) == (1, "")
    assert err.startswith("medseg-infer: error: ")
    assert err.count("\n") == 1
    assert err.endswith((".\n", "used.\n"))
    assert "Traceback" not in err
    assert re.search(row.says, err)
    assert [each for each in listing(tmp_path) if each != "audit.jsonl"] == before
    audit = (tmp_path / "audit.jsonl").read_text() if (tmp_path / "audit.jsonl").exists() else ""
    assert len(audit.splitlines()) == row.audited
    for line in audit.splitlines():
        entry = json.loads(line)
        assert entry["exit_status"] == 1
        assert row.error is None or entry["error"] == row.error.__name__
        assert entry["outputs"] == {}
    for text in (err, audit, caplog.text):
        assert MARKER not in text
    assert str(tmp_path) not in audit


@pytest.mark.parametrize("name", [name for name, row in BAD.items() if row.error is not None])
def test_bad_input_in_python(name, tmp_path):
    row = BAD[name]
    path = prepared(row, tmp_path)
    bundle = row.bundle(tmp_path) if row.bundle else None
    before = listing(tmp_path)
    with pytest.raises(row.error, match=row.says) as caught:  # noqa: PT012 - any of the three may refuse
        model_ = toy_segmenter() if bundle is None else Segmenter.load(bundle, backend=row.backend)
        result = model_(path, **row.keywords)
        result.save(tmp_path / row.out)
    assert type(caught.value) is row.error
    assert caught.value.remedy.endswith(".")
    assert "\n" not in caught.value.remedy
    assert MARKER not in str(caught.value)
    assert listing(tmp_path) == before


# --- odd, and valid ----------------------------------------------------------------------------------------------------

INDEXED = Image.fromarray((GREY % 4).astype(np.uint8))
INDEXED.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120])
HALF = np.where(np.arange(W) < W // 2, 0, 255).astype(np.uint8) * np.ones((H, 1), np.uint8)
TURNED = Image.Exif()
TURNED[0x0112] = 6
WIDE = GREY.astype(np.uint16) * 250

ODD = {
    "1-bit": lambda: encoded(GREY > 100),
    "palette": lambda: encoded(INDEXED),
    "palette with transparency": lambda: encoded(INDEXED, transparency=2),
    "LA": lambda: encoded(Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(HALF)])),
    "RGBA": lambda: encoded(np.dstack([RGB, HALF])),
    "16-bit png": lambda: encoded(WIDE),
    "16-bit tiff": lambda: encoded(WIDE, "TIFF", compression="tiff_lzw"),
    "32-bit tiff": lambda: encoded(GREY.astype(np.int32) - 1000, "TIFF", compression="tiff_adobe_deflate"),
    "float tiff": lambda: encoded(GREY / np.float32(7), "TIFF"),
    "white is zero": lambda: encoded(WIDE, "TIFF", tiffinfo={262: 0}),
    "CMYK tiff": lambda: encoded(RGB, "TIFF", "CMYK"),
    "CMYK jpeg": lambda: encoded(RGB, "JPEG", "CMYK"),
    "progressive jpeg": lambda: encoded(RGB, "JPEG", progressive=True),
    "turned by EXIF, png": lambda: encoded(GREY, exif=TURNED),
    "turned by EXIF, jpeg": lambda: encoded(RGB, "JPEG", exif=TURNED),
    "turned tiff": lambda: encoded(GREY, "TIFF", tiffinfo={274: 6}),
    "2x2": lambda: encoded(GREY[:2, :2]),
    "one color": lambda: encoded(np.full_like(GREY, 7)),
    "MONOCHROME1": lambda: changed(PhotometricInterpretation="MONOCHROME1"),
    "palette DICOM": lambda: file_of("examples_palette.dcm"),
    "YBR": lambda: file_of("SC_rgb_jpeg_dcmtk.dcm"),
    "signed": lambda: changed(PixelRepresentation=1),
    "unsigned": lambda: changed(PixelRepresentation=0, PixelPaddingValue=None),
    "window 0": lambda: changed(WindowCenter="40", WindowWidth="0"),
    "spacing 0": lambda: changed(PixelSpacing=[0.0, 0.0]),
    "negative slope": lambda: changed(RescaleSlope="-1"),
    "RLE": lambda: file_of("MR_small_RLE.dcm"),
    "big endian": lambda: file_of("MR_small_bigendian.dcm"),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_input_works_and_its_masks_are_in_the_stored_grid(name, infer, tmp_path, caplog):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        content = ODD[name]()
    # A name that promises something else: content decides.
    path = written(tmp_path, "misleading.jpg", content)
    height, width = read_image(path).pixels.shape[:2]
    if content[128:132] != b"DICM" and name != "2x2":
        assert (height, width) == (H, W)
    x, y, w, h = width // 2, height // 4, max(width // 3, 1), max(height // 2, 1)
    code, out, err = infer(
        path, "--roi", f"{x},{y},{w},{h}", "--samples", 3, "--out", "out", "--audit", "audit.jsonl", "--json"
    )
    assert code == 0, err
    assert all(line.startswith("medseg-infer: warning: ") for line in err.splitlines())
    # The toy draws by noise and region alone, so a blank image of the same size gives the same masks.
    expected = toy_segmenter()(
        np.zeros((height, width), np.uint8), samples=3, region=Box(x=x, y=y, width=w, height=h)
    ).masks
    assert expected.any()
    for k, mask in enumerate(expected):
        found = np.asarray(Image.open(tmp_path / "out" / "masks" / f"{k:02d}.png"))
        np.testing.assert_array_equal(found > 0, mask)
    announced, ended = map(json.loads, (tmp_path / "audit.jsonl").read_text().splitlines())
    assert (announced["event"], ended["event"], ended["exit_status"]) == ("publishing", "ended", 0)
    everything = b"".join(each.read_bytes() for each in (tmp_path / "out").rglob("*") if each.is_file())
    for text in (out, err, caplog.text, (tmp_path / "audit.jsonl").read_text(), everything.decode("latin-1")):
        assert MARKER not in text


# --- limits ------------------------------------------------------------------------------------------------------------


def test_the_number_of_samples_that_fits_is_named_and_fits(tmp_path):
    path = written(tmp_path, "image.png", encoded(GREY))
    with pytest.raises(ParameterError) as caught:
        toy_segmenter()(path, samples=10**9)
    largest = int(caught.value.remedy.split()[3])
    memory.check_memory(largest, GREY.size)
    with pytest.raises(ParameterError):
        memory.check_memory(largest + 1, GREY.size)


@pytest.mark.parametrize(
    ("free", "remedy"), [(2 << 20, r"Use at most \d+ samples"), (1 << 16, "Give a crop of the image")]
)
def test_masks_that_do_not_fit_into_free_memory_are_refused(monkeypatch, free, remedy):
    monkeypatch.setattr(memory, "available_bytes", lambda: free)
    toy = toy_segmenter()
    with pytest.raises(ParameterError, match=remedy):
        toy(GREY, samples=1000)
    assert toy.backend.calls == []


def test_images_of_a_stream_share_the_memory(monkeypatch):
    toy = toy_segmenter()
    enough = (16 + memory.WORKING_BYTES) * GREY.size
    monkeypatch.setattr(memory, "available_bytes", lambda: enough)
    assert toy(GREY).samples == 16
    (outcome,) = toy.stream([GREY])
    with pytest.raises(ParameterError, match=r"are free for 2 images at once"):
        outcome.result()
    with pytest.raises(ParameterError, match=r"^the maps of this image need"):
        next(iter(toy.stream([np.tile(GREY, (2, 2))], keep_masks=False))).result()
    assert toy(GREY).samples == 16  # its clones alone were two


def test_running_out_of_memory_gives_one_line(infer, tmp_path, monkeypatch):
    def starve(*_, **__):
        raise MemoryError

    monkeypatch.setattr(Segmenter, "segment", starve)
    code, out, err = infer(written(tmp_path, "image.png", encoded(GREY)))
    assert (code, out) == (1, "")
    assert err.startswith("medseg-infer: error: image.png: there is not enough memory")
    assert err.count("\n") == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_we_may_not_read(infer, tmp_path):
    path = written(tmp_path, "image.png", encoded(GREY))
    path.chmod(0)
    code, _, err = infer(path)
    assert code == 1
    assert "Permission denied" in err


@pytest.mark.parametrize("kind", ["folder", "pipe", "below a file", "full"])
def test_an_audit_file_that_cannot_be_written_stops_the_run(kind, infer, tmp_path):
    path = written(tmp_path, "image.png", encoded(GREY))
    audit = tmp_path / "audit"
    if kind == "folder":
        audit.mkdir()
    elif kind == "pipe":
        os.mkfifo(audit)
    elif kind == "below a file":
        audit = path / "audit"
    else:
        audit.symlink_to("/dev/full")
    code, out, err = infer(path, "--audit", audit)
    assert (code, out) == (1, "")
    assert "audit file" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "results").exists()


def test_a_session_without_the_asked_provider_is_refused(tmp_path, monkeypatch):
    import onnxruntime

    monkeypatch.setattr(onnxruntime.InferenceSession, "get_providers", lambda _: ["AzureExecutionProvider"])
    bundle = model(lambda folder, tiny, _: tiny.write_bundle(folder))(tmp_path)
    with pytest.raises(BackendError, match=r"runs on \['AzureExecutionProvider'\], not on CPU.*medseg-doctor"):
        Segmenter.load(bundle, backend="onnxruntime")


def test_a_bundle_reached_through_a_link_is_fine(tmp_path):
    bundle = model(lambda folder, tiny, _: tiny.write_bundle(folder))(tmp_path)
    (tmp_path / "link").symlink_to(bundle)
    assert Segmenter.load(tmp_path / "link").manifest.name == "tiny"


def test_no_row_hides_another():
    assert len(BAD) == sum(len(part) for part in (IMAGES, DICOM, FILES, OUTPUTS, RUNS, MODELS))
