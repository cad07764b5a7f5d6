"""The code uses only members that TensorRT 10.3 to 11.4 and TensorRT-RTX all have, with one code path for all.

`trt_api_matrix.json` lists each class and member of NVIDIA's Python bindings, which import without a GPU, and the versions that
have it.
"""

import ast
import json
import tomllib
from pathlib import Path

import pytest

from medseg_export.engines import float32_layers, progress, to_tensorrt
from medseg_export.engines import target as target_module
from medseg_runtime.backends.gpu.tensorrt import engine, logger
from medseg_runtime.backends.registry import BACKENDS
from medseg_runtime.machine import gpu

HERE = Path(__file__).parent
MATRIX = json.loads((HERE / "trt_api_matrix.json").read_text())
RUNNER = Path(engine.__file__)
SOURCES = [
    *(Path(module.__file__) for module in (to_tensorrt, progress, float32_layers, logger)),
    RUNNER,
]
RECEIVERS = {
    "trt": None,
    "library": None,
    "_library": None,
    "builder": "Builder",
    "config": "IBuilderConfig",
    "definition": "INetworkDefinition",
    "parser": "OnnxParser",
    "error": "ParserError",
    "ranges": "IOptimizationProfile",
    "cache": "ITimingCache",
    "layer": "ILayer",
    "tensor": "ITensor",
    "_runtime": "Runtime",
    "engine": "ICudaEngine",
    "_engines[]": "ICudaEngine",
    "raw": "IExecutionContext",
    "_raw": "IExecutionContext",
}
"""Variable name in our code -> the TensorRT class of its value; None: the module itself."""
FEATURE_TESTED = {
    "ComputeCapability": "used only ahead of time, with TensorRT-RTX",
    "IBuilderConfig.num_compute_capabilities": "as ComputeCapability",
    "IBuilderConfig.set_compute_capability": "as ComputeCapability",
}
OURS = {"name", "get", "record", "plans", "shape", "activation_bytes", "context", "version"}
"""Members of our own classes that share a name with a TensorRT member."""


def variable_of(node):
    """Return the variable or attribute name of an expression; `name[]` for an item of it."""
    if isinstance(node, ast.Subscript):
        name = variable_of(node.value)
        return None if name is None else f"{name}[]"
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else None


def member(node):
    """Return an attribute of a TensorRT object as `Class.member`, or None."""
    if not isinstance(node, ast.Attribute) or node.attr.startswith("__"):  # what every object has
        return None
    receiver = variable_of(node.value)
    if receiver in RECEIVERS:
        owner = RECEIVERS[receiver]
        return node.attr if owner is None else f"{owner}.{node.attr}"
    inner = member(node.value)
    return f"{inner}.{node.attr}" if inner is not None and inner in MATRIX["members"] and "." not in inner else None


def named(path):
    """Return every TensorRT member that a source file uses."""
    return {found for node in ast.walk(ast.parse(path.read_text())) if (found := member(node)) is not None}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_the_code_uses_only_what_every_version_has(path):
    found = named(path)
    assert found
    unknown = found - MATRIX["members"].keys()
    assert unknown == set()
    every = len(MATRIX["versions"])
    lacking = {name for name in found if MATRIX["members"][name].count("+") != every}
    assert lacking <= FEATURE_TESTED.keys()


def test_members_that_some_versions_lack_are_in_use():
    found = set().union(*map(named, SOURCES))
    assert found >= FEATURE_TESTED.keys()
    for name in FEATURE_TESTED:
        assert MATRIX["members"][name].count("+") < len(MATRIX["versions"])


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_no_member_is_used_through_an_unlisted_variable(path):
    """Every attribute with the name of a TensorRT member is found through a variable in RECEIVERS."""
    members = {name.rpartition(".")[2] for name in MATRIX["members"]}
    followed = {name.rpartition(".")[2] for name in named(path)}
    attributes = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
    assert (attributes & members) - followed - OURS == set()


def test_every_module_that_uses_tensorrt_is_checked():
    roots = [Path(module.__file__).parent for module in (to_tensorrt, logger)]
    binds = ("trt: ModuleType", "library: Any")
    found = {path for root in roots for path in root.rglob("*.py") if any(word in path.read_text() for word in binds)}
    assert found - {Path(gpu.__file__)} == set(SOURCES)  # there `library` is the driver


def test_the_matrix_is_right_about_the_package_that_is_installed():
    library = pytest.importorskip("tensorrt_rtx")
    column = MATRIX["versions"].index("RTX 1.7")
    if not library.__version__.startswith("1.7."):
        pytest.skip(f"TensorRT-RTX is {library.__version__}, the matrix knows 1.7")
    for name, present in MATRIX["members"].items():
        owner, _, attribute = name.rpartition(".")
        holder = getattr(library, owner, None) if owner else library
        assert hasattr(holder, attribute) == (present[column] == "+"), name


def test_the_extras_that_errors_name_exist():
    extras = tomllib.loads((HERE.parents[2] / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for library, extra in target_module.EXTRA.items():
        assert any(requirement.startswith(library) for requirement in extras[extra])
        assert any(requirement.startswith("cuda-bindings") for requirement in extras[extra])
    assert BACKENDS["tensorrt"].extra in extras
