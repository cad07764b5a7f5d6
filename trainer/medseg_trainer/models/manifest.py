"""The manifest of a run's networks, before there are files of them."""

from __future__ import annotations

from medseg_runtime.model.bundle import Graph, Manifest, Sampling
from medseg_runtime.model.signatures import graph_signatures
from medseg_trainer.config.run import TrainConfig

INTENDED_USE = "Research only. Not a medical device: not for diagnosis, treatment, or any clinical decision."


def manifest_of(config: TrainConfig, sampling: Sampling | None = None) -> Manifest:
    """Describe a run's networks as a bundle does. The graphs have no hash and no opset: they are not exported.

    sampling: how the segmenter samples; default: as the finished run does.
    """
    rule = config.input
    signatures = graph_signatures(
        image=(rule.channels, rule.height, rule.width),
        condition=(config.condition.channels, *config.latent[1:]),
        latent=config.latent,
        time_features=config.denoiser.time_features,
        num_logits=config.num_logits,
    )
    return Manifest(
        name=config.name,
        task=config.task,
        classes=config.classes,
        input=rule,
        latent=config.latent,
        path=config.path,
        sampling=config.tuned_sampling if sampling is None else sampling,
        graphs={
            name: Graph(
                file=f"{name}.onnx",
                sha256="",
                opset=0,
                precision="float32",
                weights="float32",
                inputs=signature.inputs,
                outputs=signature.outputs,
            )
            for name, signature in signatures.items()
        },
        intended_use=INTENDED_USE,
    )
