"""Result folders: what is in them, and that they appear whole or not at all."""

import hashlib
import json
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medseg_runtime import OutputError
from medseg_runtime.files import publish
from medseg_runtime.files.names import folder_names
from medseg_runtime.model.preprocess import Box
from medseg_runtime.readers.source import SourceImage
from medseg_runtime.result.provenance import Run
from medseg_runtime.result.summary import source_warnings
from medseg_runtime.testing import toy_manifest, toy_segmenter
from medseg_runtime.writers import folder as result_folder

PIXELS = np.random.default_rng(0).integers(0, 255, (90, 131)).astype(np.uint8)
SOURCE = SourceImage(pixels=PIXELS, sha256="ab" * 32, kind="PNG", warnings=("a word",))


def write(out, samples=3, *, force=False, manifest=None, seed=0, run=None):
    segmenter = toy_segmenter(manifest)
    segmentation = segmenter(SOURCE, samples=samples, seed=seed, region=Box(x=60, y=20, width=40, height=40))
    result_folder.write_result(out, [segmentation], force=force, run=run)
    return segmentation


def tree(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_the_files_hold_the_arrays(tmp_path):
    segmentation = write(tmp_path / "out")
    out = tmp_path / "out"
    assert tree(out) == sorted(
        [
            "masks",
            "masks/00.png",
            "masks/01.png",
            "masks/02.png",
            "consensus.png",
            "confidence.png",
            "confidence.npy",
            "overlay.png",
            "samples.png",
            "result.json",
        ]
    )
    for k in range(3):
        mask = np.asarray(Image.open(out / "masks" / f"{k:02d}.png"))
        assert (mask.shape, mask.dtype) == ((90, 131), np.uint8)
        np.testing.assert_array_equal(mask, 255 * segmentation.masks[k].astype(np.uint8))
    assert segmentation.masks.any()
    np.testing.assert_array_equal(np.asarray(Image.open(out / "consensus.png")) > 0, segmentation.consensus)
    confidence = np.load(out / "confidence.npy", allow_pickle=False)
    assert confidence.dtype == np.float32
    np.testing.assert_array_equal(confidence, segmentation.confidence)
    assert np.abs(np.asarray(Image.open(out / "confidence.png")) / 255 - confidence).max() <= 0.5 / 255 + 1e-6


def test_several_classes_have_a_folder_each(tmp_path):
    segmentation = write(tmp_path / "out", manifest=toy_manifest(classes=("optic disc", "../cup")))
    names = [name for name in tree(tmp_path / "out") if name.endswith("png")]
    assert "masks/optic-disc/00.png" in names
    assert "masks/cup/02.png" in names
    assert "consensus/cup.png" in names
    assert "confidence/optic-disc.png" in names
    assert np.load(tmp_path / "out" / "confidence.npy").shape == segmentation.confidence.shape == (2, 90, 131)
    publish.check_output(tmp_path / "out", result_folder.RESULT, force=True)  # and all of it may be replaced


def test_class_names_that_clash_as_files_are_numbered():
    assert folder_names(("a/b", "a b", "?")) == ["0-a-b", "1-a-b", "2"]
    assert [len(name) for name in folder_names(("x" * 300, "x" * 299 + "y"))] == [102, 102]


def test_result_json(tmp_path):
    segmentation = write(tmp_path / "out")
    text = (tmp_path / "out" / "result.json").read_text()
    record = json.loads(text)
    assert record["bundle"] == {"name": "toy", "sha256": "0" * 64}
    assert record["engine"] == {
        "name": "fake",
        "version": "0",
        "precision": "float32",
        "why": "it was asked for",
        "compiled": {},
    }
    assert record["input"] == {
        "kind": "PNG", "sha256": "ab" * 32, "frame": None, "slice": None, "slices_sha256": None,
        "height": 90, "width": 131, "spacing_mm": None,
    }  # fmt: skip
    assert record["field"] == {"x": 48, "y": 8, "width": 64, "height": 64}
    assert record["sampling"].pop("standard_error") == pytest.approx(segmentation.standard_error, abs=1e-6)
    assert record["sampling"] == {
        "samples": 3, "settled": None, "seed": 0, "sampler": "euler", "steps": 4, "threshold": 0.5
    }  # fmt: skip
    assert record["classes"][0]["areas_px"] == [int(mask.sum()) for mask in segmentation.masks]
    assert record["classes"][0]["consensus_area_px"] == segmentation.consensus.sum()
    assert record["classes"][0]["mean_pairwise_iou"] == pytest.approx(float(segmentation.mean_pairwise_iou), abs=1e-6)
    assert record["warnings"][0] == "a word"
    assert {"preprocess", "encode", "denoise", "decode", "aggregate", "draw"} <= set(record["timings_ms"])
    assert "not a medical device" in record["notice"]
    assert str(tmp_path) not in text


def test_result_json_says_which_run_it_was_and_what_it_wrote(tmp_path):
    run = Run()
    hashes = result_folder.write_result(tmp_path / "out", [toy_segmenter()(SOURCE, samples=3)], run=run)
    record = json.loads((tmp_path / "out" / "result.json").read_text())
    assert record["run"] == {"id": run.id, "time_utc": run.time_utc}
    assert datetime.fromisoformat(run.time_utc).utcoffset() == timedelta(0)
    files = {name for name in tree(tmp_path / "out") if (tmp_path / "out" / name).is_file()}
    assert record["outputs"].keys() == files - {"result.json"}
    assert hashes.keys() == files
    for name, sha256 in hashes.items():
        assert hashlib.sha256((tmp_path / "out" / name).read_bytes()).hexdigest() == sha256
        assert record["outputs"].get(name, sha256) == sha256


def test_one_sample_has_no_agreement_and_the_json_is_still_json(tmp_path):
    write(tmp_path / "out", samples=1)
    text = (tmp_path / "out" / "result.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail)["classes"][0]["mean_pairwise_iou"] is None


def test_same_seed_same_bytes(tmp_path):
    for name in "ab":
        write(tmp_path / name)
    for name in tree(tmp_path / "a"):
        if name not in ("masks", "result.json"):
            assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_an_older_result_is_kept_without_force_and_replaced_with_it(tmp_path):
    write(tmp_path / "out", samples=5)
    before = (tmp_path / "out" / "result.json").read_bytes()
    with pytest.raises(OutputError, match=r"exists already.*--force"):
        write(tmp_path / "out")
    assert (tmp_path / "out" / "result.json").read_bytes() == before
    write(tmp_path / "out", samples=2, force=True)
    assert len(tree(tmp_path / "out" / "masks")) == 2
    assert tree(tmp_path)[0] == "out"
    assert not list(tmp_path.glob(".*"))


def test_force_never_touches_a_folder_that_is_no_result(tmp_path):
    (tmp_path / "thesis.tex").write_text("ten years")
    write(tmp_path / "result")
    (tmp_path / "result" / "notes.txt").write_text("mine")
    for out in (tmp_path, tmp_path / "result"):
        with pytest.raises(OutputError, match="other files"):
            write(out, force=True)
    assert (tmp_path / "result" / "notes.txt").exists()


def test_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path)
    for out, problem in (
        (tmp_path / "file", "not a folder"),
        (tmp_path / "link", "not a folder"),
        (tmp_path / "file" / "below", "below a file|Not a directory"),
        (tmp_path / ("x" * 300), "too long"),
    ):
        with pytest.raises(OutputError, match=problem):
            write(out, force=True)
    (tmp_path / "empty").mkdir()
    write(tmp_path / "empty")
    assert (tmp_path / "empty" / "result.json").exists()


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), ZeroDivisionError()])
@pytest.mark.parametrize(("module", "at"), [(Path, "write_bytes"), (publish, "_sync"), (publish, "_swap")])
def test_a_failure_midway_leaves_nothing_new_and_the_old_result(tmp_path, monkeypatch, error, module, at):
    write(tmp_path / "old", samples=5)
    before = tree(tmp_path)
    calls = []

    def fail_later(*args, **options):
        calls.append(args)
        if len(calls) > 2 or at == "_swap":
            raise error
        return original(*args, **options)

    original = getattr(module, at)
    monkeypatch.setattr(module, at, fail_later)
    expected = OutputError if isinstance(error, OSError) else type(error)
    for out in ("old", "new/deep/er"):
        calls.clear()
        with pytest.raises(expected):
            write(tmp_path / out, force=True)
        assert tree(tmp_path) == before


def test_a_result_that_another_run_finished_first_is_not_overwritten(tmp_path, monkeypatch):
    original = result_folder._write

    def meanwhile(folder, files):
        monkeypatch.setattr(result_folder, "_write", original)
        write(tmp_path / "out", samples=7)
        original(folder, files)

    monkeypatch.setattr(result_folder, "_write", meanwhile)
    with pytest.raises(OutputError, match="exists already"):
        write(tmp_path / "out", samples=2)
    assert len(tree(tmp_path / "out" / "masks")) == 7
    assert tree(tmp_path)[0] == "out"


def test_a_printable_name_is_one_line():
    assert publish.printable("a\nb\udcff") == "a\\nb\\udcff"
    assert publish.printable("Größe ✓.png") == "Größe ✓.png"


def test_notes_of_all_slices_are_told_each_once():
    images = [replace(SOURCE, warnings=notes) for notes in (("padding",), ("padding", "burned in"), ())]
    assert source_warnings(images) == ["padding", "burned in"]
