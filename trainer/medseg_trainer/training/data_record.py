"""data.json of a run folder: the data that the run was trained on."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from medseg_runtime.errors import CheckpointError
from medseg_runtime.files.typed_json import typed
from medseg_trainer.data.layouts import Layout
from medseg_trainer.training.run_files import read_json, write_atomically

NAME = "data.json"


@dataclass(frozen=True, slots=True)
class DataSplit:
    """What a run used of one split."""

    images: int
    groups: int
    """Patients, or video sequences."""
    names_sha256: str
    """See `Cases`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataRecord:
    """The content of data.json."""

    layout: str
    command: str
    splits: dict[str, DataSplit]
    licence: str
    citation: str
    grouped_by: str


def read_record(run: Path) -> DataRecord | None:
    """Read data.json of a run folder; None if it is missing.

    Raises:
        CheckpointError: the file is damaged.
    """
    content = read_json(run / NAME)
    try:
        record: DataRecord | None = typed(DataRecord, content, "it") if content else None
    except TypeError as error:
        raise CheckpointError(
            f"{NAME} is not as this version writes it: {error}", "Copy it again, or delete it and run the same command."
        ) from error
    return record


def record_data(run: Path, layout: Layout, splits: dict[str, DataSplit], command: str) -> None:
    """Write data.json into a run folder; if it is there, check that the data are the same.

    Raises:
        CheckpointError: the run was started with other data.
    """
    record = DataRecord(
        layout=layout.name,
        command=command,
        splits=splits,
        licence=layout.licence,
        citation=layout.citation,
        grouped_by=layout.grouped_by,
    )
    recorded = read_record(run)
    if recorded is None:
        write_atomically(run / NAME, json.dumps(dataclasses.asdict(record), indent=2) + "\n")
    elif (recorded.layout, recorded.splits) != (record.layout, record.splits):
        before, now = _counted(recorded.splits), _counted(record.splits)
        raise CheckpointError(
            f"{run.name!r} was started on {before}, and there are {'others' if now == before else now} now",
            "Give it the same data, or use another --out.",
        )


def _counted(splits: dict[str, DataSplit]) -> str:
    return " and ".join(f"{part.images:,} {name} images" for name, part in splits.items())
