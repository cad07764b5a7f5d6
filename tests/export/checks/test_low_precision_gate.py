"""Low-precision graphs are published only if they draw the masks of float32."""

import copy
import json

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from torch import nn

from medseg_export import bundle_writer
from medseg_export.checks import low_precision_gate, parity
from medseg_export.checks.low_precision_gate import Images, Trial
from medseg_export.checks.ranges import Ranges
from medseg_export.checks.reference import ReferenceBackend
from medseg_export.graphs.low_precision import to_low_precision
from medseg_export.graphs.to_onnx import onnx_graph
from medseg_runtime.backends.host_loop import HostLoop
from medseg_runtime.backends.opening import open_backend
from medseg_runtime.errors import DataError, ExportError
from medseg_runtime.model.bundle import MAX_BATCH, Bundle
from medseg_runtime.model.sampler import MAX_PERIOD, time_features
from medseg_trainer.models.graphs import TorchBackend
from medseg_trainer.models.manifest import manifest_of
from medseg_trainer.training.run_folder import RunFolder

GRAPHS = ("encoder", "denoiser", "decoder")
EVERY_GRAPH = pytest.mark.parametrize("graph", GRAPHS)
OVERFLOW = 3e4
LIFT = 2.5
"""Puts a decoder's logits at 1.3 with a deviation of 0.5. As trained they lie about -1.2: of such masks, 20 pixels of 4096, one that
a rounding turns is several hundredths of the Dice."""
SCALED = "mask_autoencoder.decoder.blocks.0.conv1"


@pytest.fixture
def networks(run_of):
    return RunFolder(run_of("flow")).networks()


@pytest.fixture
def manifest(run_of):
    return manifest_of(RunFolder(run_of("flow")).config())


@pytest.fixture
def huge(networks):
    """The networks with one convolution scaled beyond the range of float16. The next norm undoes the scale, so the masks are the same."""
    huge = copy.deepcopy(networks)
    convolution = huge.mask_autoencoder.decoder.blocks[0].conv1
    with torch.no_grad():
        for parameter in convolution.parameters():
            parameter.mul_(OVERFLOW)
    return huge


def lifted(networks):
    """Return networks with few logits near the threshold, so that their masks hardly depend on how a processor rounds."""
    clear = copy.deepcopy(networks)
    with torch.no_grad():
        clear.mask_autoencoder.decoder.exit[0].bias.add_(LIFT)
    return clear


def on_onnx_runtime(bundle, manifest, graphs):
    return open_backend("onnxruntime", Bundle(bundle.folder, manifest, "", graphs))


# --- what the graphs are


def types(model):
    """Name -> element type of every tensor."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    found = {value.name: value.type.tensor_type.elem_type for value in (*inferred.value_info, *inferred.input)}
    return found | {tensor.name: tensor.data_type for tensor in inferred.initializer}


def assert_mixed(model, low):
    """Convolutions and attention products are in low precision; norms, softmax, the time embedding, inputs and outputs in float32."""
    of = types(model)
    for node in model.graph.node:
        if node.op_type in ("Conv", "MatMul"):
            assert {of[name] for name in node.input} == {low}, node.name
        assert node.op_type != "InstanceNormalization", node.name
        if node.op_type in ("GroupNormalization", "Softmax", "Gemm"):
            assert {of[name] for name in node.input} == {TensorProto.FLOAT}, node.name
    for value in (*model.graph.input, *model.graph.output):
        assert value.type.tensor_type.elem_type == TensorProto.FLOAT, value.name


@EVERY_GRAPH
def test_only_convolutions_and_products_are_in_float16(graph, bundle):
    entry = bundle.manifest.half[graph]
    model = onnx.load_from_string(bundle.half[graph])
    assert_mixed(model, TensorProto.FLOAT16)
    assert (entry.file, entry.precision, entry.opset) == (f"{graph}.float16.onnx", "float16", 21)
    assert [value.name for value in model.graph.input] == list(entry.inputs)
    assert [value.name for value in model.graph.output] == list(entry.outputs)


def test_the_rows_of_a_sampler_stay_in_float32(bundle):
    """Rows that float16 would round (its spacing at 1 is 9.8e-4) are applied exactly."""
    backend = ReferenceBackend(bundle.manifest, bundle.half, "float16")
    generator = np.random.default_rng(0)
    inputs = bundle.manifest.graphs["denoiser"].inputs
    feeds = {name: parity._random(generator, shape, 2) for name, shape in inputs.items()}
    feeds["row"] = np.array([1.00012, 0, 0.70007, 0.30011, 0.10003], np.float32)
    next_latent, denoised = backend.run("denoiser", feeds)
    _, network = backend.run("denoiser", feeds | {"row": np.array([0, 1, 0, 0, 0], np.float32)})
    _, scaled = backend.run("denoiser", feeds | {"row": np.array([0, 1.00012, 0, 0, 0], np.float32)})
    np.testing.assert_allclose(scaled, 1.00012 * network, rtol=1e-6)
    np.testing.assert_allclose(denoised, 1.00012 * feeds["latent"], rtol=1e-6)
    expected = 0.70007 * feeds["latent"] + 0.30011 * denoised + 0.10003 * feeds["extra"]
    np.testing.assert_allclose(next_latent, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("batch", [1, 3, MAX_BATCH])
def test_low_precision_graphs_take_any_batch(batch, bundle):
    generator = np.random.default_rng(batch)
    full = on_onnx_runtime(bundle, bundle.manifest, bundle.graphs)
    half = on_onnx_runtime(bundle, bundle.manifest, bundle.half)
    for name in ("denoiser", "decoder"):
        inputs = bundle.manifest.graphs[name].inputs
        feeds = {key: parity._random(generator, shape, batch) for key, shape in inputs.items()}
        for found, expected in zip(half.run(name, feeds), full.run(name, feeds), strict=True):
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, expected, atol=4e-3 * np.abs(expected).max())


def test_conversion_does_not_change_the_original_network(networks):
    before = {name: value.clone() for name, value in networks.denoiser.state_dict().items()}
    low = to_low_precision(networks, "float16").denoiser
    assert low.exit.weight.dtype == torch.float16
    assert low.norm.weight.dtype == torch.float32
    for name, value in networks.denoiser.state_dict().items():
        assert torch.equal(value, before[name])
    assert not any(layer._forward_pre_hooks for layer in networks.denoiser.modules())


@pytest.mark.parametrize(("kind", "dtype"), [("flow", torch.float16), ("paper", torch.float32)])
def test_a_condition_that_ends_in_a_codebook_stays_in_float32(kind, dtype, run_of):
    condition = to_low_precision(RunFolder(run_of(kind)).networks(), "float16").condition
    assert {layer.weight.dtype for layer in condition.modules() if isinstance(layer, nn.Conv2d)} == {dtype}


# --- what is recorded


def test_the_bundle_records_the_checks_of_float16(bundle):
    kept = bundle.manifest.parity["half"]
    assert kept["precision"] == "float16"
    assert kept["images"].endswith(" val images of LIDC-IDRI-slices")
    assert 0.995 <= kept["dice"] <= 1
    assert 0 < kept["largest norm input"]["value"] <= kept["largest magnitude"]["value"] < 65504 / 4
    assert list(kept["denoiser error by network time"]) == ["1", "50", "250", "500", "750", "999"]
    assert all(check["found"] <= check["at most"] for check in kept["checks"].values())
    assert any("onnx.reference" in name for name in kept["checks"])
    assert kept["refused"] == {}
    card = (bundle.folder / "README.md").read_text()
    assert f"{kept['dice']:.4f}" in card.partition("## Low precision")[2]


# --- the checks


@pytest.mark.slow
def test_what_overflows_float16_is_published_in_bfloat16(huge, networks, manifest):
    """The same masks, for bfloat16 reaches as far as float32; the refusal says where float16 ends."""
    images = Images.synthetic(manifest)
    verdict = low_precision_gate.judge(lifted(huge), manifest, images)
    assert verdict.taken.precision == "bfloat16"
    assert f"largest magnitude ({SCALED}" in verdict.describe()["refused"]["float16"]
    model = onnx.load_from_string(verdict.taken.graphs["decoder"])
    assert_mixed(model, TensorProto.BFLOAT16)
    assert [entry.version for entry in model.opset_import if not entry.domain] == [22]
    (found,), (expected,) = (low_precision_gate.draw(manifest, TorchBackend(each), images) for each in (huge, networks))
    np.testing.assert_allclose(found.mean_probability, expected.mean_probability, atol=1e-4)
    json.dumps(verdict.describe(), allow_nan=False)


def test_the_evaluator_sees_an_overflow_and_onnx_runtime_does_not(networks, huge, manifest, bundle):
    decoder = onnx_graph("decoder", to_low_precision(huge, "float16").graphs()["decoder"], manifest)
    trial = Trial("float16", graphs=bundle.half | {"decoder": decoder})
    exported = on_onnx_runtime(bundle, manifest, trial.graphs)
    low_precision_gate.run_checks(trial, manifest, TorchBackend(networks), exported, Images.synthetic(manifest), [])
    assert trial.missed() == "onnx.reference returned NaN or infinite values from the decoder"
    assert not trial.passed


class EarlyRounding(HostLoop):
    """The trained network with sinusoids computed from a float16 time, as in a converted graph."""

    name, version, precision = "early rounding", "0", "float32"

    def __init__(self, networks, manifest):
        self._exact = TorchBackend(networks)
        self._rounded = {}
        half = manifest.time_features // 2
        frequency = np.exp(-np.log(MAX_PERIOD) * np.arange(half) / half).astype(np.float16)
        for time in parity.TIMES:
            angle = (np.float16(time) * frequency).astype(np.float32)[None]
            features = time_features(np.array([time]), manifest.time_features)
            self._rounded[features.tobytes()] = np.concatenate([np.cos(angle), np.sin(angle)], axis=1)

    def run(self, graph, feeds):
        if graph == "denoiser":
            feeds = feeds | {"time_features": self._rounded[feeds["time_features"].tobytes()]}
        return self._exact.run(graph, feeds)


def test_a_time_embedding_in_float16_fails_at_late_times(networks, manifest, bundle):
    rounded = EarlyRounding(networks, manifest)
    errors = parity.time_errors(manifest, TorchBackend(networks), rounded)
    assert errors[999.0] > 10 * errors[1.0]
    trial = Trial("float16", graphs=bundle.half)
    low_precision_gate.run_checks(trial, manifest, TorchBackend(networks), rounded, Images.synthetic(manifest), [])
    assert "denoiser at batch 1" in trial.missed()


def test_ranges_find_the_layer_and_leave_no_trace(huge, manifest):
    with Ranges(huge) as ranges:
        low_precision_gate.draw(manifest, TorchBackend(huge), Images.synthetic(manifest))
    assert ranges.largest.value > low_precision_gate.LARGEST_FLOAT16
    assert ranges.largest.where.startswith(SCALED)
    assert ranges.norm_input.value == ranges.largest.value
    assert ranges.norm_input.where.startswith("mask_autoencoder.decoder.blocks.0.norm2")
    assert not any(layer._forward_pre_hooks for layer in huge.mask_autoencoder.modules())


def test_networks_that_fail_in_both_precisions_are_not_published(run_of, bundle, tmp_path, monkeypatch):
    """With a tolerance of zero both precisions fail their first check."""
    monkeypatch.setattr(low_precision_gate, "SPACINGS", 0.0)
    monkeypatch.setattr(low_precision_gate, "low_precision_graphs", lambda *_: bundle.half)
    monkeypatch.setattr(bundle_writer, "onnx_graph", lambda name, *_: bundle.graphs[name])
    with pytest.raises(ExportError, match=r"in low precision: float16: .*; bfloat16: .*\. Export without --half"):
        bundle_writer.write_bundle(RunFolder(run_of("flow")), tmp_path / "bundle", steps=None, force=False, half=True)
    assert not list(tmp_path.iterdir())


def test_missing_val_images_are_named_before_anything_is_exported(run_of, tmp_path):
    with pytest.raises(DataError, match="there is no folder 'nowhere'"):
        bundle_writer.write_bundle(
            RunFolder(run_of("flow")),
            tmp_path / "bundle",
            steps=None,
            force=False,
            half=True,
            data=tmp_path / "nowhere",
        )
