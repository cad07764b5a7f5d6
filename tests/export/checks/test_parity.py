"""An export whose graphs differ from torch is refused."""

import json
from typing import get_args

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from medseg_export import bundle_writer
from medseg_export.bundle_writer import write_bundle
from medseg_export.checks import parity
from medseg_runtime.errors import ExportError
from medseg_runtime.model.bundle import Bundle
from medseg_runtime.model.signatures import GraphName
from medseg_trainer.models.graphs import TorchBackend
from medseg_trainer.training.run_folder import RunFolder
from tests.export.kinds import EVERY_KIND

EVERY_GRAPH = pytest.mark.parametrize("graph", get_args(GraphName))


@EVERY_KIND
def test_parity_is_kept_in_the_bundle(kind, bundle_of):
    kept = json.loads((bundle_of(kind) / "bundle.json").read_text())["parity"]
    expected = ["encoder at batch 1", *(f"{name} at batch {n}" for name in ("denoiser", "decoder") for n in (1, 4, 16))]
    assert list(kept["errors"]) == [*expected, "mean probability of 16 samples"]
    assert all(0 <= error <= 1e-4 for error in kept["errors"].values())
    assert kept["reference"] == f"torch {torch.__version__}"
    assert 0 < kept["mean probability changed by float16 weights"] < 0.2


LAST_WEIGHTS = {
    "encoder": "condition.exit.2.weight",
    "denoiser": "denoiser.exit.weight",
    "decoder": "autoencoder.decoder.exit.0.weight",
}


@EVERY_GRAPH
def test_a_graph_that_does_something_else_is_not_published(graph, run_of, bundle_of, tmp_path, monkeypatch):
    """The last weight of one exported graph is 1 % too large."""
    graphs = Bundle.load(bundle_of("flow")).graphs

    def tampered(name, *_):
        model = onnx.load_from_string(graphs[name])
        if name == graph:
            (weight,) = (t for t in model.graph.initializer if t.name.removesuffix(".half") == LAST_WEIGHTS[name])
            values = numpy_helper.to_array(weight)
            weight.CopyFrom(numpy_helper.from_array((1.01 * values).astype(values.dtype), weight.name))
        return model.SerializeToString()

    monkeypatch.setattr(bundle_writer, "onnx_graph", tampered)
    with pytest.raises(ExportError, match=rf"do not agree with torch: {graph} at batch 1 differs by .*\. Export with"):
        write_bundle(RunFolder(run_of("flow")), tmp_path / "bundle", steps=None, force=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("errors", [[0.0, float("nan")], [float("nan"), 0.0]])
def test_nan_fails_a_comparison(errors):
    assert not parity.Comparison("denoiser", parity._largest(errors), 1e-4).passed


@pytest.mark.parametrize(
    ("errors", "passed"), [([1.0, 1e-6, 1.0], True), ([1.0, 1.0, 1.0], False), ([1e-6, float("nan"), 1e-6], False)]
)
def test_the_best_attempt_of_a_codebook_model_counts_unless_one_is_nan(errors, passed, monkeypatch):
    monkeypatch.setattr(
        parity, "compare_graphs", lambda *arguments: [parity.Comparison("decoder", errors[arguments[3]], 1e-4)]
    )
    monkeypatch.setattr(parity, "compare_sampling", lambda *_: [])
    if passed:
        assert [check.error for check in parity.check_parity(None, None, None, 3)] == [1e-6]
    else:
        with pytest.raises(ExportError, match="do not agree with torch: decoder differs"):
            parity.check_parity(None, None, None, 3)


def test_a_single_nan_in_one_output_fails_its_graph(bundle_of, run_of):
    manifest = Bundle.load(bundle_of("flow")).manifest

    class Broken(TorchBackend):
        """NaN in one output, at one time, of one graph."""

        calls = 0

        def run(self, graph, feeds):
            outputs = super().run(graph, feeds)
            self.calls += graph == "denoiser"
            if graph == "denoiser" and self.calls == 3:
                outputs[1][0, 0, 0, 0] = np.nan
            return outputs

    networks = RunFolder(run_of("flow")).networks()
    checks = parity.compare_graphs(manifest, TorchBackend(networks), Broken(networks))
    assert [check.name for check in checks if not check.passed] == ["denoiser at batch 1"]
