"""Write the README.md of a bundle from its manifest: use, training, figures and limits."""

from __future__ import annotations

from typing import Any

from medseg_runtime.model.bundle import Manifest
from medseg_trainer.evaluation.statistics import TITLES

GEOMETRY = {
    "resize": "The image, or the given region, is resampled to {width}x{height} px; masks are resampled back.",
    "native": "Pixels keep their size. A {context}x{context} px window around the point of interest (the center of the image, or of the given region) "
    "sets the intensity scale; the network sees the {width}x{height} px at its center.",
}


def model_card(manifest: Manifest) -> str:
    """Return the card as Markdown."""
    data = manifest.training.get("data", {})
    sections = [
        f"# {manifest.name}\n\n**{manifest.intended_use}**\n\nTask: {manifest.task}. Classes: {', '.join(manifest.classes)}.",
        "## Input\n\n" + GEOMETRY[manifest.input.geometry].format(**_fields(manifest)),
        "## Sampling\n\n" + _sampling(manifest),
        "## Training\n\n" + _training(manifest.training, data),
        "## Figures\n\n" + _figures(manifest.metrics, data),
        *(["## Low precision\n\n" + _half(manifest.parity["half"])] if manifest.half else []),
        "## Limits\n\n" + _limits(manifest),
    ]
    return "\n\n".join(sections) + "\n"


def _fields(manifest: Manifest) -> dict[str, int]:
    rule = manifest.input
    return {"width": rule.width, "height": rule.height, "context": rule.context}


def _sampling(manifest: Manifest) -> str:
    """Describe the default sampling."""
    sampling, noise = manifest.sampling, manifest.sampling.noise
    text = f"Objective `{manifest.path.objective}`; default sampler `{sampling.sampler}`, {sampling.steps} step(s)."
    if noise.antithetic:
        text += " Sample 2j + 1 starts from the negated noise of sample 2j."
    if noise.stratified:
        text += (
            f" {noise.stratified:.0%} of the noise variance is one number per channel and sample, taken from a Sobol sequence, so "
            "that the samples of one image spread evenly."
        )
    if sampling.tuned:
        text += " The denoiser was tuned for these steps and this noise; results with other settings are not measured."
    return text


def _training(training: dict[str, Any], data: dict[str, Any]) -> str:
    lines = [f"- Data: {data.get('layout', 'not recorded')}"]
    for split, count in data.get("splits", {}).items():
        lines.append(f"- {split}: {count['images']:,} images of {count['groups']:,} {_groups(data)}")
    lines += [f"- {key.capitalize()}: {data[key]}" for key in ("licence", "citation", "command") if data.get(key)]
    lines += [
        f"- Steps: {', '.join(f'{name} {count:,}' for name, count in training['steps'].items())}; seed {training['seed']}. Kept: {training['kept']}."
    ]
    return "\n".join(lines)


def _groups(data: dict[str, Any]) -> str:
    return str(data.get("grouped_by", "groups"))


def _figures(metrics: dict[str, Any], data: dict[str, Any]) -> str:
    if not metrics:
        return "Not measured. Run `medseg-train evaluate` on this bundle and its data."
    rows = [
        f"| {title} | {f['mean']:.3f} | {f['low']:.3f} to {f['high']:.3f} |"
        for key, title in TITLES.items()
        if (f := metrics["figures"].get(key)) and f["mean"] is not None
    ]
    return (
        f"Split `{metrics['split']}`, {metrics['images']:,} images of {metrics['groups']:,} {_groups(data)}, {metrics['samples']} samples, "
        f"{metrics['steps']} steps, measured on {metrics['date']} with `{metrics['command']}` ({metrics['backend']}). "
        f"Intervals: 95 %, bootstrap over {_groups(data)}.\n\n| figure | mean | interval |\n|---|---|---|\n"
        + "\n".join(rows)
    )


def _half(record: dict[str, Any]) -> str:
    """Describe the low-precision graphs and how well their masks agree with the float32 masks."""
    taken, largest = record["precision"], record["largest magnitude"]
    text = (
        f"The bundle also holds the graphs in {taken}, for GPUs. On {record['images']} with {record['samples']} samples each, the mean "
        f"Dice of their masks with the float32 masks from the same noise is {record['dice']:.4f}. The largest number in the network is "
        f"{largest['value']:.0f} ({largest['where']}); the float16 maximum is 65,504."
    )
    return text + "".join(f"\n\n{precision} was refused: {reason}." for precision, reason in record["refused"].items())


def _limits(manifest: Manifest) -> str:
    lines = [
        "- Research software, not a medical device. Not tested on other hospitals, scanners or protocols than those of the data above.",
        "- The confidence map shows how well samples of this model agree. It is not a probability of disease.",
    ]
    if manifest.input.geometry == "native":
        lines.append(
            "- The model outlines the structure at the center of the crop. It does not search for lesions: centered on healthy tissue, it may "
            "outline a vessel."
        )
    return "\n".join(lines)
