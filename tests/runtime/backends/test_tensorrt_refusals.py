"""What the TensorRT backend refuses, and failures of CUDA and TensorRT, on a GPU in numpy."""

import gc
import hashlib
import sys

import numpy as np
import pytest

pytest.importorskip("cuda.bindings.runtime")
pytest.importorskip("tensorrt_rtx")

from medseg_runtime import Segmenter
from medseg_runtime.backends.gpu.tensorrt.engine_files import Flags, Profile
from medseg_runtime.errors import BackendError, EngineError, ParameterError
from medseg_runtime.model.bundle import Bundle

IMAGE = np.random.default_rng(0).integers(0, 255, (11, 9), dtype=np.uint8)


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
def test_engines_that_do_not_fit_are_refused_with_the_command_that_builds_them(
    machine, tiny, tmp_path, written, match, write_engines, tensorrt_backend
):
    bundle = Bundle.load(write_engines(tiny.write_bundle(tmp_path), **written))
    with pytest.raises(EngineError, match=rf"(?s){match}.*medseg-export build"):
        tensorrt_backend.TensorRtBackend(bundle)
    assert machine.held() == {}


def test_a_plan_with_a_flipped_bit_is_never_deserialised(machine, tiny, tmp_path, write_engines, tensorrt_backend):
    folder = write_engines(tiny.write_bundle(tmp_path))
    plan = folder / "engines" / "tensorrt-sm90" / "denoiser.plan"
    plan.write_bytes(plan.read_bytes()[:-1] + b"]")
    with pytest.raises(EngineError, match=r"SHA-256 differs.*medseg-export build"):
        tensorrt_backend.TensorRtBackend(Bundle.load(folder))
    assert "deserialize_cuda_engine" not in machine.calls


def lean(**changes):
    """Engines that bring their own runtime, which is code for the CPU."""
    flags = Flags(version_compatible=True, hardware="none", workspace_mib=None, optimization_level=3)
    plans = {name: {"lean": True} for name in ("encoder", "denoiser", "decoder")}
    return {"changes": plans, "record_changes": {"flags": flags, "version": "11.0.0"}} | changes


def test_a_bundle_cannot_switch_on_code_for_the_cpu(machine, tiny, tmp_path, write_engines, tensorrt_backend):
    folder = write_engines(tiny.write_bundle(tmp_path), **lean())
    with pytest.raises(EngineError, match=r"would run code of theirs on the CPU\. .*--trust-graphs"):
        tensorrt_backend.TensorRtBackend(Bundle.load(folder))
    assert "deserialize_cuda_engine" not in machine.calls


def test_engines_of_a_trusted_bundle_may_bring_their_runtime(load):
    load(trusted=True, **lean())(IMAGE, samples=2)


def test_the_result_names_the_plans_that_ran(load, tmp_path):
    result = load()(IMAGE, samples=2)
    plans = tmp_path.glob("engines/*/*.plan")
    assert result.provenance.backend.compiled == {
        plan.name: hashlib.sha256(plan.read_bytes()).hexdigest() for plan in plans
    }


def test_what_cannot_be_had_is_refused(machine, tiny, tmp_path, monkeypatch, write_engines, tensorrt_backend):
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


@pytest.mark.parametrize("samples", [2, 17])
def test_a_number_of_samples_outside_the_profile_is_refused(load, samples):
    segmenter = load(profiles=(Profile(min=3, opt=4, max=16),), max_batch=64)
    with pytest.raises(EngineError, match=rf"N from 3 to 16, not {samples} samples at once\. .*--trt-samples"):
        segmenter(IMAGE, samples=samples)


def test_nan_is_refused_also_where_the_decoder_hides_it(machine, tiny, load, same):
    segmenter = load()
    run = tiny.Numpy().run

    def hides(graph, feeds):
        if graph == "denoiser":
            return tuple(np.full_like(output, np.nan) for output in run(graph, feeds))
        return tuple(np.nan_to_num(output) for output in run(graph, feeds))

    machine.compute = hides
    with pytest.raises(BackendError, match="NaN or infinite values from the denoiser"):
        segmenter(IMAGE, samples=4)
    machine.compute = run
    reference = Segmenter(segmenter.manifest, tiny.Numpy())
    same(*(s(IMAGE, samples=4) for s in (segmenter, reference)))


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_every_refusal_of_cuda_or_tensorrt_is_an_error_of_ours(machine, load, tmp_path, sampler, tensorrt_backend):
    segmenter = load("epsilon", cuda_graphs=False)
    segmenter(IMAGE, samples=2, steps=2, sampler=sampler)
    segmenter.backend.close()
    bundle = Bundle.load(tmp_path)
    names = set(machine.calls) - {"cudaFree", "cudaFreeHost", "cudaStreamDestroy"}
    assert len(names) > 10
    for name in sorted(names):
        machine.refuse(name)
        with pytest.raises(BackendError, match=r"\. [A-Z]"):
            Segmenter(segmenter.manifest, tensorrt_backend.TensorRtBackend(bundle))(
                IMAGE, samples=2, steps=2, sampler=sampler
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
