"""Draw samples of a prepared image until there are enough of them, and count their masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from medseg_runtime.backends.base import Backend
from medseg_runtime.errors import BackendError
from medseg_runtime.inference.prepare import Prepared
from medseg_runtime.model.bundle import Manifest
from medseg_runtime.model.noise import SampleNoise
from medseg_runtime.model.sampler import SamplerTable, time_features
from medseg_runtime.result.accumulator import Accumulator
from medseg_runtime.result.request import SampleRequest
from medseg_runtime.result.stopping import TOLERANCE, stages

Float32 = npt.NDArray[np.float32]


def sample(
    prepared: Prepared,
    manifest: Manifest,
    backend: Backend,
    request: SampleRequest,
    table: SamplerTable,
    *,
    max_batch: int,
) -> tuple[Accumulator, bool | None]:
    """Return the counts of all samples, and whether `auto` stopped because the confidence had settled (None without `auto`).

    max_batch: the most samples in one denoiser call.

    Raises:
        BackendError: the backend failed, or returned NaN or another shape.
    """
    keep = request.limit if request.keep_masks else 0
    counts = Accumulator(len(manifest.classes), prepared.placement, request.threshold, keep=keep)
    auto = request.samples == "auto"
    settled = None
    with prepared.clock("encode"):
        condition = backend.encode(prepared.field)
    for stage in stages(request.limit) if auto else [range(request.limit)]:
        for start in range(stage.start, stage.stop, max_batch):
            noise = [
                SampleNoise(request.seed, k, manifest.sampling.noise)
                for k in range(start, min(start + max_batch, stage.stop))
            ]
            with prepared.clock("denoise"):
                latents = _denoise(noise, condition, manifest, backend, table)
            with prepared.clock("decode"):
                logits = backend.decode(latents)
            _check_logits(logits, len(noise), manifest, backend)
            with prepared.clock("aggregate"):
                counts.add(logits)
        if auto:
            settled = counts.standard_error() <= TOLERANCE
        if settled:
            break
    return counts, settled


def _denoise(
    noise: list[SampleNoise], condition: Any, manifest: Manifest, backend: Backend, table: SamplerTable
) -> Any:
    """Noise => latents, all samples in one denoiser call per step."""
    shape = manifest.latent

    def fresh() -> Float32:
        return np.stack([n.draw(shape) for n in noise])

    features = time_features(table.t, manifest.time_features)
    return backend.denoise(condition, np.stack([n.start(shape) for n in noise]), table, features, fresh)


def _check_logits(logits: Float32, batch: int, manifest: Manifest, backend: Backend) -> None:
    """Refuse logits that would give masks of another shape."""
    (sides,) = manifest.graphs["decoder"].outputs.values()
    expected = tuple(batch if side == "N" else side for side in sides)
    if logits.shape != expected:
        raise BackendError(
            f"{backend.name} returned {logits.shape} from the decoder, not {expected}",
            "Try another --backend, and report the bundle.",
        )
