"""data.json of a run folder: the data that the run was trained on."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medseg_runtime.errors import CheckpointError
from medseg_trainer.data.layouts import Layout
from medseg_trainer.training.run_files import read_json, write_atomically


@dataclass(frozen=True, slots=True)
class DataSplit:
    """What a run used of one split."""

    images: int
    groups: int
    """Patients, or video sequences."""
    names_sha256: str
    """See `Cases`."""


def record_data(run: Path, layout: Layout, splits: dict[str, DataSplit], command: str) -> None:
    """Write data.json into a run folder; if it is there, check that the data are the same.

    Raises:
        CheckpointError: the run was started with other data.
    """
    content: dict[str, Any] = {
        "layout": layout.name,
        "command": command,
        "splits": {name: dataclasses.asdict(split) for name, split in splits.items()},
        "licence": layout.licence,
        "citation": layout.citation,
        "grouped_by": layout.grouped_by,
    }
    path = run / "data.json"
    recorded = read_json(path)
    if not recorded:
        write_atomically(path, json.dumps(content, indent=2) + "\n")
    elif (recorded["layout"], recorded["splits"]) != (content["layout"], content["splits"]):
        before, now = _counted(recorded["splits"]), _counted(content["splits"])
        raise CheckpointError(
            f"{run.name!r} was started on {before}, and there are {'others' if now == before else now} now",
            "Give it the same data, or use another --out.",
        )


def _counted(splits: dict[str, dict[str, int]]) -> str:
    return " and ".join(f"{part['images']:,} {name} images" for name, part in splits.items())
