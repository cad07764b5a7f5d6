"""A run is exported as a bundle that computes what the trained network computes, or not at all."""

import json
import math
import shutil
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from medseg_export import bundle_writer
from medseg_export.bundle_writer import write_bundle
from medseg_export.checks import parity
from medseg_export.graphs import to_onnx
from medseg_runtime import Segmenter
from medseg_runtime.backends.opening import open_backend
from medseg_runtime.errors import CheckpointError, OutputError, ParameterError
from medseg_runtime.files.publish import PARTIAL
from medseg_runtime.model.bundle import MAX_BATCH, Bundle
from medseg_runtime.model.signatures import GraphName
from medseg_trainer.evaluation.evaluate import Evaluation
from medseg_trainer.evaluation.statistics import Figure
from medseg_trainer.models.graphs import TorchBackend
from medseg_trainer.training.run_folder import RunFolder
from tests.export.kinds import EVERY_KIND

QUICK = pytest.mark.usefixtures("quick")
GRAPHS = get_args(GraphName)
EVERY_GRAPH = pytest.mark.parametrize("graph", GRAPHS)


@EVERY_KIND
def test_the_runtime_loads_what_was_exported(kind, bundle_of, kinds):
    config, _ = kinds[kind]
    manifest = Bundle.load(bundle_of(kind)).manifest
    assert (manifest.name, manifest.classes, manifest.input) == (config.name, config.classes, config.input)
    assert (manifest.path, manifest.sampling, manifest.latent) == (config.path, config.sampling, config.latent)
    assert {path.name for path in bundle_of(kind).iterdir()} == {
        "bundle.json",
        "README.md",
        "encoder.onnx",
        "denoiser.onnx",
        "decoder.onnx",
    }


# --- sampling from it


@EVERY_KIND
def test_the_bundle_samples_as_the_run_does(kind, bundle_of, run_of, image):
    bundle = Bundle.load(bundle_of(kind))
    served = Segmenter(bundle.manifest, open_backend("onnxruntime", bundle))(image(kind), samples=4)
    trained = Segmenter(bundle.manifest, TorchBackend(RunFolder(run_of(kind)).networks()))(image(kind), samples=4)
    height, width = image(kind).shape[:2]
    axis = (len(bundle.manifest.classes),) if kind == "classes" else ()
    assert served.masks.shape == (4, *axis, height, width)
    assert served.sampler == {"flow": "euler", "paper": "ddim", "classes": "euler"}[kind]
    if kind != "paper":  # its random codes change with the last bit
        np.testing.assert_allclose(served.mean_probability, trained.mean_probability, atol=5e-3)  # float16 weights


@pytest.mark.slow
def test_classes_exclude_each_other(bundle_of, image):
    masks = Segmenter.load(bundle_of("classes"))(image("classes"), samples=3).masks
    assert masks.sum(axis=1).max() <= 1


def test_samples_are_the_same_however_they_are_batched(bundle_of, image):
    # `auto` may select bfloat16, which rounds differently at other batch sizes
    whole = Segmenter.load(bundle_of("flow"), backend="onnxruntime")(image("flow"), samples=16)
    for max_batch in (1, 4, 5):
        split = Segmenter.load(bundle_of("flow"), backend="onnxruntime", max_batch=max_batch)(image("flow"), samples=16)
        np.testing.assert_array_equal(split.masks, whole.masks)
        np.testing.assert_allclose(split.mean_probability, whole.mean_probability, atol=1e-6)
    assert len({mask.tobytes() for mask in whole.masks}) > 1


def test_more_samples_than_a_batch_holds_go_in_several(bundle_of, image):
    segmenter = Segmenter.load(bundle_of("flow"), backend="onnxruntime")
    many, few = segmenter(image("flow"), samples=MAX_BATCH + 6), segmenter(image("flow"), samples=3)
    assert len(many.masks) == 70
    np.testing.assert_array_equal(many.masks[:3], few.masks)


@EVERY_KIND
def test_no_file_of_a_bundle_says_where_it_was_made(kind, bundle_of):
    here = (str(Path(to_onnx.__file__).parents[3]).encode(), str(Path(torch.__file__).parent).encode(), b"stack_trace")
    for file in bundle_of(kind).iterdir():
        content = file.read_bytes()
        assert not [trace for trace in here if trace in content], file.name


# --- publishing


@pytest.fixture
def quick(monkeypatch, bundle_of):
    """Exports take the graphs of the flow bundle, without comparison."""
    graphs = Bundle.load(bundle_of("flow")).graphs
    monkeypatch.setattr(bundle_writer, "onnx_graph", lambda name, *_: graphs[name])
    monkeypatch.setattr(parity, "check_parity", lambda *_: [])
    monkeypatch.setattr(parity, "weight_rounding", lambda *_: 0.0)


@QUICK
def test_an_existing_bundle_is_replaced_only_by_force(run_of, tmp_path):
    run, out = RunFolder(run_of("flow")), tmp_path / "bundle"
    write_bundle(run, out, steps=None, force=False)
    with pytest.raises(OutputError, match=r"bundle exists already. Choose another --out, or replace it with --force"):
        write_bundle(run, out, steps=2, force=False)
    assert Bundle.load(out).manifest.sampling.steps == 4
    write_bundle(run, out, steps=2, force=True)
    assert Bundle.load(out).manifest.sampling.steps == 2
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


@QUICK
def test_force_does_not_replace_what_is_no_bundle(run_of, tmp_path):
    run = shutil.copytree(run_of("flow"), tmp_path / "run")
    with pytest.raises(OutputError, match=r"run holds other files than a bundle, for example .* Choose another --out"):
        write_bundle(RunFolder(run), run, steps=None, force=True)
    assert RunFolder(run).networks()


@QUICK
def test_an_older_bundle_survives_a_failed_replacement(run_of, tmp_path, monkeypatch):
    run, out = RunFolder(run_of("flow")), tmp_path / "bundle"
    write_bundle(run, out, steps=None, force=False)
    rename = Path.rename

    def failing(source, target):
        if source.name.startswith(PARTIAL):
            raise OSError(28, "No space left on device")
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OutputError, match=r"cannot be written: No space left on device"):
        write_bundle(run, out, steps=2, force=True)
    assert Bundle.load(out).manifest.sampling.steps == 4
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


@pytest.mark.parametrize("steps", [0, 1001])
@QUICK
def test_impossible_default_steps_are_refused(steps, run_of, tmp_path):
    with pytest.raises(ParameterError, match="steps is out of range"):
        write_bundle(RunFolder(run_of("flow")), tmp_path / "bundle", steps=steps, force=False)
    assert not list(tmp_path.iterdir())


@QUICK
def test_an_unfinished_run_is_not_exported(run_of, tmp_path):
    run = shutil.copytree(run_of("flow"), tmp_path / "run")
    state = run / "state" / "denoiser.safetensors"
    with safe_open(state, "pt") as opened:
        progress = json.loads(opened.metadata()["progress"])
    save_file(load_file(state), state, {"progress": json.dumps(progress | {"step": 2})})
    with pytest.raises(CheckpointError, match=r"the denoiser is at step 2 of 3. Run the same `medseg-train fit`"):
        write_bundle(RunFolder(run), tmp_path / "bundle", steps=None, force=False)
    shutil.rmtree(run / "state")  # a run without its state counts as finished ...
    write_bundle(RunFolder(run), tmp_path / "bundle", steps=None, force=False)
    (run / "denoiser.safetensors").unlink()  # ... but not one without weights
    with pytest.raises(CheckpointError, match="denoiser has not been trained yet"):
        write_bundle(RunFolder(run), tmp_path / "other", steps=None, force=False)


@QUICK
def test_the_bundle_tells_where_it_comes_from(run_of, tmp_path):
    run = shutil.copytree(run_of("flow"), tmp_path / "run")
    measured = Evaluation(
        model="micro",
        bundle_sha256="of an earlier export",
        kept=RunFolder(run).kept(),
        split="val",
        images=2,
        groups=1,
        grouped_by="patients",
        samples=4,
        steps=4,
        sampler="euler",
        seed=0,
        backend="torch",
        date="2026-11-23",
        command="c",
        seconds=1.0,
        figures={"ged": Figure(0.25, 0.2, 0.3), "hd95": Figure(math.nan, math.nan, math.nan)},
        reliability=(),
    )
    (run / "evaluation.json").write_text(measured.to_json())
    evaluation = json.loads(measured.to_json())
    del evaluation["bundle_sha256"], evaluation["kept"]
    bundle, _ = write_bundle(RunFolder(run), tmp_path / "bundle", steps=None, force=False)
    manifest = bundle.manifest
    assert manifest.metrics == evaluation
    assert manifest.training["data"] == json.loads((run / "data.json").read_text())
    assert manifest.training["steps"] == {"mask autoencoder": 3, "denoiser": 3}
    assert {"torch", "onnx", "numpy", "medseglatdiff", "onnxruntime"} <= manifest.versions.keys()
    card = (bundle.folder / "README.md").read_text()
    assert "not a medical device" in card.lower()
    assert "| 0.250 | 0.200 to 0.300 |" in card


@QUICK
@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ('{"kept": "denoiser weights of step 1"}', "belongs to other weights than these"),
        ('{"kept": ', "is damaged"),
        ('{"kept": "{kept}", "figures": []}', "is not as this version writes it"),
    ],
)
def test_figures_of_other_weights_do_not_get_into_a_bundle(content, problem, run_of, tmp_path):
    run = shutil.copytree(run_of("flow"), tmp_path / "run")
    (run / "evaluation.json").write_text(content.replace("{kept}", RunFolder(run).kept()))
    with pytest.raises(CheckpointError, match=rf"evaluation\.json {problem}.*delete"):
        write_bundle(RunFolder(run), tmp_path / "bundle", steps=None, force=False)
    assert not (tmp_path / "bundle").exists()
