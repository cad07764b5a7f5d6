"""A graph from strangers reads no file, runs no sub-graph, and is the same graph for every library."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from medseg_runtime.errors import BundleError
from medseg_runtime.model.bundle import SHIPPED, Bundle
from medseg_runtime.model.graph_guard import GraphError, check_graph

onnx = pytest.importorskip("onnx")

spec = importlib.util.spec_from_file_location("graph_attacks", Path(__file__).with_name("graph_attacks.py"))
attacks = importlib.util.module_from_spec(spec)
spec.loader.exec_module(attacks)

VICTIM = "victim.bin"
READING, UNUSUAL = dict(attacks.reading_others(VICTIM)), dict(attacks.unusual())
FORMATS, DOUBTFUL = dict(attacks.other_formats()), dict(attacks.doubtful())


def named(files):
    return pytest.mark.parametrize("content", files.values(), ids=files.keys())


# --- what the exporter writes ------------------------------------------------------------------------------------------


def test_the_shipped_graphs_pass_and_so_does_what_onnx_writes_of_them():
    for path in SHIPPED.glob("*.onnx"):
        check_graph(path.read_bytes())
        check_graph(onnx.load(path).SerializeToString())


def test_an_honest_graph_passes(tiny):
    check_graph(attacks.honest())
    for name in tiny.GRAPHS:
        check_graph(tiny.model(name))
        check_graph(tiny.model(name), trusted=True)


# --- what nobody may load ----------------------------------------------------------------------------------------------


@named(READING)
def test_a_graph_that_reads_other_files_or_memory_is_refused_even_if_trusted(tiny, tmp_path, content):
    folder = tiny.write_bundle(tmp_path, decoder=content)
    for trusted in (False, True):
        with pytest.raises(BundleError, match=r"decoder\.onnx .*\. Export the bundle again with `medseg-export`\.$"):
            Bundle.load(folder, trust_graphs=trusted)


@named(FORMATS | {name: DOUBTFUL[name] for name in DOUBTFUL if "name that" in name})
def test_what_is_no_onnx_or_not_the_only_way_to_write_it_is_refused(content):
    for trusted in (False, True):
        with pytest.raises(GraphError, match=r"^is (a flatbuffer, not ONNX|not ONNX)"):
            check_graph(content, trusted=trusted)


@named(DOUBTFUL)
def test_a_graph_that_two_libraries_could_read_differently_is_refused(content):
    with pytest.raises(GraphError, match="is not ONNX as medseg-export writes it"):
        check_graph(content)


@named(UNUSUAL)
def test_what_the_exporter_does_not_write_needs_trust(tiny, tmp_path, content):
    folder = tiny.write_bundle(tmp_path, decoder=content)
    with pytest.raises(
        BundleError, match=r"decoder\.onnx .* or allow it with --trust-graphs if you trust who made it\.$"
    ):
        Bundle.load(folder)
    assert Bundle.load(folder, trust_graphs=True).graphs["decoder"] == content


@pytest.mark.parametrize("depth", [20, 2000])
def test_nesting_ends(depth):
    content = b""
    for _ in range(depth):
        content = attacks.delimited(6, attacks.delimited(1, attacks.delimited(5, content)))
    with pytest.raises(GraphError, match="nested too deeply"):
        check_graph(attacks.model_of(attacks.delimited(1, attacks.delimited(5, content))), trusted=True)


def test_a_file_of_countless_fields_is_given_up():
    dims = attacks.varint(1 << 3) + b"\x01"
    content = attacks.model_of(attacks.delimited(5, dims * 600_000))
    for trusted in (False, True):
        with pytest.raises(GraphError, match="more than 500,000 fields"):
            check_graph(content, trusted=trusted)


def test_the_command_takes_trust_as_an_option(tiny, tmp_path, run_command):
    from PIL import Image

    from medseg_runtime.commands.infer import main

    pytest.importorskip("onnxruntime")
    folder = tiny.write_bundle(tmp_path, decoder=UNUSUAL["a constant"])
    Image.new("L", (20, 20)).save(tmp_path / "image.png")
    asked = (tmp_path / "image.png", "--bundle", folder, "--backend", "onnxruntime", "--out", tmp_path / "out")
    code, _, err = run_command(main, "medseg-infer", *asked)
    assert (code, err.count("--trust-graphs")) == (1, 1)
    assert run_command(main, "medseg-infer", *asked, "--trust-graphs")[0] == 0


# --- mutations ---------------------------------------------------------------------------------------------------------

CHILD = """
import faulthandler, json, resource, struct, sys
import numpy as np
from medseg_runtime.backends.opening import open_backend
from medseg_runtime.backends.registry import installed
from medseg_runtime.errors import BackendError
from medseg_runtime.model.bundle import Bundle
from pathlib import Path

faulthandler.enable()
resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))

def run(name, bundle):
    try:
        with_name = open_backend(name, bundle, precision="float32", threads=1)
        return with_name.run("decoder", {"latent": np.ones((1, 2, 4, 4), np.float32)})[0].tobytes()
    except (BackendError, MemoryError):
        return None

for number, folder in enumerate(sorted(Path("passed").iterdir())):
    bundle = Bundle.load(folder)
    for name in ("onnxruntime", "openvino"):
        if installed(name) is None:
            continue
        print(folder.name, name, flush=True)
        seen = set()
        for value in (7.0, 9.0):
            Path("victim.bin").write_bytes(struct.pack("<2f", value, value))
            seen.add(run(name, bundle))
        assert len(seen) == 1, f"{name} has read the file: {folder}"
"""


def mutated(source, others, rng):
    """Return a file with a few bytes changed, doubled, removed, or taken from another file."""
    content = bytearray(source)
    for _ in range(rng.integers(1, 4)):
        at, length = int(rng.integers(len(content))), int(rng.integers(1, 24))
        match rng.integers(5):
            case 0:
                content[at] = rng.integers(256)
            case 1:
                content[at] ^= 1 << rng.integers(8)
            case 2:
                content[at:at] = content[at : at + length]
            case 3:
                del content[at : at + length]
            case _:
                other = others[rng.integers(len(others))]
                start = int(rng.integers(len(other)))
                content[at : at + length] = other[start : start + length]
    return bytes(content) or b"\0"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_mutated_graphs_are_refused_or_read_no_other_file(tiny, tmp_path, mutations):
    """Each has the right hash. Those that pass are run in a child, twice, with other content in the file that they may name."""
    pytest.importorskip("onnxruntime")
    sources = [attacks.honest(), tiny.model("decoder"), *READING.values(), *UNUSUAL.values(), *DOUBTFUL.values()]
    passed = []
    for number in range(10 * mutations):
        rng = np.random.default_rng([number, 2])
        content = mutated(sources[number % 2 if number % 3 else number % len(sources)], sources, rng)
        try:
            check_graph(content)
        except GraphError:
            continue
        passed.append(content)
    assert mutations // 10 < len(passed) < 9 * mutations
    for number, content in enumerate(passed[: mutations // 8]):
        folder = tmp_path / "passed" / f"{number:05}"
        folder.mkdir(parents=True)
        tiny.write_bundle(folder, decoder=content)
    ended = subprocess.run(
        [sys.executable, "-c", CHILD],
        cwd=tmp_path,
        env=os.environ | {"XDG_CACHE_HOME": "/dev/null"},  # a compiled model that is kept would hide a second reading
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, (ended.stdout.splitlines()[-1:], ended.stderr[-2000:])
