"""The bundle: a folder with three ONNX graphs and `bundle.json`, which holds everything needed to run them.

medseg-export writes it. Every file is checked against its SHA-256 when it is read, because inference libraries load a graph with a
flipped bit without an error. Then every graph is read whole, because the libraries would also read files that it names (`graph_guard`).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from medseg_runtime.errors import BundleError, MedsegError
from medseg_runtime.files.read import MAX_FILE_BYTES, is_link, read_bytes
from medseg_runtime.files.typed_json import MAX_JSON_BYTES, parse_json, typed
from medseg_runtime.model.authenticity import SUFFIX, check_signature, read_public_key
from medseg_runtime.model.graph_guard import GraphError, check_graph
from medseg_runtime.model.noise import NoiseLaw
from medseg_runtime.model.preprocess import InputRule
from medseg_runtime.model.sampler import ProbabilityPath, sampler_table
from medseg_runtime.model.signatures import GraphName, Shape, graph_signatures

SCHEMA_VERSION = 1
MANIFEST_NAME = "bundle.json"
SHIPPED = Path(__file__).parents[1] / "bundles" / "lidc-nodule"
MAX_BATCH = 64
"""Largest batch of the denoiser and decoder graphs; more samples take several calls."""

Precision = Literal["float32", "float16", "bfloat16"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Graph:
    """One ONNX file of the bundle."""

    file: str
    sha256: str
    opset: int
    precision: Precision
    """Type of the arithmetic of convolutions and products. Inputs and outputs are always float32."""
    weights: Precision
    """Type of the stored weights, which are cast to the type of the arithmetic at load."""
    inputs: dict[str, Shape]
    """Name -> shape; `N` is the batch, 1 to 64."""
    outputs: dict[str, Shape]


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """The default sampling settings of a bundle."""

    sampler: str
    steps: int
    noise: NoiseLaw
    """Joint distribution of the noise of one image's samples."""
    tuned: bool = False
    """The denoiser was tuned for exactly these steps and this noise; other settings were not measured."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """The content of bundle.json."""

    schema_version: int = SCHEMA_VERSION
    name: str
    task: str
    """One sentence: what is segmented in what."""
    classes: tuple[str, ...]
    """Foreground classes. One: a sigmoid, K = 1 logit. Several: a softmax over background and them."""
    input: InputRule
    latent: tuple[int, int, int]
    """Channels, rows, columns of the mask latent."""
    path: ProbabilityPath
    sampling: Sampling
    graphs: dict[GraphName, Graph]
    """The float32 graphs, which CPU backends run and all others are compared with."""
    half: dict[GraphName, Graph] = field(default_factory=dict)
    """The same three graphs in float16 or bfloat16, for GPU backends; empty unless exported with `--half`."""
    intended_use: str
    training: dict[str, Any] = field(default_factory=dict)
    """Data, split, license, command, steps, seed."""
    metrics: dict[str, Any] = field(default_factory=dict)
    """Measured results, with the split, date and command they come from."""
    parity: dict[str, Any] = field(default_factory=dict)
    """Largest differences between the trained network and the exported graphs."""
    versions: dict[str, str] = field(default_factory=dict)
    """Versions of the packages that made the bundle."""

    @property
    def num_logits(self) -> int:
        """K: 1 for one class, otherwise background and each class."""
        return 1 if len(self.classes) == 1 else len(self.classes) + 1

    @property
    def time_features(self) -> int:
        """Width of the sinusoids of the network time."""
        return int(self.graphs["denoiser"].inputs["time_features"][1])

    def to_json(self) -> str:
        """Return the text of bundle.json."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Read the text of bundle.json.

        Raises:
            BundleError: not JSON, of another schema version, or with a missing, unknown or unusable field.
        """
        remedy = "Export the bundle again with `medseg-export`."
        try:
            content = parse_json(text)
            version = content["schema_version"]
            if version != SCHEMA_VERSION:
                raise BundleError(
                    f"bundle.json has schema version {version!r}; this version of medseglatdiff reads {SCHEMA_VERSION}",
                    "Install the medseglatdiff that wrote it, or export it again.",
                )
            manifest: Manifest = typed(cls, content, "bundle.json")
            manifest._check()
        except BundleError:
            raise
        except (LookupError, TypeError, ValueError, OverflowError, RecursionError, MedsegError) as error:
            raise BundleError(f"bundle.json cannot be used: {type(error).__name__}: {error}", remedy) from error
        return manifest

    def _check(self) -> None:
        """Check that the parts of the manifest agree."""
        if not len(self.classes) == len(set(self.classes)) > 0:
            raise ValueError(f"classes {self.classes} are not distinct names")
        sampler_table(self.path, self.sampling.sampler, self.sampling.steps)
        _, *condition = self.graphs["encoder"].outputs["condition"]
        channels, rows, columns = (int(side) for side in condition)
        expected = graph_signatures(
            image=(self.input.channels, self.input.height, self.input.width),
            condition=(channels, rows, columns),
            latent=self.latent,
            time_features=self.time_features,
            num_logits=self.num_logits,
        )
        if self.graphs.keys() != expected.keys():
            raise ValueError(f"graphs are {', '.join(self.graphs)}, expected {', '.join(expected)}")
        for name, signature in expected.items():
            graph = self.graphs[name]
            # a backend returns its outputs in the order of this dict
            if graph.inputs != signature.inputs or list(graph.outputs.items()) != list(signature.outputs.items()):
                found = f"{graph.inputs} => {graph.outputs}"
                raise ValueError(f"{name} has {found}, expected {signature.inputs} => {signature.outputs}")
            shapes = (*signature.inputs.values(), *signature.outputs.values())
            if any(side != "N" and side < 1 for shape in shapes for side in shape):
                raise ValueError(f"{name} has a side of length 0: {graph.inputs} => {graph.outputs}")
            if graph.precision != "float32":
                raise ValueError(f"{name} computes in {graph.precision}, expected float32")
        self._check_half()

    def _check_half(self) -> None:
        """Check the low-precision graphs: all three or none, one precision, inputs and outputs as in float32."""
        if not self.half:
            return
        precisions = {graph.precision for graph in self.half.values()}
        if self.half.keys() != self.graphs.keys() or len(precisions) != 1 or "float32" in precisions:
            found = ", ".join(f"{name} in {graph.precision}" for name, graph in self.half.items())
            raise ValueError(f"half holds {found}, expected three graphs in float16 or three in bfloat16")
        for name, graph in self.half.items():
            full = self.graphs[name]
            if graph.inputs != full.inputs or list(graph.outputs.items()) != list(full.outputs.items()):
                raise ValueError(f"half.{name} has {graph.inputs} => {graph.outputs}, not what graphs.{name} has")


@dataclass(frozen=True, slots=True)
class Bundle:
    """A checked bundle: its manifest, and its graphs in memory."""

    folder: Path
    manifest: Manifest
    sha256: str
    """Of bundle.json, which holds the hash of each graph."""
    graphs: dict[GraphName, bytes]
    half: dict[GraphName, bytes] = field(default_factory=dict)
    """The graphs of `manifest.half`; empty if there are none."""
    trusted: bool = False
    """The caller trusts who made it: its graphs may have any operator, and its engines may run code on the CPU."""
    public_key: bytes | None = None
    """The key, in PEM, that bundle.json was signed with and that its engines must be signed with; None: signatures do not matter."""

    @classmethod
    def load(
        cls,
        folder: Path | str | None = None,
        *,
        trust_graphs: bool = False,
        require_signature: Path | str | None = None,
        bundle_sha256: str | None = None,
    ) -> Bundle:
        """Read and check a bundle; by default the lung-nodule model of this package.

        trust_graphs: allow operators, sub-graphs and functions that medseg-export does not write. Data in other files never are.
        require_signature: the file of a public key; the bundle must be signed with it (`medseg-export sign`).
        bundle_sha256: of bundle.json, in hexadecimal; the bundle must be this one.

        Raises:
            BundleError: a file is missing, is not what bundle.json says, or lies outside the folder; a graph is not one that
                medseg-export writes; the bundle is not signed with the key, or not the one asked for.
        """
        folder = SHIPPED if folder is None else Path(folder)
        remedy = "Give the folder that `medseg-export --out` wrote."
        text = _read(folder / MANIFEST_NAME, remedy, limit=MAX_JSON_BYTES)
        sha256 = hashlib.sha256(text).hexdigest()
        if bundle_sha256 is not None and bundle_sha256.lower() != sha256:
            raise BundleError(
                f"the bundle has the SHA-256 {sha256}, not {bundle_sha256}",
                "Give the bundle or the hash that you mean.",
            )
        public_key = None if require_signature is None else read_public_key(Path(require_signature))
        if public_key is not None:
            check_signature(text, folder / f"{MANIFEST_NAME}{SUFFIX}", public_key, MANIFEST_NAME)
        try:
            manifest = Manifest.from_json(text.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise BundleError("bundle.json is not text", "Export the bundle again with `medseg-export`.") from error
        return cls(
            folder=folder,
            manifest=manifest,
            sha256=sha256,
            graphs={name: _read_graph(folder, graph, trust_graphs) for name, graph in manifest.graphs.items()},
            half={name: _read_graph(folder, graph, trust_graphs) for name, graph in manifest.half.items()},
            trusted=trust_graphs,
            public_key=public_key,
        )


def _read(path: Path, remedy: str, *, limit: int = MAX_FILE_BYTES) -> bytes:
    return read_bytes(path, BundleError, remedy, name=f"{path.name!r} of the bundle", limit=limit)


def _read_graph(folder: Path, graph: Graph, trusted: bool) -> bytes:
    remedy = "Copy the bundle again, or export it again with `medseg-export`."
    if Path(graph.file).name != graph.file:
        raise BundleError(f"bundle.json names a graph outside its folder: {graph.file!r}", remedy)
    path = folder / graph.file
    if is_link(path) and path.resolve().parent != folder.resolve():
        raise BundleError(
            f"{graph.file} is a link to a file outside the bundle", "Copy the bundle with its files: `cp -rL`."
        )
    content = _read(path, remedy)
    if hashlib.sha256(content).hexdigest() != graph.sha256:
        raise BundleError(f"{graph.file} is not the file that bundle.json describes (SHA-256 differs)", remedy)
    _check_graph(graph.file, content, trusted)
    return content


def _check_graph(file: str, content: bytes, trusted: bool) -> None:
    try:
        check_graph(content, trusted=trusted)
    except GraphError as error:
        remedy = "Export the bundle again with `medseg-export`."
        if not trusted and _can_be_trusted(content):
            remedy = f"{remedy[:-1]}, or allow it with --trust-graphs if you trust who made it."
        raise BundleError(f"{file} {error}", remedy) from error


def _can_be_trusted(content: bytes) -> bool:
    try:
        check_graph(content, trusted=True)
    except GraphError:
        return False
    return True
