"""The layer over CUDA, and the GPU in numpy itself: both have only what NVIDIA's packages have."""

import ast
import inspect
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("cuda.bindings.runtime")
pytest.importorskip("tensorrt_rtx")

from medseg_runtime.backends.gpu import cuda


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
