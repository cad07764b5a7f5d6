"""List the images of a command line, and the result folder of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from medseg_runtime.files.names import printable

RESULTS = Path("results")


@dataclass(frozen=True, slots=True)
class Job:
    """One image and the folder for its result."""

    image: Path
    out: Path


@dataclass(frozen=True, slots=True)
class Plan:
    """What a command line asks for."""

    jobs: tuple[Job, ...]
    warnings: tuple[str, ...]
    """Of folders with other files than images, one sentence each."""


def plan(images: Iterable[Path], out: Path | None, *, as_series: bool = False) -> Plan:
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
    files: list[Path] = []
    warnings: list[str] = []
    for image in named:
        if as_series or not is_folder(image):
            files.append(image)
            continue
        found = images_in(image)
        files.extend(found.paths)
        warnings.extend(f"{printable(image.name)}: {note}" for note in found.notes)
    files = list({file.parent.resolve() / file.name: file for file in files}.values())
    one = len(files) == 1 and (as_series or not is_folder(named[0]))
    return Plan(tuple(_jobs(files, out, one=one)), tuple(warnings))


def _jobs(files: Sequence[Path], out: Path | None, *, one: bool) -> Iterator[Job]:
    if one:
        yield Job(files[0], out or RESULTS / _name(files[0]))
        return
    names = [_name(file) for file in files]
    for longer in (lambda file: file.name, lambda file: f"{file.absolute().parent.name}-{file.name}"):
        clashes = _clashing(names)
        names = [longer(file) if name in clashes else name for file, name in zip(files, names, strict=True)]
    while clashes := _clashing(names):  # again, if a numbered name clashes with another
        names = [f"{index}-{name}" if name in clashes else name for index, name in enumerate(names, start=1)]
    yield from (Job(file, (out or RESULTS) / name) for file, name in zip(files, names, strict=True))


def _name(file: Path) -> str:
    """Return the name of a file without its suffix, or of a series' folder with its dots."""
    from medseg_runtime.files.read import is_folder

    if is_folder(file):
        return file.resolve().name
    return Path(file.stem).stem if file.name.lower().endswith(".nii.gz") else file.stem


def _clashing(names: list[str]) -> set[str]:
    count = Counter(name.casefold() for name in names)
    return {name for name in names if count[name.casefold()] > 1}
