"""TensorRT engines of the tiny bundle, on a GPU in numpy."""

import hashlib
import json

import numpy as np
import pytest

from medseg_runtime import Segmenter
from medseg_runtime.backends.gpu.tensorrt.engine_files import EngineRecord, Flags, Plan, Profile
from medseg_runtime.machine.gpu import Gpu
from medseg_runtime.model.bundle import Bundle

WIDE = Profile(min=1, opt=4, max=16)
VERSION = "11.4.0.1"


@pytest.fixture
def tensorrt_backend(fake_nvidia):  # noqa: ARG001 - skips where NVIDIA's packages are not installed
    """The module of the TensorRT backend."""
    from medseg_runtime.backends.gpu.tensorrt import backend

    return backend


@pytest.fixture
def machine(tiny, fake_nvidia, tensorrt_backend, monkeypatch):
    """The fake GPU."""
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


@pytest.fixture
def write_engines():
    """write_engines(folder, profiles=..., ...) writes what `medseg-export build` would, and returns the bundle's folder."""

    def write(folder, profiles=(WIDE,), changes=None, record_changes=None, contents=None):
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

    return write


@pytest.fixture
def load(machine, tiny, tensorrt_backend, write_engines, tmp_path):
    """load(objective, profiles=..., max_batch=..., cuda_graphs=...) is a segmenter on new engines; at the end nothing is held."""
    opened = []

    def segmenter(objective="flow", *, max_batch=16, cuda_graphs=True, trusted=False, **written):
        folder = tiny.write_bundle(tmp_path, objective)
        bundle = Bundle.load(write_engines(folder, **written), trust_graphs=trusted)
        backend = tensorrt_backend.TensorRtBackend(bundle, cuda_graphs=cuda_graphs)
        opened.append(backend)
        return Segmenter(bundle.manifest, backend, max_batch=max_batch)

    yield segmenter
    for backend in opened:
        backend.close()
    opened.clear()
    assert machine.held() == {}


@pytest.fixture
def same():
    """same(found, expected): two results agree to the last bit."""

    def agree(found, expected):
        assert 0.05 < expected.confidence.mean() < 0.95
        assert (found.masks == expected.masks).all()
        np.testing.assert_array_equal(found.mean_probability, expected.mean_probability)

    return agree
