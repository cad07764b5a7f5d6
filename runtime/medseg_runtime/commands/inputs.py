"""List the images of a command line, and the result folder of each."""

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
    """Return one job per image, folders resolved to their images. An image named twice is one job.

    A single file goes to `out` itself, by default `results/<stem>`. Several files go to folders in `out`, by default in
    `results`. Each folder is named by the first of these that is unique: stem, file name, parent folder and file name; else
    by the latter with a number.

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
    while clashes := _clashing(names):  # again, if a numbered name clashes with another
        names = [f"{index}-{name}" if name in clashes else name for index, name in enumerate(names, start=1)]
    return [Job(file, (out or RESULTS) / name) for file, name in zip(files, names, strict=True)]


def _name(file: Path) -> str:
    """Return the name of a file without its suffix, or of a series' folder with its dots."""
    from medseg_runtime.files.read import is_folder

    return file.resolve().name if is_folder(file) else file.stem


def _clashing(names: list[str]) -> set[str]:
    count = Counter(name.casefold() for name in names)
    return {name for name in names if count[name.casefold()] > 1}
