"""The contract on disk: what is read back is what was written, and nothing else is accepted."""

import copy
import dataclasses
import hashlib
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg_runtime.errors import BundleError
from medseg_runtime.model.bundle import MANIFEST_NAME, SHIPPED, Bundle, Manifest
from medseg_runtime.model.sampler import ProbabilityPath
from medseg_runtime.testing import toy_manifest

GRAPHS = ("encoder", "denoiser", "decoder")


def in_half(manifest, precision="float16"):
    """Return the manifest with low-precision graphs beside the others."""
    half = {
        name: dataclasses.replace(graph, file=f"{name}.{precision}.onnx", precision=precision, weights=precision)
        for name, graph in manifest.graphs.items()
    }
    return dataclasses.replace(manifest, half=half)


FULL = dataclasses.replace(
    in_half(toy_manifest(classes=("edge", "core"), channels=3)),
    path=ProbabilityPath(objective="flow", shift=3.0),
    training={"data": {"train": ["a", "b"]}, "steps": 10, "licence": None},
    metrics={"ged": 0.22},
    versions={"torch": "2.13"},
)


def contents(name):
    """Return an ONNX file with an empty graph of this name."""
    graph = b"\x12" + bytes([len(name)]) + name.encode()
    return b"\x08\x0a\x3a" + bytes([len(graph)]) + graph


def write(folder, manifest):
    """Write a bundle whose graphs are empty."""
    hashed = {
        kind: {
            name: dataclasses.replace(graph, sha256=hashlib.sha256(contents(graph.file)).hexdigest())
            for name, graph in getattr(manifest, kind).items()
        }
        for kind in ("graphs", "half")
    }
    for graph in (*manifest.graphs.values(), *manifest.half.values()):
        (folder / graph.file).write_bytes(contents(graph.file))
    (folder / MANIFEST_NAME).write_text(dataclasses.replace(manifest, **hashed).to_json())
    return folder


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path, toy_manifest())


def edited(change, manifest=FULL):
    """Return the text of bundle.json after a change to its content."""
    content = json.loads(manifest.to_json())
    change(content)
    return json.dumps(content)


def assert_refused(text):
    with pytest.raises(BundleError, match=r"(?s)\. .*(Export|Install|export).*\.$"):
        Manifest.from_json(text)


# --- the manifest ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("manifest", [FULL, toy_manifest(), toy_manifest(objective="epsilon", geometry="resize")])
def test_a_manifest_comes_back_as_it_was_written(manifest):
    read = Manifest.from_json(manifest.to_json())
    assert read == manifest
    assert read.to_json() == manifest.to_json()
    assert isinstance(read.graphs["denoiser"].inputs["latent"], tuple)


def test_defaults_need_not_be_written():
    def shorten(content):
        for key in ("training", "metrics", "parity", "versions"):
            del content[key]
        del content["path"]["shift"], content["input"]["context"]

    manifest = toy_manifest(geometry="resize")
    assert Manifest.from_json(edited(shorten, manifest)) == manifest


def test_a_whole_number_is_a_float_too():
    assert Manifest.from_json(edited(lambda content: content["path"].update(shift=3))) == FULL


@pytest.mark.parametrize("version", [0, 2, "1", None, True, 1.0])
def test_another_schema_version_is_refused(version):
    assert_refused(edited(lambda content: content.update(schema_version=version)))


@pytest.mark.parametrize("text", ["", "{", "null", "3", '"text"', "[]", "{}", "[" * 100_000, '{"schema_version": 1}'])
def test_what_is_no_manifest_is_refused(text):
    assert_refused(text)


def places(content, at=()):
    """Yield the path of every value in nested dicts and lists, without the parts that may hold anything."""
    for key, value in content.items() if isinstance(content, dict) else enumerate(content):
        if at or key not in ("training", "metrics", "parity"):
            yield (*at, key)
            if isinstance(value, (dict, list)):
                yield from places(value, (*at, key))


def parent_of(content, place):
    for key in place[:-1]:
        content = content[key]
    return content


PLACES = list(places(json.loads(FULL.to_json())))
OPTIONAL = {
    ("path", "shift"),
    ("sampling", "noise", "antithetic"),
    ("sampling", "noise", "stratified"),
    ("sampling", "tuned"),
    ("versions", "torch"),
    ("schema_version",),
    ("versions",),
    ("half",),
}
OTHERS = (None, True, False, "4", "", "N", 4, -1, 0, 1.5, math.nan, 10**400, [], {}, [1], {"a": 1}, "\ud800", "a\0b")


@pytest.mark.parametrize("place", [place for place in PLACES if place not in OPTIONAL], ids=str)
def test_every_field_is_needed(place):
    def remove(content):
        del parent_of(content, place)[place[-1]]

    assert_refused(edited(remove))


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_a_value_of_another_type_is_refused(place):
    value = parent_of(json.loads(FULL.to_json()), place)[place[-1]]
    for other in OTHERS:
        same = type(other) is type(value) or (type(value) is float and type(other) is int and other < 10**300)
        if same or (isinstance(value, (int, str)) and other == value):
            continue
        assert_refused(edited(lambda content, other=other: parent_of(content, place).__setitem__(place[-1], other)))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=6,
)


@given(st.lists(st.tuples(st.sampled_from(PLACES), JSON), min_size=1, max_size=3))
def test_whatever_is_written_is_read_back_or_refused(changes):
    content = json.loads(FULL.to_json())
    for place, value in changes:
        try:
            parent_of(content, place)[place[-1]] = copy.deepcopy(value)
        except (LookupError, TypeError):
            continue  # an earlier change took the place away
    try:
        manifest = Manifest.from_json(json.dumps(content))
    except BundleError:
        return
    assert Manifest.from_json(manifest.to_json()) == manifest


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.update(latent=[4, 8, 9]),
        lambda content: content.update(latent=[4, 8]),
        lambda content: content.update(classes=["edge"]),
        lambda content: content.update(classes=[]),
        lambda content: content.update(classes=["edge", "edge"]),
        lambda content: content["input"].update(channels=1),
        lambda content: content["input"].update(channels=2),
        lambda content: content["input"].update(height=32),
        lambda content: content["input"].update(context=63),
        lambda content: content["input"].update(geometry="crop"),
        lambda content: content["path"].update(objective="velocity"),
        lambda content: content["path"].update(shift=-1.0),
        lambda content: content["sampling"].update(sampler="ddim"),
        lambda content: content["sampling"].update(steps=0),
        lambda content: content["graphs"].update(extra=content["graphs"]["encoder"]),
        lambda content: content["graphs"]["encoder"].update(precision="float16"),
        lambda content: content["half"].pop("decoder"),
        lambda content: content["half"].update(extra=content["half"]["encoder"]),
        lambda content: content["half"]["encoder"].update(precision="bfloat16"),
        lambda content: content["half"]["encoder"].update(precision="float8"),
        lambda content: content.update(half=content["graphs"]),
        lambda content: content["half"]["encoder"]["inputs"].update(image=[1, 3, 64, 32]),
        lambda content: content["half"]["decoder"]["outputs"].update(logits=["N", 1, 64, 64]),
        lambda content: content["graphs"]["encoder"]["outputs"].update(condition=[1, 2, 8, 8]),
        lambda content: content["graphs"]["denoiser"]["inputs"].update(row=[6]),
        lambda content: content["graphs"]["denoiser"]["inputs"].update(time_features=[32]),
        lambda content: content["graphs"]["denoiser"]["inputs"].update(time_features=[1, 0]),
        lambda content: content["graphs"]["denoiser"]["inputs"].update(guidance=[1]),
        lambda content: content["graphs"]["decoder"]["outputs"].update(logits=[1, 3, 64, 64]),
        lambda content: content.update(licence="unknown field"),
        lambda content: content["input"].update(window="unknown field"),
    ],
)
def test_parts_that_do_not_fit_each_other_are_refused(change):
    assert_refused(edited(change))


@pytest.mark.parametrize("kind", ["graphs", "half"])
def test_outputs_in_another_order_are_refused(kind):
    # An engine returns them in this order: sorted keys would swap the next latent with the estimate, silently.
    def sort(content):
        outputs = content[kind]["denoiser"]["outputs"]
        content[kind]["denoiser"]["outputs"] = dict(sorted(outputs.items()))

    assert_refused(edited(sort))


def test_the_message_names_the_field():
    with pytest.raises(BundleError, match=r"bundle\.json\.sampling\.steps is '4', not int"):
        Manifest.from_json(edited(lambda content: content["sampling"].update(steps="4")))


# --- the folder --------------------------------------------------------------------------------------------------------


def test_a_bundle_is_read_whole(folder):
    bundle = Bundle.load(folder)
    assert bundle.graphs == {name: contents(f"{name}.onnx") for name in GRAPHS}
    assert bundle.half == {}
    assert bundle.sha256 == hashlib.sha256((folder / MANIFEST_NAME).read_bytes()).hexdigest()
    assert Bundle.load(str(folder)) == bundle


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_low_precision_graphs_are_read_and_checked_like_the_others(tmp_path, precision):
    write(tmp_path, in_half(toy_manifest(), precision))
    assert Bundle.load(tmp_path).half == {name: contents(f"{name}.{precision}.onnx") for name in GRAPHS}
    file = tmp_path / f"denoiser.{precision}.onnx"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(BundleError, match=rf"denoiser\.{precision}\.onnx is not the file"):
        Bundle.load(tmp_path)
    file.unlink()
    with pytest.raises(BundleError, match=rf"denoiser\.{precision}\.onnx.*No such file"):
        Bundle.load(tmp_path)


def test_a_bundle_of_before_low_precision_is_read():
    old = edited(lambda content: content.pop("half"))
    assert Manifest.from_json(old) == dataclasses.replace(FULL, half={})


@pytest.mark.parametrize("name", [MANIFEST_NAME, *(f"{name}.onnx" for name in GRAPHS)])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(BundleError, match=rf"{name}.*No such file.*`medseg-export"):
        Bundle.load(folder)


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize(
    "damage",
    [lambda content: content[:-1], lambda _: b"", lambda content: content[:-1] + bytes([content[-1] ^ 1])],
    ids=["truncated", "empty", "one bit"],
)
def test_a_damaged_graph_is_refused(folder, name, damage):
    path = folder / f"{name}.onnx"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(BundleError, match=rf"{name}\.onnx.*(is not the file|is empty).* Copy the bundle again"):
        Bundle.load(folder)


@pytest.mark.parametrize(
    "file", ["../outside.onnx", "/etc/hostname", "sub/encoder.onnx", "..", ".", "", "a\0b", "\ud800", "x" * 300]
)
def test_a_graph_outside_the_folder_is_refused(folder, file):
    content = b"outside"
    (folder.parent / "outside.onnx").write_bytes(content)
    (folder / "sub").mkdir()
    (folder / "sub" / "encoder.onnx").write_bytes(content)
    manifest = json.loads((folder / MANIFEST_NAME).read_text())
    manifest["graphs"]["encoder"] |= {"file": file, "sha256": hashlib.sha256(content).hexdigest()}
    (folder / MANIFEST_NAME).write_text(json.dumps(manifest))
    with pytest.raises(BundleError):
        Bundle.load(folder)


def test_a_manifest_that_is_no_text_is_refused(folder):
    (folder / MANIFEST_NAME).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BundleError, match="not text"):
        Bundle.load(folder)


def test_a_file_in_the_place_of_the_folder_is_refused(folder):
    with pytest.raises(BundleError, match="Give the folder"):
        Bundle.load(folder / "encoder.onnx")


def test_without_a_folder_the_shipped_model_is_meant(monkeypatch, folder):
    assert SHIPPED.name == "lidc-nodule"
    monkeypatch.setattr("medseg_runtime.model.bundle.SHIPPED", folder)
    assert Bundle.load() == Bundle.load(folder)
