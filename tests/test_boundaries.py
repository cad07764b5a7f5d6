"""What import-linter cannot see: imports by name, and side effects of imports on the host process."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ENGINES = {
    "medseg_runtime.backends.onnxruntime_cpu": "onnxruntime",
    "medseg_runtime.backends.openvino.backend": "openvino",
    "medseg_runtime.backends.openvino.graph_rewrites": "openvino",
    "medseg_runtime.backends.gpu.onnxruntime.backend": "onnxruntime",
    "medseg_runtime.backends.gpu.onnxruntime.stream": "onnxruntime",
    "medseg_runtime.backends.gpu.cuda": "cuda",
    "medseg_runtime.backends.gpu.graph_capture": "cuda",
    "medseg_runtime.backends.gpu.tensorrt.backend": "cuda",
    "medseg_runtime.backends.gpu.tensorrt.engine": "cuda",
    "medseg_runtime.backends.gpu.tensorrt.stream": "cuda",
    "medseg_runtime.backends.gpu.tensorrt.memory": "cuda",
    "medseg_runtime.backends.gpu.tensorrt.launch_plan": "cuda",
}
NOT_THE_RUNTIMES = ("torch", "onnx", "onnxscript", "safetensors", "lightning_fabric", "diffusers")

IMPORT_ALL = """
import importlib, json, pkgutil, sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"{name} is blocked", name=name)

sys.meta_path.insert(0, Block())
import medseg_runtime

imported, failed = [], {}
for module in pkgutil.walk_packages(medseg_runtime.__path__, "medseg_runtime."):
    try:
        importlib.import_module(module.name)
        imported.append(module.name)
    except ModuleNotFoundError as error:
        failed[module.name] = error.name.partition(".")[0]
print(json.dumps([imported, failed]))
"""

SNAPSHOT = """
import json, logging, os, signal, sys, threading, warnings
import numpy, PIL.Image  # these may do as they please

def state():
    return {
        "environ": dict(os.environ),
        "warnings": [repr(entry) for entry in warnings.filters],
        "handlers": [repr(handler) for handler in logging.root.handlers],
        "log level": logging.root.level,
        "threads": threading.active_count(),
        "interrupt": repr(signal.getsignal(signal.SIGINT)),
        "float errors": numpy.geterr(),
        "largest image": PIL.Image.MAX_IMAGE_PIXELS,
        "path": sys.path,
    }

before = json.dumps(state())
import medseg_runtime
print(json.dumps([json.loads(before), state(), sorted(sys.modules)]))
"""


def run_python(code: str):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    "blocked", [NOT_THE_RUNTIMES, (*NOT_THE_RUNTIMES, *ENGINES.values())], ids=["bare", "no engine"]
)
def test_every_runtime_module_imports_without_torch(blocked):
    imported, failed = run_python(f"BLOCKED = {blocked!r}\n{IMPORT_ALL}")
    assert "medseg_runtime.inference.segmenter" in imported
    assert "medseg_runtime.commands.infer" in imported
    assert failed.items() <= ENGINES.items()  # an engine's module may miss its own library, and nothing else


def test_importing_the_runtime_changes_nothing_in_the_host_process():
    before, after, _ = run_python(SNAPSHOT)
    assert after == before


def test_importing_the_runtime_is_light():
    *_, modules = run_python(SNAPSHOT)
    heavy = {
        "typer",
        "click",
        "rich",
        "pydicom",
        "platformdirs",
        "importlib.metadata",
        "scipy",
        "torch",
        *ENGINES.values(),
    }
    assert heavy.isdisjoint(modules)


INFER = """
import json, sys
from medseg_runtime.commands import infer as infer_command

sys.argv = ["medseg-infer", "examples/nodule-phantom.png", "--samples", "2", "--backend", sys.argv[1], "--out", sys.argv[2]]
try:
    infer_command.main()
except SystemExit as done:
    assert done.code == 0
print(json.dumps(sorted(sys.modules)))
"""


@pytest.mark.parametrize(("engine", "other"), [("onnxruntime", "openvino"), ("openvino", "onnxruntime")])
def test_a_command_imports_only_its_backend_and_no_backend_sends_telemetry(tmp_path, engine, other):
    """Plainly imported, both backends write to the home folder and to the network."""
    pytest.importorskip(engine)
    home = tmp_path / "home"
    home.mkdir()
    environment = os.environ | {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", INFER, engine, str(tmp_path / "out")],
        capture_output=True, text=True, check=False, cwd=ROOT, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    modules = set(json.loads(done.stdout.splitlines()[-1]))
    assert engine in modules
    assert {other, "pydicom", "highdicom", "nibabel", "rich", "scipy", "torch", "openvino_telemetry"}.isdisjoint(
        modules
    )
    assert {path.relative_to(home).parts[:2] for path in home.rglob("*") if path.is_file()} <= {
        ("cache", "medseglatdiff"),
        ("cache", "medseglatdiff.key"),
    }


RUNS_WHAT_IT_READS = {"pickle", "marshal", "shelve", "dill", "joblib", "cloudpickle", "runpy"}
CALLS_THAT_DO = {"eval", "exec", "torch.load", "os.system", "os.popen", "yaml.load"}


@pytest.mark.parametrize("folder", ["runtime", "trainer", "export", "service"])
def test_nothing_that_is_read_is_executed(folder):
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.partition(".")[0] for name in names} & RUNS_WHAT_IT_READS, path
            assert not (isinstance(node, ast.Call) and ast.unparse(node.func) in CALLS_THAT_DO), path
            if isinstance(node, ast.Call) and ast.unparse(node.func) in {"np.load", "numpy.load"}:
                assert "allow_pickle=False" in ast.unparse(node), path
