"""ONNX Runtime's loop on a device: here the device is the CPU, where the same bindings run for real; each fallback is refused."""

import threading
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("onnxruntime")

import onnxruntime as ort

from medseg_runtime import Segmenter
from medseg_runtime.backends.gpu.capture_policy import CudaGraphWarning
from medseg_runtime.backends.gpu.onnxruntime import backend as cuda_backend
from medseg_runtime.backends.gpu.onnxruntime import stream
from medseg_runtime.backends.gpu.onnxruntime.backend import CudaBackend, Device
from medseg_runtime.backends.opening import open_backend
from medseg_runtime.errors import BackendError, ParameterError
from medseg_runtime.model.bundle import Bundle
from medseg_runtime.model.sampler import sampler_table, time_features

IMAGES = np.random.default_rng(0).integers(0, 255, (3, 11, 9), dtype=np.uint8)
SAMPLERS = [("flow", "euler"), ("flow", "dpmpp"), ("epsilon", "ddim"), ("epsilon", "ddpm")]
HAS_CUDA = "CUDAExecutionProvider" in ort.get_available_providers()


class OnTheCpu(CudaBackend):
    """All but the device is what runs on a GPU."""

    device = Device(provider="CPUExecutionProvider", memory="cpu")


@pytest.mark.parametrize(("objective", "sampler"), SAMPLERS)
def test_the_bound_loop_draws_what_one_run_per_step_draws_to_the_last_bit(tmp_path, tiny, objective, sampler):
    bundle = Bundle.load(tiny.write_bundle(tmp_path, objective))
    segmenter = Segmenter(bundle.manifest, OnTheCpu(bundle))
    reference = Segmenter(bundle.manifest, open_backend("onnxruntime", bundle))
    for seed, image in enumerate(IMAGES):
        for samples, steps in ((5, 4), (2, 1), (5, 3)):
            arguments = {"samples": samples, "steps": steps, "sampler": sampler, "seed": seed}
            found, expected = segmenter(image, **arguments), reference(image, **arguments)
            assert (found.masks == expected.masks).all()
            np.testing.assert_array_equal(found.mean_probability, expected.mean_probability)


def noted(backend, manifest, value, sampler="dpmpp"):
    table = sampler_table(manifest.path, sampler, 3)
    noise = np.random.default_rng(int(10 * value)).standard_normal((3, 2, 4, 4)).astype(np.float32)
    condition = backend.encode(np.full((1, 1, 8, 8), value, np.float32))
    return backend.denoise(condition, noise, table, time_features(table.t, manifest.time_features), lambda: noise)


def test_what_was_noted_can_be_decoded_in_any_order_and_twice(tiny_bundle):
    backend, reference = OnTheCpu(tiny_bundle), open_backend("onnxruntime", tiny_bundle)
    latents = [noted(backend, tiny_bundle.manifest, value) for value in (0.2, 0.8)]
    expected = [reference.decode(noted(reference, tiny_bundle.manifest, value)) for value in (0.2, 0.8)]
    for k in (1, 0, 0, 1):
        np.testing.assert_array_equal(backend.decode(latents[k]), expected[k])


def test_an_image_is_encoded_once_and_the_table_uploaded_once(tiny_bundle, monkeypatch):
    backend = OnTheCpu(tiny_bundle)
    segmenter = Segmenter(tiny_bundle.manifest, backend, max_batch=4)
    ran = []
    original = stream.OnnxRuntimeStream._run

    def spy(self, bound):
        ran.append(bound.graph)
        original(self, bound)

    monkeypatch.setattr(stream.OnnxRuntimeStream, "_run", spy)
    segmenter(IMAGES[0], samples=8, steps=2)
    assert ran == ["encoder", "denoiser", "denoiser", "decoder", "denoiser", "denoiser", "decoder"]
    plan = next(iter(backend._stream._plans.values()))
    uploaded = plan.uploaded
    segmenter(IMAGES[1], samples=8, steps=2)
    assert plan.uploaded is uploaded


def test_clones_in_threads_draw_what_one_draws(tiny_bundle):
    first = OnTheCpu(tiny_bundle)
    segmenters = [Segmenter(tiny_bundle.manifest, first.clone()) for _ in range(3)]
    reference = Segmenter(tiny_bundle.manifest, open_backend("onnxruntime", tiny_bundle))
    found = {}

    def draw(k):
        found[k] = [segmenters[k](IMAGES[k], samples=4, steps=8, seed=seed).masks for seed in range(6)]

    threads = [threading.Thread(target=draw, args=[k]) for k in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k in range(3):
        for seed in range(6):
            assert (found[k][seed] == reference(IMAGES[k], samples=4, steps=8, seed=seed).masks).all()


def test_captured_runs_have_numbers_of_their_own_and_are_bounded(tiny_bundle, monkeypatch):
    monkeypatch.setattr(stream, "MAX_GRAPHS", 9)
    first = OnTheCpu(tiny_bundle)  # its encoder: 1
    second = first.clone()  # 2
    for backend in (first, second):
        backend.decode(noted(backend, tiny_bundle.manifest, 0.5))  # three steps and a decoder each
    numbers = [
        int(bound.options.get_run_config_entry("gpu_graph_id"))
        for backend in (first, second)
        for plan in backend._stream._plans.values()
        for bound in (backend._stream._encoder, *plan.steps, plan.decoder)
    ]
    captured = [number for number in numbers if number != stream.NO_GRAPH]
    assert sorted(captured) == list(range(1, 10))
    assert numbers.count(stream.NO_GRAPH) == 1
    plain = OnTheCpu(tiny_bundle, cuda_graphs=False)
    assert plain._stream._encoder.options.get_run_config_entry("gpu_graph_id") == "-1"
    assert plain.why == "it was asked for; launched one by one (CUDA graphs are off)"


def test_plans_are_bounded(tiny_bundle):
    backend = OnTheCpu(tiny_bundle)
    segmenter = Segmenter(tiny_bundle.manifest, backend)
    for steps in range(1, 12):
        segmenter(IMAGES[0], samples=2, steps=steps)
    assert len(backend._stream._plans) == stream.KEPT_PLANS


def test_a_session_that_refuses_cuda_graphs_runs_without_and_says_so(tiny_bundle, monkeypatch):
    original = ort.InferenceSession
    asked = []

    def refuses(content, options, providers, **_):
        asked.append(providers[0][1])
        if providers[0][1].get("enable_cuda_graph"):
            raise RuntimeError("This session cannot use the graph capture feature")
        return original(content, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(cuda_backend.ort, "InferenceSession", refuses)
    # the device is CUDA in name only until the sessions are there
    monkeypatch.setattr(OnTheCpu, "device", replace(OnTheCpu.device, memory="cuda"))
    monkeypatch.setattr(
        OnTheCpu,
        "_new_stream",
        lambda self: stream.OnnxRuntimeStream(self._shared, self._manifest, "cpu", self._policy),
    )
    with pytest.warns(CudaGraphWarning, match="cannot use the graph capture feature"):
        backend = OnTheCpu(tiny_bundle)
    assert [bool(options) for options in asked] == [True, False, False, False]
    assert "launched one by one (" in backend.why
    assert np.isfinite(backend.decode(noted(backend, tiny_bundle.manifest, 0.5))).all()


@pytest.mark.skipif(HAS_CUDA, reason="an ONNX Runtime with CUDA is installed")
def test_an_onnx_runtime_for_the_cpu_is_refused_with_the_repair(tiny_folder):
    assert CudaBackend.precisions() == ()
    with pytest.raises(BackendError, match=r"has no CUDAExecutionProvider\. Run `pip uninstall .*medseglatdiff\[gpu\]"):
        Segmenter.load(tiny_folder, backend="cuda")


def test_a_session_on_another_provider_than_asked_for_is_refused(tiny_bundle, monkeypatch):
    """With the GPU package but without CUDA's libraries, ONNX Runtime makes a CPU session and logs a line."""
    original = ort.InferenceSession
    monkeypatch.setattr(cuda_backend.ort, "get_available_providers", lambda: ["CUDAExecutionProvider"])

    def falls_back(content, options, providers, **_):
        assert options.get_session_config_entry("session.disable_cpu_ep_fallback") == "1"
        assert providers[0][0] == "CUDAExecutionProvider"
        return original(content, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(cuda_backend.ort, "InferenceSession", falls_back)
    with pytest.raises(BackendError, match=r"on CPUExecutionProvider, not on CUDAExecutionProvider\. .*libraries"):
        CudaBackend(tiny_bundle, cuda_graphs=False)


def test_the_switch_against_falling_back_is_one_that_onnx_runtime_knows(tiny_bundle):
    options = ort.SessionOptions()
    for key, value in cuda_backend.CUDA.session_options.items():
        options.add_session_config_entry(key, value)
    with pytest.raises(Exception, match="disabled fallback to the CPU"):
        ort.InferenceSession(tiny_bundle.graphs["decoder"], options, providers=["CPUExecutionProvider"])


def test_nan_is_refused_and_leaves_nothing_behind(tiny_bundle):
    backend = OnTheCpu(tiny_bundle)
    expected = backend.decode(noted(backend, tiny_bundle.manifest, 0.5))
    bad = noted(backend, tiny_bundle.manifest, 0.5)
    bad.noise[0] = np.nan
    with pytest.raises(BackendError, match="NaN or infinite values from the denoiser"):
        backend.decode(bad)
    np.testing.assert_array_equal(backend.decode(noted(backend, tiny_bundle.manifest, 0.5)), expected)


def test_what_a_bundle_does_not_have_is_refused(tiny_bundle):
    with pytest.raises(ParameterError, match=r"no float16 graphs\. .*--half"):
        OnTheCpu(tiny_bundle, precision="float16")
    with pytest.raises(ParameterError, match="Leave threads out"):
        OnTheCpu(tiny_bundle, threads=2)
    assert OnTheCpu(tiny_bundle).precision == "float32"


def test_the_low_precision_graphs_are_taken_where_there_are_any(tiny_bundle):
    half = {name: replace(graph, precision="float16") for name, graph in tiny_bundle.manifest.graphs.items()}
    with_half = replace(tiny_bundle, manifest=replace(tiny_bundle.manifest, half=half), half=tiny_bundle.graphs)
    assert OnTheCpu(with_half).precision == "float16"
    assert OnTheCpu(with_half, precision="float32").precision == "float32"
    with pytest.raises(ParameterError, match="no bfloat16 graphs"):
        OnTheCpu(with_half, precision="bfloat16")
