"""medseg-infer on a toy model, run as a command."""

import json
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medseg_runtime import BundleError, Segmenter, __version__
from medseg_runtime.backends.auto.select import COMPARISON_UNFINISHED
from medseg_runtime.commands import infer as infer_command
from medseg_runtime.commands import inputs, pipeline
from medseg_runtime.testing import toy_segmenter

PIXELS = np.random.default_rng(0).integers(0, 255, (100, 120)).astype(np.uint8)


@pytest.fixture
def loads(monkeypatch):
    """Load a toy instead of a bundle; the list holds the arguments of each load."""
    made = []

    def load(bundle=None, *, backend="auto", **_):
        segmenter = toy_segmenter()
        made.append((bundle, backend, segmenter))
        return segmenter

    monkeypatch.setattr(Segmenter, "load", load)
    return made


@pytest.fixture
def infer(loads, monkeypatch, capsys, tmp_path):  # noqa: ARG001 - never a real model
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["medseg-infer", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            infer_command.main()
        out, err = capsys.readouterr()
        return exit_.value.code, out, err

    return run


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "nodule.png"
    Image.fromarray(PIXELS).save(path)
    return path


def nothing_written(tmp_path):
    return not (tmp_path / "results").exists() and not list(tmp_path.rglob(".medseg*"))


def test_one_image(infer, image, tmp_path):
    code, out, err = infer(image.name)
    assert (code, err) == (0, "")
    assert out.startswith("nodule.png: 16 samples, mean pairwise IoU 0.")
    assert out.endswith("-> results/nodule/overlay.png\n")
    assert len(list((tmp_path / "results/nodule/masks").iterdir())) == 16
    with Image.open(tmp_path / "results/nodule/masks/00.png") as mask:
        assert mask.size == (120, 100)


def test_every_option_arrives(infer, image, loads, tmp_path):
    code, out, _ = infer(
        *(image, "--samples", 3, "--steps", 2, "--sampler", "dpmpp", "--seed", 7, "--threshold", 0.25, "--json"),
        *("--roi", "10,20,30,40", "--bundle", "some/where", "--backend", "onnxruntime", "--out", "else/where"),
    )
    assert code == 0
    record = json.loads(out)
    assert record == json.loads((tmp_path / "else/where/result.json").read_text())
    assert 0 < record["sampling"].pop("standard_error") < 0.1
    assert record["sampling"] == {
        "samples": 3,
        "settled": None,
        "seed": 7,
        "sampler": "dpmpp",
        "steps": 2,
        "threshold": 0.25,
    }
    assert record["field"] == {"x": 25 - 32, "y": 40 - 32, "width": 64, "height": 64}
    assert [str(loads[0][0]), loads[0][1]] == ["some/where", "onnxruntime"]


def test_all_samples_go_through_the_denoiser_in_one_call_per_step(infer, image, loads):
    infer(image, "--samples", 16, "--steps", 5)
    calls = loads[0][2].backend.calls
    assert calls == [("encoder", 1), *[("denoiser", 16)] * 5, ("decoder", 16)]


def test_force(infer, image, loads, tmp_path):
    assert infer(image)[0] == 0
    before = (tmp_path / "results/nodule/result.json").read_bytes()
    code, out, err = infer(image, "--seed", 3)
    assert (code, out) == (1, "")
    assert err.startswith("medseg-infer: error: results/nodule exists already")
    assert len(loads) == 1  # found out before the model was loaded
    assert (tmp_path / "results/nodule/result.json").read_bytes() == before
    assert infer(image, "--seed", 3, "--force")[0] == 0
    assert (tmp_path / "results/nodule/result.json").read_bytes() != before


def test_a_missing_bundle_is_one_line(infer, image, monkeypatch, tmp_path):
    def load(bundle, *, backend, **_):
        raise BundleError(f"there is no {bundle} for {backend}", "Give one.")

    monkeypatch.setattr(Segmenter, "load", load)
    assert infer(image) == (1, "", "medseg-infer: error: there is no None for auto. Give one.\n")
    assert nothing_written(tmp_path)


def test_a_defect_keeps_its_traceback(infer, image, monkeypatch):
    def load(*_, **__):
        raise ZeroDivisionError

    monkeypatch.setattr(Segmenter, "load", load)
    with pytest.raises(ZeroDivisionError):
        infer(image)


def test_one_bad_image_does_not_lose_the_others(infer, image, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    Image.fromarray(PIXELS.T.copy()).save(tmp_path / "last.png")
    code, out, err = infer("bad.png", image, "last.png", "--samples", 2)
    assert code == 1
    assert [line.split(":")[0] for line in out.splitlines()] == ["nodule.png", "last.png"]
    assert err.splitlines()[0].startswith("medseg-infer: error: bad.png: the file is not an image")
    assert err.splitlines()[1] == "medseg-infer: error: 1 of 3 images failed. The others are finished."
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == ["last", "nodule"]


def test_one_existing_result_stops_all_before_anything_is_computed(infer, image, loads, tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "second.png")
    assert infer("second.png", "--samples", 2)[0] == 0
    assert infer(image, "second.png")[0] == 1
    assert len(loads) == 1
    assert not (tmp_path / "results/nodule").exists()


def test_a_folder(infer, tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("b.png", "a.tif", "b.jpg"):
        Image.fromarray(PIXELS).save(tmp_path / "in" / name)
    (tmp_path / "in" / "notes.txt").write_text("x")
    code, out, _ = infer("in", "--samples", 2, "--out", "out", "--json")
    assert code == 0
    assert len([json.loads(line) for line in out.splitlines()]) == 3
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a", "b.jpg", "b.png"]


def test_a_folder_of_one_image_still_makes_a_folder_in_out(infer, tmp_path):
    (tmp_path / "in").mkdir()
    Image.fromarray(PIXELS).save(tmp_path / "in" / "only.png")
    assert infer("in", "--samples", 1, "--out", "out")[0] == 0
    assert (tmp_path / "out/only/result.json").exists()


def test_an_empty_folder(infer, tmp_path):
    (tmp_path / "in").mkdir()
    code, _, err = infer("in")
    assert code == 1
    assert "no image" in err


def test_names_that_clash(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = ["x/a.png", "y/a.png", "x/b.png", "x/B.tif", "z/c.png", "p/q/d.png", "r/q/d.png", "x/a.png"]
    jobs = inputs.plan([tmp_path / path for path in paths], None).jobs
    names = [job.out.name for job in jobs]
    assert names == ["x-a.png", "y-a.png", "b.png", "B.tif", "c", "6-q-d.png", "7-q-d.png"]
    assert {str(job.out.parent) for job in jobs} == {"results"}


def test_a_series_is_called_what_its_folder_is(tmp_path, monkeypatch):
    series = tmp_path / "1.2.840.10008"
    series.mkdir()
    monkeypatch.chdir(series)
    for named in (".", "../1.2.840.10008", str(series)):
        (job,) = inputs.plan([Path(named)], None, as_series=True).jobs
        assert job.out == Path("results/1.2.840.10008")


def test_warnings_go_to_stderr_and_into_the_result(infer, tmp_path):
    Image.fromarray(np.dstack([PIXELS] * 3 + [PIXELS])).save(tmp_path / "a.png")
    code, out, err = infer("a.png", "--samples", 1, "--json")
    assert code == 0
    assert err == "medseg-infer: warning: a.png: the image is partly transparent, and was composited on black\n"
    assert "partly transparent" in json.loads(out)["warnings"][0]


def test_auto_says_how_many_were_drawn(infer, image, tmp_path):
    code, out, err = infer(image, "--samples", "auto", "--max-samples", 20)
    assert (code, err) == (0, "")
    sampling = json.loads((tmp_path / "results/nodule/result.json").read_text())["sampling"]
    drawn = len(list((tmp_path / "results/nodule/masks").iterdir()))
    assert 12 <= sampling["samples"] == drawn <= 20
    word = "settled" if sampling["settled"] else "not settled"
    assert out.startswith(f"nodule.png: {drawn} samples, {word}, mean pairwise IoU")


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (("--max-samples", 20), "or leave --max-samples out."),
        (("--samples", "auto", "--max-samples", 7), "Use an even number of 2 or more; 64 is usual."),
        (("--samples", "auto", "--max-samples", 0), "Use an even number of 2 or more; 64 is usual."),
        (("--samples", "auto", "--slices", 3, "--nifti"), "Give a number of --samples."),
        (("--samples", "some"), "Give --samples 16, for example, or auto."),
    ],
)
def test_numbers_of_samples_out_of_range(arguments, remedy, infer, image, tmp_path):
    code, out, err = infer(image, *arguments)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.endswith(remedy + "\n")
    assert nothing_written(tmp_path)


def test_samples_are_measured_and_compared_with_limits(infer, image, tmp_path):
    code, out, err = infer(image, "--samples", 4, "--limit", "area_px=1", "--limit", "long_axis_px=1000")
    assert (code, err) == (0, "")
    record = json.loads((tmp_path / "results/nodule/result.json").read_text())
    (found,) = record["measurements"]
    assert found["area_px"]["values"] == record["classes"][0]["areas_px"]
    assert found["long_axis_px"]["median"] == pytest.approx(np.median(found["long_axis_px"]["values"]), abs=1e-3)
    assert found["limits"] == [
        {"measurement": "area_px", "limit": 1.0, "share_above": 1.0},
        {"measurement": "long_axis_px", "limit": 1000.0, "share_above": 0.0},
    ]
    assert f"long axis {found['long_axis_px']['median']:.3g} px (" in out
    assert ", area_px above 1 in 100%, long_axis_px above 1000 in 0% -> " in out


@pytest.mark.parametrize(
    ("limit", "remedy"),
    [
        ("volume=3", "equivalent_diameter_mm, area_px, long_axis_px, short_axis_px, mean_diameter_px."),
        ("area_px", "Give --limit NAME=NUMBER, for example volume_mm3=250."),
        ("area_px=nan", "Give a number, for example volume_mm3=250."),
        ("area_px=-1", "Give a number, for example volume_mm3=250."),
        ("area_px=inf", "Give a number, for example volume_mm3=250."),
        ("area_mm2=9", "or give an image that states its spacing."),
        ("volume_mm3=9", "or give an image that states its spacing."),
    ],
)
def test_limits_that_cannot_be_judged_are_refused(limit, remedy, infer, image, tmp_path):
    code, out, err = infer(image, "--limit", limit)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.endswith(remedy + "\n")
    assert nothing_written(tmp_path)


def test_the_next_image_is_segmented_while_one_is_written(infer, tmp_path, monkeypatch):
    # Writing the first waits for the second to be segmented: one after the other would wait for ever.
    for name in "ab":
        Image.fromarray(PIXELS).save(tmp_path / f"{name}.png")
    second, calls = threading.Event(), []
    segment, write = Segmenter.segment, pipeline.write_result

    def counted(*arguments, **options):
        calls.append(1)
        if len(calls) == 2:
            second.set()
        return segment(*arguments, **options)

    def patient(*arguments, **options):
        assert second.wait(200)  # a hang, not a slow machine
        return write(*arguments, **options)

    monkeypatch.setattr(Segmenter, "segment", counted)
    monkeypatch.setattr(pipeline, "write_result", patient)
    assert infer("a.png", "b.png", "--samples", 2)[0] == 0


def test_version(infer):
    assert infer("--version") == (0, f"medseg-infer {__version__}\n", "")


def test_help_says_that_it_is_not_a_medical_device(infer):
    code, out, _ = infer("--help")
    assert code == 0
    assert "not a medical device" in out


def test_no_image_is_a_usage_error(infer):
    assert infer()[0] == 1  # test_bad_input.py has the rest


def test_a_folder_without_a_bundle_gives_one_line(image, tmp_path):
    """In a new process, with nothing patched."""
    code = "from medseg_runtime.commands.infer import program; program()"
    done = subprocess.run(
        [sys.executable, "-c", code, str(image), "--bundle", str(tmp_path / "none")],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("medseg-infer: error: ")
    assert "bundle.json" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_program_exits_at_once_and_flushes_its_output(tmp_path, monkeypatch):
    """Nothing runs at exit, but buffered output and the exit code arrive."""
    code = (
        "import atexit, sys; from medseg_runtime import Segmenter; from medseg_runtime.commands import infer as infer_command; from medseg_runtime.testing import toy_segmenter; "
        "Segmenter.load = lambda *_, **__: toy_segmenter(); atexit.register(print, 'torn down'); "
        "print('in a buffer'); infer_command.program()"
    )
    command = [sys.executable, "-c", code, "missing.png"]
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "in a buffer\n")
    assert "missing.png" in done.stderr


def test_a_backend_used_without_a_comparison_gives_a_warning(infer, loads, image, monkeypatch):
    monkeypatch.setattr(type(toy_segmenter().backend), "why", COMPARISON_UNFINISHED)
    code, _, err = infer(image.name)
    assert code == 0
    assert loads
    assert err == f"medseg-infer: warning: fake is used: {COMPARISON_UNFINISHED}\n"


STREAMS = """
import sys
from medseg_runtime import Segmenter
from medseg_runtime.commands import infer as infer_command
from medseg_runtime.testing import toy_segmenter
Segmenter.load = lambda *_, **__: toy_segmenter()
infer_command.program()
"""


@pytest.mark.parametrize("closed", [0, 1, 2])
def test_closed_standard_streams_do_not_matter(closed, image, tmp_path):
    command = f'exec "$0" -c "$1" {image.name} {closed}{"<" if closed == 0 else ">"}&-'
    done = subprocess.run(
        ["/bin/sh", "-c", command, sys.executable, STREAMS], check=False, cwd=tmp_path, capture_output=True
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / "results" / "nodule" / "overlay.png").exists()


def test_a_name_that_the_terminal_cannot_show_is_escaped(image, tmp_path, monkeypatch):
    image.rename(tmp_path / "\u65e5.png")
    monkeypatch.setenv("PYTHONIOENCODING", "latin-1")
    command = [sys.executable, "-c", STREAMS, "\u65e5.png"]
    done = subprocess.run(command, check=False, cwd=tmp_path, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(rb"\u65e5.png: 16 samples")


def test_a_numbered_name_that_clashes_is_numbered_again(tmp_path):
    names = ["p/d/a.png", "q/d/a.png", "2-d-a.png.png"]
    jobs = inputs.plan([tmp_path / name for name in names], None).jobs
    assert len({job.out for job in jobs}) == 3


def test_one_image_by_two_paths_is_done_once(image, tmp_path):
    (tmp_path / "deep").mkdir()
    assert len(inputs.plan([image, tmp_path / "deep" / ".." / image.name], None).jobs) == 1
