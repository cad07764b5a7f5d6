"""The val crops of LIDC-IDRI, for agreement and folder. They are not part of the repository."""

from __future__ import annotations

from pathlib import Path

from medseg_runtime.errors import DataError
from medseg_runtime.model.preprocess import Pixels
from medseg_trainer.data.layouts import read_cases


def val_images(data: Path, count: int) -> list[Pixels]:
    """Return up to `count` evenly spaced val images; an empty list if the data set is absent."""
    try:
        cases = read_cases(data, "val", 1, ("nodule",))
    except DataError:
        return []
    count = min(count, len(cases))
    return [cases[index * len(cases) // count].image for index in range(count)]
