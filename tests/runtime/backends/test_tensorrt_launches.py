"""Launches of the TensorRT backend, one by one and as CUDA graphs, on a GPU in numpy."""

import warnings
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("cuda.bindings.runtime")
pytest.importorskip("tensorrt_rtx")

from medseg_runtime import Segmenter
from medseg_runtime.backends.gpu.capture_policy import CudaGraphWarning
from medseg_runtime.backends.gpu.tensorrt.stream import KEPT_PLANS

IMAGES = np.random.default_rng(0).integers(0, 255, (4, 11, 9), dtype=np.uint8)
SAMPLERS = [("flow", "euler"), ("flow", "dpmpp"), ("epsilon", "ddim"), ("epsilon", "ddpm")]


def calls_of(machine, work):
    start = len(machine.calls)
    work()
    counted = ("Memcpy", "Launch", "Synchronize", "execute", "Capture", "Malloc", "Alloc", "create_execution_context")
    return [name for name in machine.calls[start:] if any(word in name for word in counted)]


@pytest.mark.parametrize("cuda_graphs", [True, False], ids=["graphs", "plain"])
@pytest.mark.parametrize(("objective", "sampler"), SAMPLERS)
def test_the_loop_on_the_device_draws_what_numpy_draws_to_the_last_bit(
    machine, tiny, load, objective, sampler, cuda_graphs, same
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


def test_samplers_of_as_many_steps_share_a_graph(machine, tiny, load, same):
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


@pytest.mark.parametrize(
    ("name", "call"),
    [("cudaStreamBeginCapture", 1), ("execute_async_v3", 3), ("cudaStreamEndCapture", 1), ("cudaGraphInstantiate", 1)],
)
def test_without_a_capture_the_masks_are_the_same_and_the_user_is_told_once(machine, tiny, load, name, call, same):
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
