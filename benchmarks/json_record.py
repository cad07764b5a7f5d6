"""A dataclass that is kept as one JSON file: what a page is made of, or how a training began."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Self, cast

from medseg_runtime.files.typed_json import typed

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


class JsonRecord:
    """The base of such a dataclass."""

    __slots__ = ()

    def write(self, path: Path) -> None:
        """Write it, whole or not at all."""
        content = dataclasses.asdict(cast("DataclassInstance", self))
        part = path.with_name(f"{path.name}.part")
        part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        part.replace(path)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what `write` wrote.

        Raises:
            OSError: there is no such file.
            TypeError: it is of another version; says what in it.
        """
        record: Self = typed(cls, json.loads(path.read_text(encoding="utf-8")), path.name)
        return record
