"""`medseg-export` on the command line: what it prints, what it writes, and what it refuses before any work."""

import re

import pytest

from medseg_export import bundle_writer
from medseg_export.checks import low_precision_gate
from medseg_runtime.model.bundle import Bundle


def test_the_command_prints_parity_and_what_it_wrote(medseg_export, run_of, bundle_of, tmp_path, monkeypatch):
    graphs = Bundle.load(bundle_of("flow")).graphs
    monkeypatch.setattr(bundle_writer, "onnx_graph", lambda name, *_: graphs[name])
    code, out, _ = medseg_export("--ckpt", run_of("flow"), "--out", tmp_path / "bundle", "--steps", 3)
    assert code == 0
    assert "mean probability of 16 samples" in out
    assert Bundle.load(tmp_path / "bundle").sha256[:12] in out
    assert Bundle.load(tmp_path / "bundle").manifest.sampling.steps == 3


def test_half_writes_low_precision_graphs_and_prints_their_judgement(
    medseg_export, run_of, half_bundle_of, tmp_path, monkeypatch
):
    made = Bundle.load(half_bundle_of("flow"))
    monkeypatch.setattr(bundle_writer, "onnx_graph", lambda name, *_: made.graphs[name])
    monkeypatch.setattr(low_precision_gate, "half_graphs", lambda *_: made.half)
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
    monkeypatch.setattr("medseg_runtime.machine.gpu.DRIVER", "libcuda-of-nobody.so.1")
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
