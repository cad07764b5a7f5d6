"""Fixtures that several suites share, and what a bug report needs in the header."""

import importlib.util
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
CPU_FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")


def pytest_report_header() -> str:
    def installed(name: str) -> str:
        try:
            return f"{name} {version(name)}"
        except PackageNotFoundError:
            return f"{name} absent"

    cpuinfo = Path("/proc/cpuinfo")
    flags = set(cpuinfo.read_text().split()) if cpuinfo.exists() else set()
    packages = ", ".join(installed(name) for name in ("numpy", "onnxruntime", "torch", "onnx", "pydicom"))
    return f"medseglatdiff: {packages}; CPU: {' '.join(f for f in CPU_FEATURES if f in flags) or 'baseline'}"


@pytest.fixture(scope="session")
def phantom() -> ModuleType:
    """The generator of synthetic nodules, examples/phantom.py."""
    spec = importlib.util.spec_from_file_location("phantom", ROOT / "examples" / "phantom.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["phantom"] = module  # dataclasses look their module up by name
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def lidc_zips() -> Path:
    """The folder with the real LIDC-IDRI crops; not part of the repository, and not ours to publish."""
    folder = ROOT.parent / "shared" / "data"
    if not (folder / "lidc-val-0.zip").exists():
        pytest.skip(f"no LIDC-IDRI crops: {folder}/lidc-val-0.zip is absent")
    return folder
