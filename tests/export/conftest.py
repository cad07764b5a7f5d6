"""Micro runs of each kind, trained and exported once."""

import shutil
from dataclasses import replace
from functools import cache, partial

import numpy as np
import pytest
from PIL import Image

from medseg_runtime.model.bundle import Bundle


@pytest.fixture(scope="session")
def two_classes(tmp_path_factory):
    """A plain data folder of color images: a bright core in a dim rim, outlined by one rater."""
    data = tmp_path_factory.mktemp("two-classes")
    (data / "images").mkdir()
    (data / "masks").mkdir()
    lines = ["image,split"]
    rng = np.random.default_rng(0)
    row, column = np.mgrid[:40, :56]
    for number in range(10):
        distance = np.hypot(row - rng.uniform(15, 25), column - rng.uniform(20, 36))
        labels = np.where(distance < 5, 1, np.where(distance < 10, 2, 0)).astype(np.uint8)
        grey = np.choose(labels, (40, 220, 120)) + rng.normal(0, 10, labels.shape)
        Image.fromarray(np.repeat(grey[:, :, None], 3, axis=2).clip(0, 255).astype(np.uint8)).save(
            data / "images" / f"{number}.png"
        )
        Image.fromarray(labels).save(data / "masks" / f"{number}.png")
        lines.append(f"{number}.png,{'val' if number > 7 else 'train'}")
    (data / "splits.csv").write_text("\n".join(lines))
    return data


@pytest.fixture(scope="session")
def kinds(micro, phantom_zips, two_classes):
    """Name -> (configuration, data): flow on the sphere; the paper's; three logits, color, KL."""
    from medseg_runtime.model.bundle import Sampling
    from medseg_runtime.model.noise import NoiseLaw
    from medseg_runtime.model.preprocess import InputRule
    from medseg_runtime.model.sampler import ProbabilityPath
    from medseg_trainer.config.run import ConditionConfig

    flow = micro()
    vq = replace(flow.mask_autoencoder, regulariser="vq", latent_noise=0.0, codebook_size=300)
    paper = replace(
        flow,
        mask_autoencoder=vq,
        condition=ConditionConfig(
            kind="autoencoder", tuned=False, autoencoder=replace(vq, reconstruction="mse"), channels=4
        ),
        denoiser=replace(flow.denoiser, raters_per_image=1, auxiliary_weight=0.0),
        path=ProbabilityPath(objective="epsilon"),
        sampling=Sampling(sampler="ddim", steps=5, noise=NoiseLaw()),
    )
    classes = replace(
        flow,
        classes=("core", "rim"),
        input=InputRule(channels=3, height=32, width=48, geometry="resize", intensity="unit"),
        raters=1,
        mask_autoencoder=replace(flow.mask_autoencoder, regulariser="kl", latent_noise=0.0),
        denoiser=replace(flow.denoiser, raters_per_image=1),
    )
    return {"flow": (flow, phantom_zips), "paper": (paper, phantom_zips), "classes": (classes, two_classes)}


def shake(path):
    """Add noise to the weights of a file: after three steps many are zero, and empty masks test little."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    generator = torch.Generator().manual_seed(0)
    with safe_open(path, "pt") as opened:
        metadata = opened.metadata()
    tensors = load_file(path)
    for tensor in tensors.values():
        if tensor.ndim > 1:
            tensor.add_(torch.randn(tensor.shape, generator=generator) / tensor[0].numel() ** 0.5)
    save_file(tensors, path, metadata)


@pytest.fixture(scope="session")
def run_of(kinds, tmp_path_factory):
    """run_of(kind) returns the folder of a finished run; read only."""
    from medseg_trainer.training.loop import fit

    @cache
    def run(kind):
        config, data = kinds[kind]
        out = tmp_path_factory.mktemp("runs") / kind
        fit(config, data, out)
        for stage in ("mask_autoencoder", "denoiser"):
            shake(out / f"{stage}.safetensors")
        return out

    return run


@pytest.fixture(scope="session")
def bundle_of(run_of, tmp_path_factory):
    """bundle_of(kind) returns the folder of its bundle; read only."""
    from medseg_export.bundle_writer import write_bundle
    from medseg_trainer.training.run_folder import RunFolder

    @cache
    def export(kind):
        out = tmp_path_factory.mktemp("bundles") / kind
        write_bundle(RunFolder(run_of(kind)), out, steps=None, force=False)
        return out

    return export


@pytest.fixture(scope="session")
def half_bundle_of(run_of, bundle_of, kinds, tmp_path_factory):
    """half_bundle_of(kind) returns the folder of its bundle with low-precision graphs, checked on val images; read only."""
    from medseg_export import bundle_writer
    from medseg_runtime.model.bundle import Bundle
    from medseg_trainer.training.run_folder import RunFolder

    @cache
    def export(kind):
        out = tmp_path_factory.mktemp("half-bundles") / kind
        full = Bundle.load(bundle_of(kind)).graphs  # not exported twice
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(bundle_writer, "onnx_graph", lambda name, *_: full[name])
            bundle_writer.write_bundle(
                RunFolder(run_of(kind)), out, steps=None, force=False, half=True, data=kinds[kind][1]
            )
        return out

    return export


@pytest.fixture(scope="module")
def bundle(half_bundle_of):
    """A bundle of the `flow` kind with float16 graphs; read only."""
    return Bundle.load(half_bundle_of("flow"))


@pytest.fixture
def own(half_bundle_of, tmp_path):
    """A bundle that a test may write to."""
    return Bundle.load(shutil.copytree(half_bundle_of("flow"), tmp_path / "bundle"))


@pytest.fixture
def cache_home(tmp_path, monkeypatch):
    """An empty cache folder for this test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "medseglatdiff" / "tensorrt"


@pytest.fixture
def medseg_export(run_command):
    """medseg_export(*arguments) -> (exit code, stdout, stderr)."""
    from medseg_export import cli

    return partial(run_command, cli.main, "medseg-export")


@pytest.fixture
def image(kinds):
    """image(kind) returns a val image of that kind's run."""
    from medseg_trainer.data.layouts import read_cases

    def first(kind):
        config, data = kinds[kind]
        return read_cases(data, "val", len(config.classes))[0].image

    return first
