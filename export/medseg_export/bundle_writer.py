"""Export a training run as a bundle folder with a model card."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

from medseg_export.checks import low_precision_gate, parity
from medseg_export.checks.low_precision_gate import Images
from medseg_export.graphs.low_precision import DTYPES
from medseg_export.graphs.to_onnx import graph_entry, onnx_graph, round_weights
from medseg_export.model_card import model_card
from medseg_runtime import __version__
from medseg_runtime.backends.host_loop import HostLoop
from medseg_runtime.backends.opening import open_backend
from medseg_runtime.errors import CheckpointError
from medseg_runtime.files.publish import FolderKind, check_output, published
from medseg_runtime.model.authenticity import SUFFIX
from medseg_runtime.model.bundle import MANIFEST_NAME, Bundle, Manifest, Sampling
from medseg_runtime.model.sampler import sampler_table
from medseg_runtime.model.signatures import GraphName
from medseg_trainer.evaluation.evaluate import Evaluation
from medseg_trainer.models.graphs import TorchBackend
from medseg_trainer.models.manifest import manifest_of
from medseg_trainer.training.data_record import read_record
from medseg_trainer.training.run_files import read_json
from medseg_trainer.training.run_folder import RunFolder

BUNDLE = FolderKind(
    "bundle",
    MANIFEST_NAME,
    frozenset({MANIFEST_NAME, f"{MANIFEST_NAME}{SUFFIX}", "README.md", "engines"})
    | {
        f"{name}{kind}.onnx"
        for name in get_args(GraphName)
        for kind in ("", *(f".{precision}" for precision in DTYPES))
    },
)


def write_bundle(
    run: RunFolder, out: Path, *, steps: int | None, force: bool, half: bool = False, data: Path | None = None
) -> tuple[Bundle, list[parity.Comparison]]:
    """Export a run, compare the graphs with torch, and publish the folder only if they agree. Return bundle and comparisons.

    steps: default sampling steps of the bundle; None: those of the run's configuration.
    half: also write float16 graphs, or bfloat16 graphs if float16 does not draw the same masks.
    data: data set whose val images the low-precision masks are checked on; None: one synthetic image.

    Raises:
        CheckpointError: the run is unfinished or damaged.
        DataError: the data are missing, or images and masks do not pair.
        ExportError: a graph cannot be exported, or does not agree with torch.
        OutputError: the folder exists and `force` is False, or cannot be written.
    """
    check_output(out, BUNDLE, force=force)
    run.check_finished()
    config = run.config()
    networks = run.networks()
    manifest = manifest_of(config)
    if steps is not None:
        manifest = replace(manifest, sampling=_with_steps(manifest.sampling, steps))
    sampler_table(manifest.path, manifest.sampling.sampler, manifest.sampling.steps)  # raises for impossible defaults
    # errors before minutes of work
    manifest = replace(manifest, training=training_record(run), metrics=metrics_record(run))
    images = Images.of_val(data, manifest) if data else Images.synthetic(manifest)
    full = TorchBackend(run.networks())
    round_weights(networks)
    trained = TorchBackend(networks)

    graphs = {name: onnx_graph(name, module, manifest) for name, module in networks.graphs().items()}
    manifest = replace(
        manifest,
        graphs={name: graph_entry(name, content, manifest.graphs[name]) for name, content in graphs.items()},
        versions={name: version(name) for name in ("torch", "onnx", "onnxscript", "numpy")}
        | {"medseglatdiff": __version__},
    )
    exported = open_backend("onnxruntime", Bundle(out, manifest, "", graphs))
    attempts = 3 if config.mask_autoencoder.regulariser == "vq" else 1
    assert isinstance(exported, HostLoop)
    comparisons = parity.check_parity(manifest, trained, exported, attempts)
    manifest = replace(
        manifest,
        parity=parity.parity_record(comparisons, parity.weight_rounding(manifest, full, trained)),
        versions=manifest.versions | {exported.name: exported.version},
    )
    files = {manifest.graphs[name].file: content for name, content in graphs.items()}
    if half:
        verdict = low_precision_gate.judge(networks, manifest, images)
        manifest = _with_half(manifest, verdict)
        files |= {manifest.half[name].file: content for name, content in verdict.taken.graphs.items()}
        comparisons += [
            replace(check, name=f"{verdict.taken.precision}: {check.name}") for check in verdict.taken.checks
        ]
    files |= {MANIFEST_NAME: manifest.to_json().encode(), "README.md": model_card(manifest).encode()}
    with published(out, BUNDLE, force=force) as folder:
        for name, content in files.items():
            (folder / name).write_bytes(content)
    return Bundle.load(out), comparisons


def _with_half(manifest: Manifest, verdict: low_precision_gate.Verdict) -> Manifest:
    """Add the low-precision graphs and the record of their checks."""
    taken = verdict.taken
    return replace(
        manifest,
        half={
            name: graph_entry(name, content, manifest.graphs[name], taken.precision)
            for name, content in taken.graphs.items()
        },
        parity=manifest.parity | {"half": verdict.describe()},
    )


def _with_steps(sampling: Sampling, steps: int) -> Sampling:
    """Change the default steps. A model tuned for another number no longer counts as tuned."""
    return replace(sampling, steps=steps, tuned=sampling.tuned and steps == sampling.steps)


def training_record(run: RunFolder) -> dict[str, Any]:
    """Return what bundle.json says about the training: data, steps, seed, date."""
    config, data = run.config(), read_record(run.path)
    return {
        "data": {} if data is None else asdict(data),
        "steps": {
            "mask autoencoder": config.mask_autoencoder.optimisation.steps,
            "denoiser": config.denoiser.optimisation.steps,
        }
        | ({} if config.energy is None else {"energy": config.energy.optimisation.steps}),
        "kept": run.kept(),
        "seed": config.seed,
        "exported": datetime.now(UTC).date().isoformat(),
    }


def metrics_record(run: RunFolder) -> dict[str, Any]:
    """Return the figures for bundle.json: evaluation.json without the hash of the bundle that was measured.

    That bundle may be an earlier export of the same run. The hash of this one depends on this text, so it cannot be in it.

    Raises:
        CheckpointError: the figures belong to other weights, because the run was trained further; or the file is damaged.
    """
    measured = read_json(run.path / "evaluation.json")
    if not measured:
        return {}
    remedy = "Run `medseg-train evaluate` again, or delete that file."
    if measured.get("kept") != run.kept():
        raise CheckpointError("evaluation.json belongs to other weights than these", remedy)
    try:
        Evaluation.from_content(measured)
    except TypeError as error:
        raise CheckpointError(f"evaluation.json is not as this version writes it: {error}", remedy) from error
    return {key: value for key, value in measured.items() if key not in ("bundle_sha256", "kept")}
