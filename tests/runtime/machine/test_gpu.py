"""What only a GPU can show: the real TensorRT and the real CUDA provider draw what ONNX Runtime draws on the CPU."""

import warnings

import numpy as np
import pytest

from medseg_runtime import Segmenter
from medseg_runtime.errors import EngineError
from medseg_runtime.machine.gpu import find_gpu
from medseg_runtime.model.bundle import Bundle

pytestmark = pytest.mark.gpu
IMAGES = np.random.default_rng(0).integers(0, 255, (3, 11, 9), dtype=np.uint8)
SAMPLERS = [("flow", "euler"), ("flow", "dpmpp"), ("epsilon", "ddim"), ("epsilon", "ddpm")]


@pytest.fixture(scope="module", autouse=True)
def gpu():
    try:
        return find_gpu()
    except EngineError as error:
        pytest.skip(error.problem)


@pytest.fixture
def with_engines(tiny, tmp_path, cache_home):  # noqa: ARG001  # built, not taken from another run's cache
    """with_engines(objective) is the tiny bundle with engines built here."""
    pytest.importorskip("tensorrt", reason="TensorRT is not installed")
    pytest.importorskip("cuda.bindings.runtime", reason="cuda-bindings is not installed")
    progress = pytest.importorskip("rich.progress")
    from medseg_export.engines.target import target_here
    from medseg_export.engines.writer import build_engines
    from medseg_runtime.backends.gpu.tensorrt.engine_files import Flags, Profile

    def build(objective):
        folder = tiny.write_bundle(tmp_path / objective, objective)
        flags = Flags(version_compatible=False, hardware="none", workspace_mib=None, optimization_level=1)
        target = target_here((Profile(min=1, opt=4, max=16),), flags)
        with progress.Progress(disable=True) as bar:
            build_engines(Bundle.load(folder), target, bar, float32=True)
        return folder

    (tmp_path / "flow").mkdir()
    (tmp_path / "epsilon").mkdir()
    return build


def same_masks(segmenter, folder, sampler):
    reference = Segmenter.load(folder, backend="onnxruntime")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # launches that could not be captured
        for seed, image in enumerate(IMAGES):  # plain, captured, replayed
            for samples in (5, 16):
                arguments = {"samples": samples, "steps": 4, "sampler": sampler, "seed": seed}
                found, expected = segmenter(image, **arguments), reference(image, **arguments)
                np.testing.assert_allclose(found.mean_probability, expected.mean_probability, atol=2e-3)
                assert (found.masks == expected.masks).mean() > 0.995


@pytest.mark.parametrize(("objective", "sampler"), SAMPLERS)
def test_tensorrt_draws_what_the_cpu_draws(with_engines, objective, sampler):
    folder = with_engines(objective)
    segmenter = Segmenter.load(folder, backend="tensorrt", max_batch=16)
    same_masks(segmenter, folder, sampler)
    clone = Segmenter(segmenter.manifest, segmenter.backend.clone(), max_batch=16)
    same_masks(clone, folder, sampler)
    segmenter.backend.close()


@pytest.mark.parametrize(("objective", "sampler"), SAMPLERS)
def test_the_cuda_provider_draws_what_the_cpu_draws(tiny, tmp_path, objective, sampler):
    ort = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        pytest.skip("the installed ONNX Runtime has no CUDA provider")
    folder = tiny.write_bundle(tmp_path, objective)
    same_masks(Segmenter.load(folder, backend="cuda"), folder, sampler)


def test_the_shipped_model_runs_on_cuda():
    ort = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        pytest.skip("the installed ONNX Runtime has no CUDA provider")
    image = np.random.default_rng(1).integers(0, 255, (64, 64), dtype=np.uint8)
    found, expected = (Segmenter.load(backend=name)(image, samples=8) for name in ("cuda", "onnxruntime"))
    np.testing.assert_allclose(found.mean_probability, expected.mean_probability, atol=5e-3)
