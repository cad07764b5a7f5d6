"""Compare the tensors of a file with those of the network that they are for.

torch casts while it copies, broadcasts a single number, and takes NaN: another file would be trained on without a word.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from medseg_runtime.errors import CheckpointError


def check_tensors(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], file: str, remedy: str) -> None:
    """Refuse tensors of other names, shapes or types than expected, and numbers that are not finite.

    Raises:
        CheckpointError: they are.
    """
    if {name: _kind(tensor) for name, tensor in found.items()} != {name: _kind(t) for name, t in expected.items()}:
        raise CheckpointError(f"{file} does not fit config.json", remedy)
    if not all(torch.isfinite(tensor).all() for tensor in found.values()):
        raise CheckpointError(f"{file} holds NaN or infinite numbers", remedy)


def _kind(tensor: Tensor) -> tuple[torch.Size, torch.dtype]:
    return tensor.shape, tensor.dtype
