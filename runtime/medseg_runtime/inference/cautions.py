"""What a reader of a result should know about how it was made."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from medseg_runtime.model.bundle import Manifest
from medseg_runtime.model.preprocess import Placement
from medseg_runtime.model.sampler import SamplerTable
from medseg_runtime.result.accumulator import Accumulator
from medseg_runtime.result.uncertainty import consensus


def cautions(manifest: Manifest, counts: Accumulator, placement: Placement, table: SamplerTable) -> Iterator[str]:
    """Yield one sentence for each reason to doubt the masks."""
    rule, field = manifest.input, placement.field
    longer_side = max(placement.image_height, placement.image_width)
    if rule.geometry == "native" and not placement.pointed_at and longer_side > 2 * rule.context:
        yield (
            f"the network saw only the {field.width}x{field.height} px in the middle of this "
            f"{placement.image_width}x{placement.image_height} image: the model outlines what is at a point, so give a center or a region"
        )
    default = manifest.sampling
    if default.tuned and (table.sampler, len(table)) != (default.sampler, default.steps):
        yield (
            f"the model was tuned to draw in {default.steps} step{'s' * (default.steps > 1)} of {default.sampler}: its published "
            f"figures do not hold for {len(table)} of {table.sampler}, so leave steps and sampler as they are"
        )
    if not counts.counts.any():
        yield f"all {counts.samples} samples are empty: the model sees no {' or '.join(manifest.classes)} here"
    agreed = consensus(counts.confidence())
    for name, areas, mask in zip(manifest.classes, counts.areas().T, agreed, strict=True):
        samples = np.count_nonzero(areas)
        if samples and not mask.any():
            yield (
                f"the consensus is empty, though {samples} of {counts.samples} samples mark {name} ({samples / counts.samples:.0%}): "
                "look at the samples and the confidence before you conclude that there is none"
            )
