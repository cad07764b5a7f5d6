"""Which images a command is to work on, and where each result goes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

RESULTS = Path("results")


@dataclass(frozen=True, slots=True)
class Job:
    """One image and the folder for its result."""

    image: Path
    out: Path


def plan(images: Iterable[Path], out: Path | None, *, as_series: bool = False) -> list[Job]:
    """Return what is to be done, folders resolved to their images; an image named twice is done once.

    A single file goes to `out` itself, by default `results/<stem>`. Otherwise each goes to a folder in `out`, by default in
    `results`, named by the shortest of these that is no other image's: its stem, its name, its folder and name, and those
    with a number.

    as_series: a folder is one series, not many images.

    Raises:
        ImageError: a folder without images.
    """
    from medseg_runtime.files.read import is_folder
    from medseg_runtime.readers.image import images_in

    named = list(images)
    files = [file for image in named for file in (images_in(image) if is_folder(image) and not as_series else [image])]
    files = list({file.parent.resolve() / file.name: file for file in files}.values())
    if len(files) == 1 and (as_series or not is_folder(named[0])):
        return [Job(files[0], out or RESULTS / _name(files[0]))]
    names = [_name(file) for file in files]
    for longer in (lambda file: file.name, lambda file: f"{file.absolute().parent.name}-{file.name}"):
        clashes = _clashing(names)
        names = [longer(file) if name in clashes else name for file, name in zip(files, names, strict=True)]
    while clashes := _clashing(names):  # again where a number makes a name that another has
        names = [f"{index}-{name}" if name in clashes else name for index, name in enumerate(names, start=1)]
    return [Job(file, (out or RESULTS) / name) for file, name in zip(files, names, strict=True)]


def _name(file: Path) -> str:
    """Return what an image is called: a file without its suffix, a series by its folder, whose name may hold dots."""
    from medseg_runtime.files.read import is_folder

    return file.resolve().name if is_folder(file) else file.stem


def _clashing(names: list[str]) -> set[str]:
    count = Counter(name.casefold() for name in names)
    return {name for name in names if count[name.casefold()] > 1}
