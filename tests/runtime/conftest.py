"""What the suites of the engines share."""

import importlib.util
import sys
from pathlib import Path

import pytest

from medseg_runtime.model.bundle import Bundle


def beside(name):
    """Import a module from this folder, which is no package."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def tiny():
    """The module tiny_bundle.py."""
    pytest.importorskip("onnx")
    return beside("tiny_bundle")


@pytest.fixture(scope="session")
def fake_nvidia():
    """The module fake_nvidia.py."""
    pytest.importorskip("cuda.bindings.runtime")
    pytest.importorskip("tensorrt_rtx")
    return beside("fake_nvidia")


@pytest.fixture(scope="session")
def tiny_folder(tiny, tmp_path_factory):
    return tiny.write_bundle(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def tiny_bundle(tiny_folder):
    return Bundle.load(tiny_folder)


@pytest.fixture
def cache_home(tmp_path, monkeypatch):
    """A cache folder of this test's own: what the system gives, and ours in it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "medseglatdiff"
