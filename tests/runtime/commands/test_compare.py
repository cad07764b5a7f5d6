"""medseg-compare on result folders of a toy model."""

import json
from dataclasses import replace

import numpy as np
import pytest

from medseg_runtime.commands import compare as compare_command
from medseg_runtime.readers.source import SourceImage
from medseg_runtime.testing import toy_segmenter


@pytest.fixture
def compare(run_command):
    def run(*arguments):
        return run_command(compare_command.main, "medseg-compare", *arguments)

    return run


def save(folder, seed=0, spacing_mm=(0.7, 0.7), samples=4, scale=1):
    """A result of an image of its own; scale: of the pixels' sides."""
    pixels = np.random.default_rng(len(str(folder))).integers(0, 255, (128, 128)).astype(np.uint8)
    spacing = None if spacing_mm is None else (spacing_mm[0] * scale, spacing_mm[1] * scale)
    source = replace(SourceImage.from_array(pixels + np.uint8(scale)), spacing_mm=spacing, sha256=folder.name * 8)
    toy_segmenter()(source, samples=samples, seed=seed).save(folder)
    return folder


def test_a_finding_that_grew(compare, tmp_path):
    before, after = save(tmp_path / "before"), save(tmp_path / "after", scale=2)
    code, out, err = compare(before, after, "--days", 90)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "nodule: area, median and 5th to 95th percentile of 4 pairs of samples"
    assert [line.split("  ")[1] for line in lines[1:]] == [
        "before", "after", "ratio", "grown by more than 25 %", "doubling time",
    ]  # fmt: skip
    assert lines[3].endswith("4.00 (4.00 to 4.00)")
    assert lines[4].endswith("100% of the pairs")
    assert lines[5].endswith("45 days (45 days to 45 days)")


def test_one_line_of_json(compare, tmp_path):
    before, after = save(tmp_path / "before"), save(tmp_path / "after", scale=2)
    code, out, _ = compare(before, after, "--json", "--growth", 300)
    assert code == 0
    (found,) = json.loads(out)["classes"]
    assert found["pairs"] == {"both": 4, "appeared": 0, "vanished": 0, "absent": 0}
    assert found["ratio"]["values"] == pytest.approx([4] * 4, rel=1e-3)
    assert found["doubling_time_days"] == {"of_ratio_p5": None, "of_ratio_p50": None, "of_ratio_p95": None}
    assert (found["growth_percent"], found["days"]) == (300, None)


def test_what_does_not_grow_says_so(compare, tmp_path):
    before, after = save(tmp_path / "before"), save(tmp_path / "after", scale=0.5)
    assert compare(before, after, "--days", 9)[1].splitlines()[-1].endswith("no growth (no growth to no growth)")


def test_one_class_of_several_may_be_absent(compare, tmp_path):
    folders = [tmp_path / "before", tmp_path / "later"]
    for folder, scale in zip(folders, (1, 2), strict=True):
        save(folder, scale=scale)
        record = json.loads((folder / "result.json").read_text())
        there = record["measurements"][0]
        absent = {name: {**v, "values": [0] * 4} if isinstance(v, dict) else v for name, v in there.items()}
        record["measurements"].append({**absent, "class": "cyst", "presence": 0.0})
        (folder / "result.json").write_text(json.dumps(record))
    code, out, err = compare(*folders, "--days", 9)
    assert code == 0
    assert out.splitlines()[-1] == "cyst: no pair of samples shows it in both results"
    assert "0 of 4 pairs of samples show cyst in both results" in err
    code, out, _ = compare(*folders, "--days", 9, "--json")
    found = json.loads(out)["classes"][1]
    assert (code, found["share_grown"], found["ratio"]["median"], found["ratio"]["values"]) == (0, None, None, [])


def test_warnings_of_both_results_are_repeated(compare, tmp_path):
    before, after = save(tmp_path / "before"), save(tmp_path / "after")
    record = json.loads((after / "result.json").read_text())
    record["warnings"] = ["2 of 4 samples reach the last slice"]
    record["engine"]["precision"] = "bfloat16"
    (after / "result.json").write_text(json.dumps(record))
    code, out, err = compare(before, after, "--json")
    assert code == 0
    assert "warning: after: 2 of 4 samples reach the last slice" in err
    assert "fake float32 computed one result and fake bfloat16 the other" in err
    assert len(json.loads(out)["warnings"]) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, "the results differ in seed"),
        ({"samples": 3}, "the results differ in samples"),
        ({"spacing_mm": None}, "sizes in pixels of two images do not compare"),
    ],
)
def test_results_that_do_not_compare_are_refused(changes, message, compare, tmp_path):
    code, out, err = compare(save(tmp_path / "before"), save(tmp_path / "after", **changes))
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert message in err


def test_the_same_image_twice_is_refused(compare, tmp_path):
    one = save(tmp_path / "one")
    code, _, err = compare(one, one)
    assert (code, err.count("of the same image. Give results of two dates.")) == (1, 1)


def damaged(change):
    def written(folder):
        record = json.loads((folder / "result.json").read_text())
        change(record)
        (folder / "result.json").write_text(json.dumps(record))

    return written


DAMAGE = {
    "no file": lambda folder: (folder / "result.json").unlink(),
    "no JSON": lambda folder: (folder / "result.json").write_bytes(b"\xff{"),
    "a list": lambda folder: (folder / "result.json").write_text("[]"),
    "nested": lambda folder: (folder / "result.json").write_text("[" * 5000),
    "older": damaged(lambda record: record.pop("measurements")),
    "no class": damaged(lambda record: record.update(measurements=[])),
    "text for a number": damaged(lambda record: record["measurements"][0]["area_mm2"].update(values=["9"] * 4)),
    "NaN": damaged(lambda record: record["measurements"][0]["area_mm2"].update(values=[float("nan")] * 4)),
    "negative": damaged(lambda record: record["measurements"][0]["area_mm2"].update(values=[-1.0] * 4)),
    "too few": damaged(lambda record: record["measurements"][0]["area_mm2"].update(values=[1.0] * 3)),
    "no area": damaged(lambda record: record["measurements"][0].pop("area_mm2")),
    "another sampling": damaged(lambda record: record.update(sampling=3)),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_result_is_one_line(name, compare, tmp_path):
    before, after = save(tmp_path / "before"), save(tmp_path / "after")
    DAMAGE[name](after)
    code, out, err = compare(before, after)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.endswith("Give a result folder of an image or a series that this version of medseg-infer wrote.\n")


@pytest.mark.parametrize("option", [("--days", 0), ("--days", "nan"), ("--growth", -1), ("--growth", "inf")])
def test_numbers_out_of_range_are_one_line(option, compare, tmp_path):
    code, out, err = compare(save(tmp_path / "before"), save(tmp_path / "after"), *option)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert f"for example {option[0]}" in err
