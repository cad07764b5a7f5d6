"""What annotation tools write as JSON: read guarded, and their categories matched with the classes of a training by name."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medseg_runtime.errors import DataError, ImageError
from medseg_runtime.files.read import read_bytes
from medseg_runtime.readers.source import check_size
from medseg_trainer.data.masks import Bool, Mask
from medseg_trainer.data.polygons import labels_of


@dataclass(frozen=True, slots=True)
class Shape:
    """One area of one category."""

    category: str
    area: Callable[[int, int], Bool]
    """(height, width) => mask (H, W). Raises ValueError if it has no area."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """The shapes of one image."""

    file: str
    """That they are from, for messages."""
    image: str
    """As the file names it."""
    height: int
    width: int
    shapes: tuple[Shape, ...]

    def mask(self, numbers: dict[str, int]) -> Mask:
        """Return the shapes as a mask; numbers: class of each category, others are background.

        Raises:
            DataError: a shape of these classes has no area.
        """
        with well_formed(self.file, self.image):
            check_size(self.width, self.height)
            areas = (
                (numbers[shape.category], shape.area(self.height, self.width))
                for shape in self.shapes
                if shape.category in numbers
            )
            return Mask(f"{self.file} for {self.image}", labels_of(areas, self.height, self.width), 1)


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        DataError: it cannot be read.
    """
    content = read_bytes(path, DataError, "Export it again.", name=path.name)
    with well_formed(path.name):
        return json.loads(content)


@contextmanager
def well_formed(file: str, image: str = "") -> Iterator[None]:
    """Raise DataError for whatever a file of another structure causes inside the block."""
    where = f"{file}, image {image!r}" if image else file
    try:
        yield
    except DataError:
        raise
    except ImageError as error:
        raise DataError(f"{where}: {error.problem}", error.remedy) from error
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, RecursionError) as error:
        what = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error) or type(error).__name__
        raise DataError(
            f"{where} is not as COCO or labelme write it: {what}", "Export it again from the annotation tool."
        ) from error


def class_numbers(categories: Collection[str], classes: Sequence[str], file: str) -> dict[str, int]:
    """Return the number of the class of each category, by name; upper and lower case are the same.

    A single category may have any name if there is one class. Without names of classes, no category has a number.

    Raises:
        DataError: a class is no category.
    """
    if len(classes) == 1 and len(categories) == 1:
        return dict.fromkeys(categories, 1)
    numbers = {name.casefold(): number for number, name in enumerate(classes, 1)}
    found = {category: numbers[category.casefold()] for category in categories if category.casefold() in numbers}
    missing = [name for number, name in enumerate(classes, 1) if number not in found.values()]
    if missing and categories:
        lacks = f"and none is called {missing[0]}" if missing[0] else "and one class is trained"
        raise DataError(
            f"{file} has the categories {', '.join(sorted(categories))}, {lacks}",
            "Give the names of those to segment with --classes; the others become background.",
        )
    return found
