"""Frozen dataclasses that are stored as one JSON file each."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Self, cast

from medseg_runtime.files.replace import replacing
from medseg_runtime.files.typed_json import typed

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


class JsonRecord:
    """Base class of a dataclass that is stored as JSON."""

    __slots__ = ()

    def write(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        content = dataclasses.asdict(cast("DataclassInstance", self))
        with replacing(path) as part:
            part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file that `write` wrote.

        Raises:
            OSError: the file cannot be read.
            TypeError: a field is missing, unknown or of another type.
        """
        record: Self = typed(cls, json.loads(path.read_text(encoding="utf-8")), path.name)
        return record
