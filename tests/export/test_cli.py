"""`medseg-export` on the command line: what it prints, what it writes, and what it refuses before any work."""

import re
import shutil
from pathlib import Path

import pytest

from medseg_export import bundle_writer
from medseg_export.checks import low_precision_gate
from medseg_export.cli import default_bundle_folder
from medseg_runtime.model.bundle import Bundle


def test_the_command_prints_parity_and_what_it_wrote(medseg_export, run_of, bundle_of, tmp_path, monkeypatch):
    graphs = Bundle.load(bundle_of("flow")).graphs
    monkeypatch.setattr(bundle_writer, "onnx_graph", lambda name, *_: graphs[name])
    code, out, _ = medseg_export("--ckpt", run_of("flow"), "--out", tmp_path / "bundle", "--steps", 3)
    assert code == 0
    assert "mean probability of 16 samples" in out
    assert Bundle.load(tmp_path / "bundle").sha256[:12] in out
    assert Bundle.load(tmp_path / "bundle").manifest.sampling.steps == 3


@pytest.fixture
def exported(bundle_of, monkeypatch):
    """Exports take the graphs of the flow bundle."""
    graphs = Bundle.load(bundle_of("flow")).graphs
    monkeypatch.setattr(bundle_writer, "onnx_graph", lambda name, *_: graphs[name])


@pytest.fixture
def run(run_of, tmp_path):
    """A finished run that a test may write beside: runs/mine."""
    return shutil.copytree(run_of("flow"), tmp_path / "runs" / "mine")


@pytest.mark.usefixtures("exported")
def test_without_out_the_bundle_goes_beside_the_run(medseg_export, run):
    code, out, _ = medseg_export("--ckpt", run)
    assert code == 0
    assert out.splitlines()[-1].startswith(f"{run}-bundle: ")
    assert Bundle.load(f"{run}-bundle").manifest.name == "micro"
    assert sorted(path.name for path in run.parent.iterdir()) == ["mine", "mine-bundle"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("runs/mine", "runs/mine-bundle"),
        ("runs/mine/", "runs/mine-bundle"),
        ("mine", "mine-bundle"),
        ("../mine", "../mine-bundle"),
        (".", "HERE-bundle"),
        ("..", "RUNS-bundle"),
        ("state/..", "HERE-bundle"),
        ("run.v2", "run.v2-bundle"),
    ],
)
def test_the_default_bundle_folder_is_named_after_the_run(given, expected, tmp_path, monkeypatch):
    here = tmp_path / "runs" / "mine"
    (here / "state").mkdir(parents=True)
    monkeypatch.chdir(here)
    expected = expected.replace("HERE", str(here)).replace("RUNS", str(here.parent))
    assert default_bundle_folder(Path(given)) == Path(expected)


@pytest.mark.usefixtures("exported")
def test_an_existing_default_folder_is_replaced_only_by_force(medseg_export, run):
    assert medseg_export("--ckpt", run)[0] == 0
    before = Path(f"{run}-bundle", "bundle.json").read_bytes()
    code, out, err = medseg_export("--ckpt", run, "--steps", 3)
    assert (code, out) == (1, "")
    assert err == (
        f"medseg-export: error: {run}-bundle exists already. Choose another --out, or replace it with --force.\n"
    )
    assert Path(f"{run}-bundle", "bundle.json").read_bytes() == before
    assert medseg_export("--ckpt", run, "--steps", 3, "--force")[0] == 0
    assert Bundle.load(f"{run}-bundle").manifest.sampling.steps == 3


def test_a_default_folder_with_other_files_is_refused_even_with_force(medseg_export, run):
    other = Path(f"{run}-bundle")
    other.mkdir()
    (other / "notes.txt").write_text("keep")
    code, _, err = medseg_export("--ckpt", run, "--force")
    assert code == 1
    assert "mine-bundle holds other files than a bundle, for example notes.txt. Choose another --out." in err
    assert [path.name for path in other.iterdir()] == ["notes.txt"]


def plain(text):
    """Return text without terminal colors, which typer forces in some CI systems."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def test_help_begins_with_the_commands_that_people_type(medseg_export, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = medseg_export("--help")
    assert code == 0
    out = plain(out)
    lines = [line.strip() for line in out.partition("Usage:")[2].splitlines()[1:] if line.strip()]
    assert lines[:6] == [
        "Export a training run; writes runs/mine-bundle:",
        "medseg-export --ckpt runs/mine",
        "Export it and build TensorRT engines for the GPU in this machine:",
        "medseg-export --ckpt runs/mine --trt",
        "Build engines from a bundle, on the device that will run them:",
        "medseg-export build runs/mine-bundle --trt",
    ]
    assert "beside the run" in out
    code, out, _ = medseg_export("build", "--help")
    assert code == 0
    assert "    medseg-export build runs/mine-bundle --trt-rtx --sm 86,89,120" in plain(out)


def test_without_a_run_the_error_names_the_option(medseg_export):
    code, out, err = medseg_export("--out", "bundle")
    assert (code, out) == (1, "")
    assert "Missing option '--ckpt'" in err


def test_half_writes_low_precision_graphs_and_prints_their_checks(
    medseg_export, run_of, half_bundle_of, tmp_path, monkeypatch
):
    made = Bundle.load(half_bundle_of("flow"))
    monkeypatch.setattr(bundle_writer, "onnx_graph", lambda name, *_: made.graphs[name])
    monkeypatch.setattr(low_precision_gate, "low_precision_graphs", lambda *_: made.half)
    out = tmp_path / "bundle"
    code, printed, _ = medseg_export("--ckpt", run_of("flow"), "--out", out, "--half")
    assert code == 0
    assert "float16: 1 - Dice of the masks" in printed
    written = Bundle.load(out)
    assert written.half == made.half
    assert written.manifest.parity["half"]["images"] == "1 synthetic image"
    assert {path.name for path in out.iterdir()} == {path.name for path in made.folder.iterdir()}


@pytest.mark.parametrize(
    ("option", "match"),
    [
        (["--trt"], r"no NVIDIA GPU can be used: .*, and TensorRT tunes an engine on the GPU .* `--trt-rtx`\.\n$"),
        (["--trt-rtx", "--sm", "90"], r"does not build for compute capability 9\.0\. Give --sm some of .*\n$"),
        (["--trt-rtx", "--trt-samples", "0"], r"'0' is no range of samples\. Give MIN,OPT,MAX .*\n$"),
    ],
    ids=["no GPU", "Hopper", "samples"],
)
def test_engines_that_cannot_be_built_are_refused_before_anything_is_exported(
    medseg_export, run_of, tmp_path, monkeypatch, option, match
):
    if "--trt-rtx" in option:
        pytest.importorskip("tensorrt_rtx")
    monkeypatch.setattr("medseg_runtime.machine.gpu.DRIVER", "libcuda-missing.so.1")
    monkeypatch.setattr(bundle_writer, "write_bundle", lambda *_, **__: pytest.fail("it was exported first"))
    code, printed, err = medseg_export("--ckpt", run_of("flow"), "--out", tmp_path / "bundle", *option)
    assert (code, printed) == (1, "")
    assert re.fullmatch(rf"medseg-export: error: .*{match}", err)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_a_run_is_one_line(medseg_export, tmp_path):
    code, _, err = medseg_export("--ckpt", tmp_path, "--out", tmp_path / "bundle")
    assert code == 1
    assert "holds no training run. Give the folder" in err
    assert "Traceback" not in err
