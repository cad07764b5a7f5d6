"""The TensorRT runner on a GPU in numpy that enforces NVIDIA's rules; `fake_nvidia.py` says how."""

import ast
import gc
import hashlib
import inspect
import json
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("cuda.bindings.runtime")
pytest.importorskip("tensorrt_rtx")

from medseg_runtime import Segmenter
from medseg_runtime.backends.gpu import cuda
from medseg_runtime.backends.gpu.capture_policy import CudaGraphWarning
from medseg_runtime.backends.gpu.tensorrt import backend as tensorrt_backend
from medseg_runtime.backends.gpu.tensorrt.engine_files import EngineRecord, Flags, Plan, Profile
from medseg_runtime.backends.gpu.tensorrt.stream import KEPT_PLANS
from medseg_runtime.errors import BackendError, EngineError, ParameterError
from medseg_runtime.machine.gpu import Gpu
from medseg_runtime.model.bundle import Bundle
from medseg_runtime.model.sampler import sampler_table, time_features

IMAGES = np.random.default_rng(0).integers(0, 255, (4, 11, 9), dtype=np.uint8)
SAMPLERS = [("flow", "euler"), ("flow", "dpmpp"), ("epsilon", "ddim"), ("epsilon", "ddpm")]
WIDE, STATIC = Profile(min=1, opt=4, max=16), Profile(min=3, opt=3, max=3)
VERSION = "11.4.0.1"


@pytest.fixture
def machine(tiny, fake_nvidia, monkeypatch):
    """The fake GPU, and nothing held on it when the test is over."""
    machine = fake_nvidia.Nvidia(tiny.Numpy().run)
    fake_nvidia.install(monkeypatch, machine)
    gpu = Gpu(name="numpy", compute_capability=90, driver="1", cuda="13.0")
    monkeypatch.setattr(tensorrt_backend, "find_gpu", lambda: gpu)
    return machine


def plan_text(bundle, graph, profiles, **changes):
    described = bundle.manifest.graphs[graph]
    profiles = [(p.min, p.opt, p.max) for p in profiles]
    content = {"graph": graph, "inputs": described.inputs, "outputs": described.outputs, "profiles": profiles}
    return json.dumps(content | {"scratch": 700 + len(graph)} | changes).encode()


def write_engines(folder, profiles=(WIDE,), changes=None, record_changes=None, contents=None):
    """Write what `medseg-export build` would, and return the bundle's folder."""
    bundle = Bundle.load(folder)
    plans = {
        name: plan_text(bundle, name, profiles if name != "encoder" else (WIDE,), **(changes or {}).get(name, {}))
        for name in bundle.graphs
    } | (contents or {})
    described = {
        name: Plan(
            file=f"{name}.plan",
            sha256=hashlib.sha256(content).hexdigest(),
            bytes=len(content),
            source_sha256=bundle.manifest.graphs[name].sha256,
        )
        for name, content in plans.items()
    }
    fields = {
        "library": "tensorrt",
        "version": VERSION,
        "precision": "float32",
        "gpu": "numpy",
        "compute_capabilities": (90,),
        "profiles": tuple(profiles),
        "flags": Flags(version_compatible=False, hardware="none", workspace_mib=None, optimization_level=3),
        "plans": described,
        "built": "2026-11-24",
        "driver": "1",
        "cuda": "13.0",
    }
    record = EngineRecord(**fields | (record_changes or {}))
    target = folder / "engines" / record.target
    target.mkdir(parents=True)
    (target / "engine.json").write_text(record.to_json())
    for name, content in plans.items():
        (target / f"{name}.plan").write_bytes(content)
    return folder


@pytest.fixture
def load(machine, tiny, tmp_path):
    """load(objective, profiles=..., max_batch=..., cuda_graphs=...) is a segmenter on fresh engines."""
    opened = []

    def segmenter(objective="flow", *, max_batch=16, cuda_graphs=True, **written):
        folder = tiny.write_bundle(tmp_path, objective)
        bundle = Bundle.load(write_engines(folder, **written))
        backend = tensorrt_backend.TensorRtBackend(bundle, cuda_graphs=cuda_graphs)
        opened.append(backend)
        return Segmenter(bundle.manifest, backend, max_batch=max_batch)

    yield segmenter
    for backend in opened:
        backend.close()
    opened.clear()
    assert machine.held() == {}


def same(found, expected):
    assert 0.05 < expected.confidence.mean() < 0.95
    assert (found.masks == expected.masks).all()
    np.testing.assert_array_equal(found.mean_probability, expected.mean_probability)


def calls_of(machine, work):
    start = len(machine.calls)
    work()
    counted = ("Memcpy", "Launch", "Synchronize", "execute", "Capture", "Malloc", "Alloc", "create_execution_context")
    return [name for name in machine.calls[start:] if any(word in name for word in counted)]


@pytest.mark.parametrize("cuda_graphs", [True, False], ids=["graphs", "plain"])
@pytest.mark.parametrize(("objective", "sampler"), SAMPLERS)
def test_the_loop_on_the_device_draws_what_numpy_draws_to_the_last_bit(
    machine, tiny, load, objective, sampler, cuda_graphs
):
    segmenter = load(objective, cuda_graphs=cuda_graphs)
    reference = Segmenter(segmenter.manifest, tiny.Numpy())
    for seed, image in enumerate(IMAGES):  # the first runs plainly, the second is captured, the others are replayed
        for steps in (1, 4):
            arguments = {"samples": 5, "steps": steps, "sampler": sampler, "seed": seed}
            same(segmenter(image, **arguments), reference(image, **arguments))
    assert ("cudaGraphLaunch" in machine.calls) == cuda_graphs
    assert ("cudaStreamBeginCapture" in machine.calls) == cuda_graphs


def test_a_replayed_image_is_one_launch_and_one_wait(machine, load):
    segmenter = load()

    def draw(image):
        return calls_of(machine, lambda: segmenter(image, samples=4, steps=3))

    everything = ["cudaMemcpyAsync", *5 * ["execute_async_v3"], "cudaMemcpyAsync"]
    contexts = 3 * ["create_execution_context"]
    assert draw(IMAGES[0]) == [*contexts, "cudaMemcpyAsync", *everything, "cudaStreamSynchronize"]  # the step table too
    capture = ["cudaStreamBeginCapture", *everything, "cudaStreamEndCapture"]
    replay = ["cudaGraphLaunch", "cudaStreamSynchronize"]
    assert draw(IMAGES[1]) == [*capture, *replay]
    assert draw(IMAGES[2]) == replay


def test_samplers_of_as_many_steps_share_a_graph(machine, tiny, load):
    segmenter = load()
    reference = Segmenter(segmenter.manifest, tiny.Numpy())
    for seed in (0, 1):
        same(*(s(IMAGES[0], samples=4, steps=3, sampler="dpmpp", seed=seed) for s in (segmenter, reference)))
    path = replace(segmenter.manifest.path, shift=3.0)  # gives another table for the same launches
    for each in (segmenter, reference):
        each.manifest = replace(each.manifest, path=path)
    found = []
    calls = calls_of(machine, lambda: found.append(segmenter(IMAGES[1], samples=4, steps=3, sampler="dpmpp", seed=2)))
    assert calls == ["cudaMemcpyAsync", "cudaGraphLaunch", "cudaStreamSynchronize"]
    same(found[0], reference(IMAGES[1], samples=4, steps=3, sampler="dpmpp", seed=2))


def test_more_samples_than_a_batch_encode_the_image_once(machine, tiny, load):
    segmenter = load(max_batch=4)
    reference = Segmenter(segmenter.manifest, tiny.Numpy())
    for seed in range(3):
        start = len(machine.calls)
        arguments = {"samples": 10, "steps": 2, "seed": seed}
        same(segmenter(IMAGES[seed], **arguments), reference(IMAGES[seed], **arguments))
        if seed == 0:
            assert machine.calls[start:].count("execute_async_v3") == 1 + 3 * (2 + 1)


@pytest.mark.parametrize("profiles", [(STATIC, WIDE), (WIDE, STATIC)])
def test_a_static_profile_is_taken_where_one_fits(tiny, load, profiles):
    segmenter = load(profiles=profiles)
    reference = Segmenter(segmenter.manifest, tiny.Numpy())
    taken = []
    original = type(segmenter.backend._shared.engines).context

    def spy(self, graph, profile, stream):
        taken.append((graph, profile))
        return original(self, graph, profile, stream)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(segmenter.backend._shared.engines), "context", spy)
        for samples in (3, 4):
            arguments = {"samples": samples, "steps": 2}
            same(segmenter(IMAGES[0], **arguments), reference(IMAGES[0], **arguments))
    static = profiles.index(STATIC)
    profiles_taken = [profile for graph, profile in taken if graph != "encoder"]
    assert profiles_taken == [static, static, 1 - static, 1 - static]
    assert [profile for graph, profile in taken if graph == "encoder"] == [0, 0]


def test_what_was_noted_can_be_decoded_in_any_order_and_twice(tiny, load):
    segmenter = load()
    backend, manifest = segmenter.backend, segmenter.manifest
    table = sampler_table(manifest.path, "dpmpp", 3)
    features = time_features(table.t, manifest.time_features)
    rng = np.random.default_rng(5)
    fields = rng.random((2, 1, 1, 8, 8), np.float32)
    noises = rng.standard_normal((2, 3, 2, 4, 4)).astype(np.float32)

    def noted(engine):
        latents = [
            engine.denoise(engine.encode(field), noise, table, features, list)
            for field, noise in zip(fields, noises, strict=True)
        ]
        return [engine.decode(latents[k]) for k in (1, 0, 0, 1)]

    for found, expected in zip(noted(backend), noted(tiny.Numpy()), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_every_refusal_of_cuda_or_tensorrt_is_an_error_of_ours(machine, load, tmp_path, sampler):
    segmenter = load("epsilon", cuda_graphs=False)
    segmenter(IMAGES[0], samples=2, steps=2, sampler=sampler)
    segmenter.backend.close()
    bundle = Bundle.load(tmp_path)
    names = set(machine.calls) - {"cudaFree", "cudaFreeHost", "cudaStreamDestroy"}
    assert len(names) > 10
    for name in sorted(names):
        machine.refuse(name)
        with pytest.raises(BackendError, match=r"\. [A-Z]"):
            Segmenter(segmenter.manifest, tensorrt_backend.TensorRtBackend(bundle))(
                IMAGES[0], samples=2, steps=2, sampler=sampler
            )
        assert machine._refusals[name] <= 0, name  # it was called, once or more
        gc.collect()
    assert machine.held() == {}  # whatever failed, the rest was freed


@pytest.mark.parametrize("name", ["cudaFree", "cudaFreeHost", "cudaStreamDestroy"])
def test_a_failure_to_free_is_an_error_too(machine, load, name):
    segmenter = load()
    machine.refuse(name)
    with pytest.raises(BackendError, match=name):
        segmenter.backend.close()
    machine.regions.clear()  # what the machine did not free
    machine.streams.clear()


@pytest.mark.parametrize(
    ("name", "call"),
    [("cudaStreamBeginCapture", 1), ("execute_async_v3", 3), ("cudaStreamEndCapture", 1), ("cudaGraphInstantiate", 1)],
)
def test_without_a_capture_the_masks_are_the_same_and_the_user_is_told_once(machine, tiny, load, name, call):
    segmenter = load()
    reference = Segmenter(segmenter.manifest, tiny.Numpy())
    assert segmenter.backend.why == "engines tensorrt-sm90, launched in CUDA graphs"
    same(*(s(IMAGES[0], samples=4, steps=3) for s in (segmenter, reference)))
    machine.refuse(name, call)
    with pytest.warns(CudaGraphWarning, match=r"CUDA graphs are off.*cuda_graphs=False"):
        found = segmenter(IMAGES[1], samples=4, steps=3, seed=1)
    same(found, reference(IMAGES[1], samples=4, steps=3, seed=1))
    assert "launched one by one (" in segmenter.backend.why
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for seed in (2, 3):
            same(*(s(IMAGES[2], samples=4, steps=3, seed=seed) for s in (segmenter, reference)))
    assert "cudaGraphLaunch" not in machine.calls
    assert not {"graphs", "executables"} & machine.held().keys()


def test_a_bounded_number_of_plans_and_graphs_is_kept(machine, tiny, load):
    segmenter = load()
    reference = Segmenter(segmenter.manifest, tiny.Numpy())
    kinds = [(samples, steps) for samples in range(1, 6) for steps in (1, 2)]
    assert len(kinds) > KEPT_PLANS
    for samples, steps in kinds:
        for seed in (0, 1):
            arguments = {"samples": samples, "steps": steps, "seed": seed}
            found, expected = (s(IMAGES[0], **arguments) for s in (segmenter, reference))
            assert (found.masks == expected.masks).all()
    held = machine.held()
    assert held["executables"] == KEPT_PLANS
    assert held["contexts"] == 3 * KEPT_PLANS


def test_clones_draw_side_by_side_on_streams_of_their_own(machine, tiny, load):
    first = load()
    reference = Segmenter(first.manifest, tiny.Numpy())
    segmenters = [Segmenter(first.manifest, first.backend.clone()) for _ in range(3)]
    assert machine.held()["streams"] == 4
    assert machine.held()["engines"] == 3
    # queued on one stream while another still has work: their scratch memory must not be shared
    for segmenter in segmenters:
        segmenter(IMAGES[0], samples=4, steps=2)
    latents = [s.backend.denoise(s.backend.encode(np.ones((1, 1, 8, 8), np.float32)), *_given(s)) for s in segmenters]
    for segmenter, each in zip(segmenters, latents, strict=True):
        segmenter.backend._stream._prepared(each)._queue_all()
    for segmenter in segmenters:
        segmenter.backend._stream._stream.wait()
    for k, segmenter in enumerate(segmenters):
        same(*(s(IMAGES[k], samples=4, steps=3, seed=k) for s in (segmenter, reference)))
    segmenters[0].backend.close()
    same(*(s(IMAGES[1], samples=4, steps=3) for s in (segmenters[1], reference)))
    del segmenter, segmenters
    gc.collect()
    assert machine.held()["streams"] == 1  # forgotten clones are freed
    same(*(s(IMAGES[1], samples=4, steps=3) for s in (first, reference)))


def _given(segmenter):
    table = sampler_table(segmenter.manifest.path, "euler", 2)
    noise = np.ones((4, 2, 4, 4), np.float32)
    return noise, table, time_features(table.t, segmenter.manifest.time_features), lambda: noise


def test_closing_frees_everything_and_ends_all_clones(machine, load):
    segmenter = load()
    clone = segmenter.backend.clone()
    for seed in (0, 1):
        segmenter(IMAGES[0], samples=4, seed=seed)
    assert machine.held()["executables"] == 1
    segmenter.backend.close()
    segmenter.backend.close()
    assert machine.held() == {}
    with pytest.raises(BackendError, match=r"closed\. Load the bundle again"):
        Segmenter(segmenter.manifest, clone)(IMAGES[0])


@pytest.mark.parametrize("samples", [2, 17])
def test_a_number_of_samples_outside_the_profile_is_refused(load, samples):
    segmenter = load(profiles=(Profile(min=3, opt=4, max=16),), max_batch=64)
    with pytest.raises(EngineError, match=rf"N from 3 to 16, not {samples} samples at once\. .*--trt-samples"):
        segmenter(IMAGES[0], samples=samples)


def test_nan_is_refused_also_where_the_decoder_hides_it(machine, tiny, load):
    segmenter = load()
    run = tiny.Numpy().run

    def hides(graph, feeds):
        if graph == "denoiser":
            return tuple(np.full_like(output, np.nan) for output in run(graph, feeds))
        return tuple(np.nan_to_num(output) for output in run(graph, feeds))

    machine.compute = hides
    with pytest.raises(BackendError, match="NaN or infinite values from the denoiser"):
        segmenter(IMAGES[0], samples=4)
    machine.compute = run
    reference = Segmenter(segmenter.manifest, tiny.Numpy())
    same(*(s(IMAGES[0], samples=4) for s in (segmenter, reference)))


def test_what_the_caller_does_with_his_arrays_later_changes_nothing(tiny, load):
    segmenter = load()
    noise, table, features, fresh = _given(segmenter)
    image = np.full((1, 1, 8, 8), 0.5, np.float32)

    def noted(engine):
        return engine.denoise(engine.encode(image), noise, table, features, fresh)

    expected, latents = tiny.Numpy().decode(noted(tiny.Numpy())), noted(segmenter.backend)
    image[:], noise[:] = 0.0, 0.0
    np.testing.assert_array_equal(segmenter.backend.decode(latents), expected)


@pytest.mark.parametrize("cls", ["DeviceMemory", "PinnedMemory"])
def test_memory_is_freed_once(machine, cls):
    memory = getattr(cuda, cls)(1000)
    memory.close()
    memory.close()
    assert machine.held() == {}


@pytest.mark.usefixtures("machine")
def test_the_gpu_reads_from_page_locked_memory_only(fake_nvidia):
    stream, target = cuda.Stream(), cuda.DeviceMemory(64)
    pageable = np.zeros(16, np.float32)
    with pytest.raises(fake_nvidia.RuleBroken, match="no pinned memory there"):
        stream.upload(target.pointer, pageable.ctypes.data, 64)
    with pytest.raises(IndexError, match="reaches beyond 64 bytes"):
        cuda.PinnedMemory(64).floats(4, (16,))
    stream.close()


def refused(tiny, folder, error, match, *, precision="auto", threads=None, **written):
    bundle = Bundle.load(write_engines(tiny.write_bundle(folder), **written))
    with pytest.raises(error, match=match):
        tensorrt_backend.TensorRtBackend(bundle, precision=precision, threads=threads)


@pytest.mark.parametrize(
    ("written", "match"),
    [
        ({"contents": {"decoder": b"rubbish"}}, r"does not load decoder\.plan: Serialization assertion failed"),
        ({"record_changes": {"version": "10.3.0"}}, r"built by tensorrt 10\.3\.0, here is 11\.4\.0\.1"),
        ({"record_changes": {"compute_capabilities": (86,)}}, r"compute capability 8\.6, the GPU has 9\.0"),
        ({"changes": {"decoder": {"types": {"logits": "HALF"}}}}, r"decoder\.plan has .*not the inputs and outputs"),
        ({"changes": {"encoder": {"outputs": {"feature": [1, 2, 4, 4]}}}}, r"encoder\.plan has .*feature"),
        ({"changes": {"decoder": {"outputs": {"logits": ["N", 1, 8, 9]}}}}, r"decoder\.plan has "),
    ],
)
def test_engines_that_do_not_fit_are_refused_with_the_command_that_builds_them(machine, tiny, tmp_path, written, match):
    refused(tiny, tmp_path, EngineError, rf"(?s){match}.*medseg-export build", **written)
    assert machine.held() == {}


def test_a_plan_with_a_flipped_bit_is_never_deserialised(machine, tiny, tmp_path):
    folder = write_engines(tiny.write_bundle(tmp_path))
    plan = folder / "engines" / "tensorrt-sm90" / "denoiser.plan"
    plan.write_bytes(plan.read_bytes()[:-1] + b"]")
    with pytest.raises(EngineError, match=r"SHA-256 differs.*medseg-export build"):
        tensorrt_backend.TensorRtBackend(Bundle.load(folder))
    assert "deserialize_cuda_engine" not in machine.calls


def test_version_compatible_engines_may_bring_their_runtime(load):
    flags = Flags(version_compatible=True, hardware="none", workspace_mib=None, optimization_level=3)
    changes = {name: {"lean": True} for name in ("encoder", "denoiser", "decoder")}
    load(changes=changes, record_changes={"flags": flags, "version": "11.0.0"})(IMAGES[0], samples=2)


def test_what_cannot_be_had_is_refused(machine, tiny, tmp_path, monkeypatch):
    folder = tiny.write_bundle(tmp_path)
    with pytest.raises(EngineError, match=r"no tensorrt engines\. Run `medseg-export build .* --trt`"):
        tensorrt_backend.TensorRtBackend(Bundle.load(folder))
    write_engines(folder)
    bundle = Bundle.load(folder)
    with pytest.raises(ParameterError, match="compute in float32, not in bfloat16"):
        tensorrt_backend.TensorRtBackend(bundle, precision="bfloat16")
    with pytest.raises(ParameterError, match="Leave threads out"):
        tensorrt_backend.TensorRtBackend(bundle, threads=2)
    machine.device = 1
    with pytest.raises(BackendError, match="CUDA_VISIBLE_DEVICES=1"):
        tensorrt_backend.TensorRtBackend(bundle)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(BackendError, match=r"neither tensorrt nor tensorrt_rtx.*medseglatdiff\[trt\]"):
        tensorrt_backend.TensorRtBackend(bundle)
    assert machine.held() == {}


def test_our_code_names_only_what_cuda_has():
    from cuda.bindings import runtime

    source = Path(cuda.__file__).read_text()
    names = {
        node.attr
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "cudart"
    }
    assert len(names) > 15
    assert {name for name in names if not hasattr(runtime, name)} == set()


def test_the_fake_has_no_member_that_nvidias_package_lacks(fake_nvidia):
    import tensorrt_rtx

    for fake in (fake_nvidia.Runtime, fake_nvidia.ICudaEngine, fake_nvidia.IExecutionContext):
        real = getattr(tensorrt_rtx, fake.__name__)
        public = {name for name, _ in inspect.getmembers(fake) if not name.startswith("_")} - {"version"}
        assert {name for name in public if not hasattr(real, name)} == set()
