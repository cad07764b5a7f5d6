"""Names and shapes of the inputs and outputs of the three graphs. The exporter writes them; the runtime checks them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

GraphName = Literal["encoder", "denoiser", "decoder"]
Shape = tuple[int | Literal["N"], ...]
"""`N` is the batch: samples of one image, 1 to 64."""
ROW = 5
"""Numbers in a row of a sampler's table that the denoiser reads: p, q, a, b, c."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Signature:
    """The inputs and outputs of one graph, name -> shape, all float32. Outputs are returned in this order."""

    inputs: dict[str, Shape]
    outputs: dict[str, Shape]


def graph_signatures(
    *,
    image: tuple[int, int, int],
    condition: tuple[int, int, int],
    latent: tuple[int, int, int],
    time_features: int,
    num_logits: int,
) -> dict[GraphName, Signature]:
    """Return the signature of each graph.

    image: channels, rows, columns of the field. condition, latent: channels, rows, columns of the encoder's output and of a
    mask's latent. time_features: width of the sinusoids of the network time. num_logits: K.
    """
    latents: Shape = ("N", *latent)
    conditions: Shape = (1, *condition)
    step: dict[str, Shape] = {
        "latent": latents,
        "extra": latents,
        "condition": conditions,
        "time_features": (1, time_features),
        "row": (ROW,),
    }
    return {
        "encoder": Signature(inputs={"image": (1, *image)}, outputs={"condition": conditions}),
        "denoiser": Signature(inputs=step, outputs={"next_latent": latents, "denoised": latents}),
        "decoder": Signature(inputs={"latent": latents}, outputs={"logits": ("N", num_logits, *image[1:])}),
    }
