"""The README.md of a bundle, written from its manifest: what it is, what it was trained on, how good it is, what it is not."""

from __future__ import annotations

from typing import Any

from medseg_runtime.model.bundle import Manifest
from medseg_trainer.evaluation.statistics import TITLES

GEOMETRY = {
    "resize": "The image, or the region given, is resampled to {width}x{height} px; masks are resampled back.",
    "native": "Pixels keep their size. A {context}x{context} px window around the point of interest (the middle of the image, or of the region "
    "given) fixes the intensity scale; the {width}x{height} px in its middle are what the network sees.",
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
    """Say how samples are drawn where nobody asks for anything else."""
    sampling, noise = manifest.sampling, manifest.sampling.noise
    text = f"Objective `{manifest.path.objective}`; default sampler `{sampling.sampler}`, {sampling.steps} step(s)."
    if noise.antithetic:
        text += " Sample 2j + 1 starts from the negated noise of sample 2j."
    if noise.stratified:
        text += (
            f" {noise.stratified:.0%} of the noise's variance is one number per channel and sample, from a Sobol sequence, so that "
            "the samples of one image spread evenly."
        )
    if sampling.tuned:
        text += (
            " The denoiser was tuned for just these steps and this noise: other settings draw what nobody has measured."
        )
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
    """Say what the low-precision graphs are, and how far their masks are from those of float32."""
    taken, largest = record["precision"], record["largest magnitude"]
    text = (
        f"The graphs are there in {taken} too, for GPUs. Judged on {record['images']}, {record['samples']} samples each: the mean Dice of "
        f"their masks with those of float32, from the same noise, is {record['dice']:.4f}; the largest number in the network is "
        f"{largest['value']:.0f} ({largest['where']}), and float16 ends at 65,504."
    )
    return text + "".join(f"\n\n{precision} was refused: {reason}." for precision, reason in record["refused"].items())


def _limits(manifest: Manifest) -> str:
    lines = [
        "- Research software, not a medical device; it has not been tested on patients of any other hospital, scanner or protocol.",
        "- The confidence map says how far samples of this model agree. It is no probability of disease.",
    ]
    if manifest.input.geometry == "native":
        lines.append(
            "- It outlines a structure that someone points at, at the middle of the crop. It does not search: pointed at healthy tissue, "
            "it may well outline a vessel."
        )
    return "\n".join(lines)
