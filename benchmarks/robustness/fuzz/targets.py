"""What is fuzzed: where files of others enter, each with its first files, its mutator and its reader.

To add one, write a function that takes an empty folder and returns a reader of bytes, and a line in `TARGETS`.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from random import Random

from benchmarks.robustness.fuzz import seeds
from benchmarks.robustness.fuzz.mutators import archives, dicom, json_tree, octets, pictures, protobuf

Read = Callable[[bytes], object]
"""Return anything, or raise `MedsegError`. Everything else is a finding."""
Change = Callable[[bytes, Random], bytes]
KIB = 1 << 10
OURS = ("medseg_runtime", "medseg_trainer")


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """A reader, and how it is fed."""

    reads: Callable[[Path], Read]
    """An empty folder => the reader. Its imports are instrumented."""
    seeds: seeds.Seeds
    change: Change
    runs: int
    """Of the more than 1,000,000 of the whole campaign: more where they are cheap."""
    largest: int = 8 * KIB
    """Bytes of an input."""
    guided_by: tuple[str, ...] = OURS
    """The packages whose branches are counted."""


def _manifest(folder: Path) -> Read:
    from medseg_runtime.model.bundle import MANIFEST_NAME, Bundle

    empty = b"\x08\x0a\x3a\x00"
    hashes = hashlib.sha256(empty).hexdigest().encode(), b"0" * 64
    for name in ("encoder", "denoiser", "decoder"):
        (folder / f"{name}.onnx").write_bytes(empty)

    def read(content: bytes) -> object:
        (folder / MANIFEST_NAME).write_bytes(content.replace(hashes[1], hashes[0]))
        return Bundle.load(folder)

    return read


def _graph(_: Path) -> Read:
    from medseg_runtime.errors import BundleError
    from medseg_runtime.model.graph_guard import GraphError, check_graph

    def read(content: bytes) -> object:
        for trusted in (True, False):
            try:
                check_graph(content, trusted=trusted)
            except GraphError as error:
                raise BundleError(str(error), "Export it again.") from error
        return None

    return read


def _graph_run(folder: Path) -> Read:
    """Put a graph that the guard lets pass into a bundle, with the right hash, and draw two masks with it."""
    import numpy as np

    from medseg_runtime.inference.segmenter import Segmenter
    from medseg_runtime.model.bundle import MANIFEST_NAME, Manifest
    from medseg_runtime.model.signatures import GraphName

    bundle = import_module("tests.runtime.tiny_bundle")
    whole = Manifest.from_json((bundle.write_bundle(folder) / MANIFEST_NAME).read_text())
    image = np.arange(64, dtype=np.uint8).reshape(8, 8)

    def read(content: bytes) -> object:
        name: GraphName = next((name for name in whole.graphs if name.encode() in content), "decoder")
        graph = dataclasses.replace(whole.graphs[name], sha256=hashlib.sha256(content).hexdigest())
        (folder / f"{name}.onnx").write_bytes(content)
        manifest = dataclasses.replace(whole, graphs=dict(whole.graphs) | {name: graph})
        (folder / MANIFEST_NAME).write_text(manifest.to_json())
        try:
            with Segmenter.load(folder, backend="onnxruntime", threads=1) as segmenter:
                return segmenter(image, samples=2)
        finally:
            bundle.write_bundle(folder)

    return read


def _image(_: Path) -> Read:
    import numpy as np

    from medseg_runtime.readers.image import is_dicom, read_image

    def read(content: bytes) -> object:
        image = read_image(content, 1 if is_dicom(content) else None)
        assert image.pixels.ndim in (2, 3), image.pixels.shape
        assert min(image.pixels.shape[:2]) >= 2, image.pixels.shape
        assert np.isfinite(image.pixels).all()
        return image

    return read


def _series(folder: Path) -> Read:
    from medseg_runtime.readers.series import list_series, read_series

    path = folder / "study.zip"

    def read(content: bytes) -> object:
        path.write_bytes(content)
        list_series(path)
        stack = read_series(path)
        return [stack.read(index) for index in range(min(len(stack), 3))]

    return read


def _pointing_report(_: Path) -> Read:
    from medseg_runtime.readers.dicom.pointing_sr import choose, read_findings

    def read(content: bytes) -> object:
        found = read_findings(content)
        return choose(found, 1).location(), [str(each) for each in found]

    return read


def _clip(folder: Path) -> Read:
    from medseg_runtime.readers.clip import Frames, read_clip

    path = folder / "clip"

    def read(content: bytes) -> object:
        path.write_bytes(content)
        clip = read_clip(path, Frames(1, 4))
        for image in clip:
            assert image.pixels.shape[:2] == clip.size, image.pixels.shape
        return clip

    return read


def _volume(folder: Path) -> Read:
    from medseg_runtime.readers.series import read_volume

    path = folder / "volume"

    def read(content: bytes) -> object:
        path.write_bytes(content)
        stack = read_volume(path)
        return [stack.read(index) for index in range(min(len(stack), 3))]

    return read


def _engine_record(folder: Path) -> Read:
    from medseg_runtime.backends.gpu.tensorrt.engine_files import RECORD_NAME, open_engines
    from medseg_runtime.model.bundle import Bundle
    from medseg_runtime.testing import toy_manifest

    target = folder / "engines" / "tensorrt_rtx-sm86"
    target.mkdir(parents=True)
    (target / "a.plan").write_bytes(b"abc")
    manifest = toy_manifest()
    graphs = {name: dataclasses.replace(graph, sha256="1" * 64) for name, graph in manifest.graphs.items()}
    bundle = Bundle(folder=folder, manifest=dataclasses.replace(manifest, graphs=graphs), sha256="", graphs={})
    plan = hashlib.sha256(b"abc").hexdigest().encode()

    def read(content: bytes) -> object:
        (target / RECORD_NAME).write_bytes(content.replace(b"0" * 64, plan))
        return open_engines(bundle, "tensorrt_rtx", "1.2.0.54", 86)

    return read


def _cache(folder: Path) -> Read:
    """Read a file of the cache, and a choice of backends that was sealed with this user's key."""
    import os

    os.environ["XDG_CACHE_HOME"] = str(folder)
    from medseg_runtime.backends.auto import select
    from medseg_runtime.files import cache
    from medseg_runtime.model.bundle import Bundle
    from medseg_runtime.testing import toy_manifest

    bundle = Bundle(folder=folder, manifest=toy_manifest(), sha256="0" * 64, graphs={})
    assert cache.store("damaged", b"content")

    def read(content: bytes) -> object:
        (folder / "medseglatdiff" / "damaged").write_bytes(content)
        assert cache.load("damaged") is None
        cache.store(select._cache_name(bundle, "auto"), content)  # noqa: SLF001 - the name is of this machine
        return select.known_choice(bundle)

    return read


def _signature(folder: Path) -> Read:
    from medseg_runtime.model.authenticity import check_signature

    path = folder / "bundle.json.sig"

    def read(content: bytes) -> object:
        path.write_bytes(content[:64])
        check_signature(b"content", path, content[64:], "bundle.json")
        return None

    return read


def _configuration(_: Path) -> Read:
    from medseg_runtime.errors import CheckpointError
    from medseg_trainer.config.run import TrainConfig

    def read(content: bytes) -> object:
        try:
            text = content.decode()
        except UnicodeDecodeError as error:
            raise CheckpointError("no text", "Copy it again.") from error
        return TrainConfig.from_json(text)

    return read


def _run_records(folder: Path) -> Read:
    from medseg_trainer.training.data_record import read_record
    from medseg_trainer.training.run_folder import RunFolder

    def read(content: bytes) -> object:
        record, _, log = content.partition(b"\n")
        (folder / "data.json").write_bytes(record)
        (folder / "metrics.jsonl").write_bytes(log)
        RunFolder(folder).drop_log_after("denoiser", 2)
        return read_record(folder)

    return read


def _weights(folder: Path) -> Read:
    """Read the weights and the state of a stage of two tensors."""
    import torch

    from medseg_trainer.config.presets import tiny
    from medseg_trainer.training.run_folder import RunFolder

    (folder / "state").mkdir()
    (folder / "config.json").write_text(dataclasses.replace(tiny(), energy=None).to_json())
    module = torch.nn.Module()
    module.register_buffer("a", torch.ones(2, 3))
    module.register_buffer("b", torch.zeros(4))

    def read(content: bytes) -> object:
        for name in ("denoiser.safetensors", "state/denoiser.safetensors"):
            (folder / name).write_bytes(content)
        run = RunFolder(folder)
        run.check_finished()
        run.load_weights("denoiser", module)
        return run.kept()

    return read


def _own_folder(folder: Path, name: str) -> Read:
    """Read a folder of two images, one of whose files is given."""
    from medseg_trainer.data.layouts import read_cases

    picture, disc = seeds.encoded(seeds.SMOOTH, "PNG"), seeds.encoded(seeds.DISC * 255, "PNG")
    for inner in ("images", "annotations", *(["masks"] if name == "splits.csv" else [])):
        (folder / inner).mkdir()
    for image in ("a", "b"):
        (folder / "images" / f"{image}.png").write_bytes(picture)
        if name == "splits.csv":
            (folder / "masks" / f"{image}.png").write_bytes(disc)
    (folder / "splits.csv").write_text(
        "image,split\na,train\nb,train\n" if "coco" in name else "image,split\na,train\n"
    )

    def read(content: bytes) -> object:
        (folder / name).write_bytes(content)
        return list(read_cases(folder, "train", 1, ("nodule",)))

    return read


def _data_zip(folder: Path) -> Read:
    from medseg_trainer.data.layouts import read_cases

    names = {b"LIDC": "lidc-train-0.zip", b"CVC-": "cvc-clinicdb-train-0.zip", b"ISIC": "isic2018-256px-train-0.zip"}

    def read(content: bytes) -> object:
        for old in folder.iterdir():
            old.unlink()
        (folder / next((name for mark, name in names.items() if mark in content), names[b"LIDC"])).write_bytes(content)
        return list(read_cases(folder, "train", 1))

    return read


def _mask(_: Path) -> Read:
    from medseg_trainer.data.masks import read_mask

    def read(content: bytes) -> object:
        return read_mask(content, "masks/a.png", 1), read_mask(content, "masks/a.png", 2)

    return read


def _text(content: bytes, chance: Random) -> bytes:
    """Change a JSON text, and the lines behind it as bytes."""
    first, mark, rest = content.partition(b"\n")
    return json_tree.change(first, chance) + mark + (octets.change(rest, chance) if chance.random() < 0.3 else rest)


# fmt: off
TARGETS: dict[str, Target] = {
    "bundle.json": Target(reads=_manifest, seeds=seeds.manifests, change=json_tree.change, runs=200_000, largest=16 * KIB),
    "graph": Target(reads=_graph, seeds=seeds.graphs, change=protobuf.change, runs=400_000, largest=4 * KIB),
    "graph, run": Target(reads=_graph_run, seeds=seeds.graphs, change=protobuf.change, runs=5_000, largest=4 * KIB),
    "engine.json": Target(reads=_engine_record, seeds=seeds.engine_records, change=json_tree.change, runs=60_000),
    "cache": Target(reads=_cache, seeds=lambda: iter([b'{"backend": "onnxruntime", "precision": "float32", "why": "x"}']), change=json_tree.change, runs=15_000),
    "signature": Target(reads=_signature, seeds=seeds.signatures, change=octets.change, runs=40_000),
    "PNG": Target(reads=_image, seeds=seeds.pngs, change=pictures.change_png, runs=60_000),
    "JPEG": Target(reads=_image, seeds=seeds.jpegs, change=pictures.change_jpeg, runs=60_000),
    "TIFF, BMP": Target(reads=_image, seeds=seeds.tiffs, change=pictures.change_tiff, runs=40_000),
    "DICOM": Target(reads=_image, seeds=seeds.dicoms, change=dicom.change, runs=30_000, largest=64 * KIB),
    "DICOM series": Target(reads=_series, seeds=seeds.series, change=archives.change_zip(dicom.change), runs=5_000, largest=64 * KIB),
    "DICOM clip": Target(reads=_clip, seeds=seeds.clips, change=dicom.change, runs=5_000, largest=64 * KIB),
    "pointing SR": Target(reads=_pointing_report, seeds=seeds.pointing_reports, change=dicom.change, runs=10_000, largest=16 * KIB),
    "video": Target(reads=_clip, seeds=seeds.videos, change=octets.change, runs=5_000, largest=32 * KIB),
    "volume": Target(reads=_volume, seeds=seeds.volumes, change=archives.change_gzip(octets.change), runs=30_000),
    "config.json": Target(reads=_configuration, seeds=seeds.configurations, change=json_tree.change, runs=60_000),
    "data.json, metrics.jsonl": Target(reads=_run_records, seeds=seeds.data_records, change=_text, runs=15_000),
    "safetensors": Target(reads=_weights, seeds=seeds.weights, change=archives.change_safetensors, runs=5_000),
    "splits.csv": Target(reads=partial(_own_folder, name="splits.csv"), seeds=seeds.tables, change=octets.change, runs=10_000),
    "COCO": Target(reads=partial(_own_folder, name="annotations/coco.json"), seeds=seeds.coco, change=json_tree.change, runs=10_000),
    "labelme": Target(reads=partial(_own_folder, name="annotations/a.json"), seeds=seeds.labelme, change=json_tree.change, runs=10_000),
    "data set zip": Target(reads=_data_zip, seeds=seeds.data_zips, change=archives.change_zip(pictures.change_png), runs=8_000, largest=32 * KIB),
    "mask": Target(reads=_mask, seeds=seeds.masks, change=pictures.change_png, runs=5_000),
}
# fmt: on
