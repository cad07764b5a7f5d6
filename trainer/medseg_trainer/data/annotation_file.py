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

NOTHING_COVERED = "an outline covers no pixel: it is outside of the image, in other units, or smaller than a pixel"


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
        """Return the shapes as a mask; numbers: class of each category, others are background. Warn of those that cover no pixel.

        Raises:
            DataError: a shape of these classes has no area.
        """
        with well_formed(self.file, self.image):
            check_size(self.width, self.height)
            areas = [
                (numbers[shape.category], shape.area(self.height, self.width))
                for shape in self.shapes
                if shape.category in numbers
            ]
            warnings = () if all(area.any() for _, area in areas) else (NOTHING_COVERED,)
            return Mask(f"{self.file} for {self.image}", labels_of(areas, self.height, self.width), 1, warnings)


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
            f"{where} is not as COCO or labelme write areas: {what}",
            "Correct it in the annotation tool, and export it again.",
        ) from error


def size_in(entry: dict[str, Any], height: str, width: str) -> tuple[int, int]:
    """Return the height and the width of an image, given their keys.

    Raises:
        ValueError: they are no numbers.
    """
    found = entry[height], entry[width]
    if not all(isinstance(side, int) or (isinstance(side, float) and side.is_integer()) for side in found):
        raise ValueError(f"{height} and {width} are not the numbers of rows and columns of the image")
    return int(found[0]), int(found[1])


def class_numbers(
    used: Collection[str], classes: Sequence[str], file: str, declared: Collection[str] = ()
) -> dict[str, int]:
    """Return the number of the class of each category, by name; upper and lower case are the same.

    A single category may have any name if there is one class. Without names of classes, no category has a number.

    used: categories of areas. declared: those that the file lists besides, perhaps without an area.

    Raises:
        DataError: a class is no category.
    """
    names = [_plain(name) for name in classes]
    asked = {category for category in {*used, *declared} if _plain(category) in names}
    if len(classes) == 1 and len(used) == 1 and not asked:
        return dict.fromkeys(used, 1)
    missing = [name for name, plain in zip(classes, names, strict=True) if plain not in map(_plain, asked)]
    if missing and used:
        lacks = f"and none is called {missing[0]}" if missing[0] else "and one class is trained"
        raise DataError(
            f"{file} has the categories {', '.join(sorted(used))}, {lacks}",
            "Give the names of those to segment with --classes; the others become background.",
        )
    return {category: names.index(_plain(category)) + 1 for category in asked}


def _plain(name: str) -> str:
    return name.strip().casefold()
