"""The fuzzer: its mutators keep checksums and lengths whole, its page is laid out, and a finding is one."""

import io
import json
import struct
import subprocess
import sys
import zipfile
import zlib
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from random import Random

import pydicom
import pytest

pytest.importorskip("monai", reason="the benchmarks need `pip install 'medseglatdiff[bench]'`")

from benchmarks.robustness.fuzz import __main__ as campaign
from benchmarks.robustness.fuzz import seeds
from benchmarks.robustness.fuzz.counts import Counts, CountsFile, read_counts
from benchmarks.robustness.fuzz.mutators import archives, dicom, json_tree, octets, pictures, protobuf
from benchmarks.robustness.fuzz.page import page
from benchmarks.robustness.fuzz.report import Finding, FuzzReport, Outcome, Point, outcome_in, write_outcome
from benchmarks.robustness.fuzz.targets import TARGETS

TRIES = 30


def changed(change, content):
    """What a mutator makes of a file, where it can: it refuses what is not of its format."""
    found = []
    for seed in range(TRIES):
        with suppress(ValueError):
            found.append(change(content, Random(seed)))  # noqa: S311 - no secret
    return found


def test_more_than_a_million_inputs_are_planned():
    assert sum(target.runs for target in TARGETS.values()) >= 1_000_000


@pytest.mark.parametrize(
    "name", ["bundle.json", "PNG", "JPEG", "TIFF, BMP", "DICOM", "COCO", "labelme", "data set zip", "splits.csv"]
)
def test_mutators_change_the_first_files(name):
    target, contents = TARGETS[name], list(TARGETS[name].seeds())
    assert max(map(len, contents)) <= target.largest
    assert max(len(set(changed(target.change, content))) for content in contents) > TRIES / 2


def test_the_checksums_of_png_chunks_are_mended():
    for content in changed(pictures.change_png, next(seeds.pngs())):
        at = 8
        while at < len(content):
            length = int.from_bytes(content[at : at + 4])
            assert zlib.crc32(content[at + 4 : at + 8 + length]) == int.from_bytes(
                content[at + 8 + length : at + 12 + length]
            )
            at += 12 + length


def test_lengths_of_protobuf_are_mended():
    pytest.importorskip("onnx")
    for content in seeds.graphs():
        assert protobuf.written(protobuf.parse(content)) == content
        for each in changed(protobuf.change, content):
            protobuf.parse(each)  # raises where a length is wrong


def test_json_stays_json_and_its_values_are_nobody_elses():
    content = next(seeds.coco())
    for seed in range(200):
        with suppress(RecursionError):  # some are deep
            json.loads(json_tree.change(content, Random(seed)))  # noqa: S311 - no secret
    assert json_tree.ODD_VALUES[-1] == {"x": 1}
    assert [] in json_tree.ODD_VALUES


def test_dicom_stays_dicom():
    for content in changed(dicom.change, seeds.dicom("CT_small.dcm")):
        pydicom.dcmread(io.BytesIO(content))


def test_a_zip_and_the_header_of_safetensors_are_packed_again():
    change = archives.change_zip(octets.change)
    assert sum(zipfile.is_zipfile(io.BytesIO(each)) for each in changed(change, next(seeds.data_zips()))) > TRIES / 2
    content = len(b'{"a": 1}').to_bytes(8, "little") + b'{"a": 1}' + b"data"
    for each in changed(archives.change_safetensors, content):
        (length,) = struct.unpack("<Q", each[:8])
        json.loads(each[8 : 8 + length])
        assert each[8 + length :] == b"data"


def test_counts_outlive_the_process(tmp_path):
    assert read_counts(tmp_path / "counts") == Counts()
    file = CountsFile(tmp_path / "counts")
    file.counts.read = 3
    file.write()
    assert read_counts(tmp_path / "counts") == Counts(read=3)


def test_a_campaign_that_was_stopped_goes_on(tmp_path, monkeypatch):
    monkeypatch.setitem(TARGETS, "PNG", TARGETS["PNG"])
    monkeypatch.setattr(campaign, "_one_process", lambda *_, **__: ([Point(0, 5, 5), Point(50, 7, 9)], 1.0))
    (tmp_path / "PNG" / "findings").mkdir(parents=True)
    (tmp_path / "PNG" / "findings" / "oom-ab").touch()
    campaign._fuzz("PNG", tmp_path, 0.001)
    first = outcome_in(tmp_path / "PNG")
    assert (first.runs, first.processes) == (100, 2)
    assert first.findings == (Finding("oom-ab", "took too much memory"),)
    assert first.curve[-1] == Point(100, 7, 9)
    campaign._fuzz("PNG", tmp_path, 0.001)
    assert outcome_in(tmp_path / "PNG") == first


def test_a_page_states_what_was_found(tmp_path, machine):
    outcome = Outcome(
        runs=10,
        refused=9,
        seconds=1.0,
        processes=1,
        curve=(Point(1, 2, 3), Point(10, 4, 5)),
        findings=(Finding("a", "KeyError at x.py:3"),),
    )
    write_outcome(tmp_path, outcome)
    assert outcome_in(tmp_path) == outcome
    report = FuzzReport(
        date="2026-12-01", command="python -m x", machine=machine, seconds=1.0, targets={"PNG": outcome}
    )
    text = page(report).markdown()
    assert "| PNG | 10 | 0 | 9 | 2 to 4 | 3 to 5 | 10 | 0 ms | 1 | 1 |" in text
    assert "- PNG: KeyError at x.py:3" in text
    assert page(report).write(tmp_path).with_suffix(".png").exists()


@pytest.mark.slow
@pytest.mark.skipif(find_spec("atheris") is None, reason="atheris is not installed: `make fuzz-guided` does it")
@pytest.mark.parametrize("name", TARGETS)
def test_a_few_inputs_of_every_target_find_nothing(name, tmp_path):
    root = Path(campaign.__file__).parents[3]
    command = [
        sys.executable,
        "-m",
        "benchmarks.robustness.fuzz.child",
        name,
        "--folder",
        str(tmp_path),
        "--runs",
        "30",
    ]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert list((tmp_path / "findings").iterdir()) == []
    counts = read_counts(tmp_path / "counts")
    assert counts.read > 0
    assert campaign._curve_of(done.stderr)[-1].executions == 30
