"""The warnings of many cases: each once, with the number of images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from medseg_trainer.data.case import Case


class Notes:
    """Collects the warnings of cases."""

    def __init__(self) -> None:
        self._names: dict[str, list[str]] = defaultdict(list)

    def add(self, case: Case) -> None:
        """Note the warnings of a case."""
        for warning in dict.fromkeys(case.warnings):  # several raters may have the same
            self._names[warning].append(case.name)

    def lines(self) -> tuple[str, ...]:
        """Return one line for each warning, with its images."""
        return tuple(f"{warning} ({shown_names(names)})" for warning, names in self._names.items())


def shown_names(names: Sequence[str]) -> str:
    """Return a name, or the number of names and the first."""
    return names[0] if len(names) == 1 else f"{len(names)}, the first {names[0]}"
