"""A series of DICOM slices in a folder with its sub-folders, or in a zip, sorted by position in the patient.

>>> series = read_series(Path("chest"))                                  # doctest: +SKIP
>>> x, y, z = series.locate((-83.2, 41.0, -310.5))                       # doctest: +SKIP
>>> images = series.around(z, slices=5)                                  # doctest: +SKIP
>>> results = [segmenter(image, center=(x, y)) for image in images]      # doctest: +SKIP

Headers are read at once, pixels only when asked for. Sample k starts from the same noise in every slice.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np

from medseg_runtime.errors import ImageError, ParameterError
from medseg_runtime.readers.dicom.scan import Scan, scan
from medseg_runtime.readers.dicom.slice_header import Header
from medseg_runtime.readers.dicom.study_files import StudyFile
from medseg_runtime.readers.image import read_image
from medseg_runtime.readers.patient_plane import PatientPlane
from medseg_runtime.readers.source import SourceImage
from medseg_runtime.readers.stack import SAME_MM, Stack, gaps_mm

ONE_SERIES = "Put the slices of one series into a folder of their own."


@dataclass(frozen=True, slots=True)
class Slice:
    """One file of a series."""

    file: StudyFile
    plane: PatientPlane
    uid: str
    """SOP Instance UID."""

    @property
    def path(self) -> Path:
        """The file, or the zip that holds it."""
        return self.file.path


@dataclass(frozen=True, slots=True)
class Series(Stack):
    """The slices of one series, sorted along their common normal."""

    slices: tuple[Slice, ...]
    warnings: tuple[str, ...] = ()
    """About the folder. Each image that is read has them too."""

    @property
    def planes(self) -> tuple[PatientPlane, ...]:
        return tuple(each.plane for each in self.slices)

    def __len__(self) -> int:
        return len(self.slices)

    def index_of(self, instance: str) -> int:
        """Return the index of the slice with a SOP Instance UID.

        Raises:
            ValueError: there is none.
        """
        return [each.uid for each in self.slices].index(instance)

    def read(self, index: int) -> SourceImage:
        """Read a slice, counted from 0."""
        self.check_index(index)
        image = read_image(self.slices[index].file.read())
        return replace(image, warnings=(*self.warnings, *image.warnings))


@dataclass(frozen=True, kw_only=True, slots=True)
class SeriesInfo:
    """What a series is, without anything that identifies a patient but its UID."""

    number: int
    """What `--series` takes: Series Number where that tells the series apart, else counted from 1."""
    uid: str
    """Series Instance UID."""
    series_number: int | None
    """Series Number, if it is stated."""
    modality: str
    """A code such as CT; empty if it is not stated."""
    slices: int
    """Number of frames, in all files."""
    rows: int
    """Of its first image."""
    columns: int

    def __str__(self) -> str:
        counted = f"{self.slices} {'slice' if self.slices == 1 else 'slices'} of {self.columns}x{self.rows}"
        stated = "" if self.series_number in (None, self.number) else f", series number {self.series_number}"
        return f"{self.number} ({self.modality or 'no modality'}, {counted}{stated})"


Group = tuple[SeriesInfo, list[Header]]


def list_series(path: str | os.PathLike[str]) -> list[SeriesInfo]:
    """List the series of a folder with its sub-folders, or of a zip.

    Raises:
        ImageError: there is no DICOM image, or a file cannot be read.
    """
    return [info for info, _ in _series_in(_distinct(scan(path)))]


def read_series(
    path: str | os.PathLike[str],
    series: int | str | None = None,
    *,
    instance: str | None = None,
    reference_frame: str | None = None,
) -> Series:
    """Read the headers of a series, each file a single-frame slice. See `scan` for what is passed over.

    path: a folder, searched with its sub-folders, or a zip.
    series: which one, where there are several: `SeriesInfo.number` or `.uid`.
    instance: SOP Instance UID of a slice that it must hold. reference_frame: Frame of Reference UID that all of its slices must state.

    Raises:
        ImageError: no DICOM image, several series and none chosen, several orientations, two slices at one position, or a file that cannot
            be read.
        ParameterError: there is no such series.
    """
    found = scan(path)
    groups = _series_in(_distinct(found))
    headers = _chosen(_pointed(groups, instance, reference_frame), series)
    slices = [_slice(header) for header in headers]
    _check_alike(headers, slices)
    slices.sort(key=lambda each: each.plane.depth)
    _check_apart(slices)
    return Series(tuple(slices), (*found.notes, *_frames_note(headers)))


def _frames_note(headers: Sequence[Header]) -> tuple[str, ...]:
    """Return the warning that the positions of some slices are not comparable, if they may not be (PS3.3, C.7.4.1.1.1)."""
    count = len({header.reference_frame for header in headers})
    if count < 2:
        return ()
    return (f"the slices state {count} frames of reference (FrameOfReferenceUID), and may not fit together",)


def _check_alike(headers: Sequence[Header], slices: Sequence[Slice]) -> None:
    for header, each in zip(headers, slices, strict=True):
        same_size = (header.rows, header.columns) == (headers[0].rows, headers[0].columns)
        if not same_size or _differ(each.plane, slices[0].plane):
            raise ImageError(
                f"the slices differ in size, spacing or orientation, as with a localizer: {each.file.name} from {slices[0].file.name}",
                ONE_SERIES,
            )


def _check_apart(slices: Sequence[Slice]) -> None:
    """Refuse sorted slices of which two lie in one place."""
    (near,) = np.nonzero(gaps_mm([each.plane for each in slices]) < SAME_MM)
    if len(near):
        one, other = slices[near[0]].file.name, slices[near[0] + 1].file.name
        raise ImageError(f"two slices lie in one place, as in a dynamic study: {one} and {other}", ONE_SERIES)


def _distinct(found: Scan) -> list[Header]:
    """Return each instance once.

    Raises:
        ImageError: there is none, or two different images have one SOP Instance UID.
    """
    headers = found.headers
    if not headers:
        raise ImageError(
            "; ".join(["it holds no DICOM image", *found.notes]), "Give a folder or a zip with the slices of a series."
        )
    kept: dict[str, Header] = {}
    for index, header in enumerate(headers):
        first = kept.setdefault(header.uid or f"file {index}", header)
        if first is not header and not _same_image(first, header):
            raise ImageError(
                f"{first.file.name} and {header.file.name} have one SOP Instance UID and are different images",
                "Remove the one that does not belong to the series.",
            )
    return list(kept.values())


def _same_image(one: Header, other: Header) -> bool:
    if (one.series, one.plane) != (other.series, other.plane):
        return False
    contents = one.file.read(), other.file.read()
    if contents[0] == contents[1]:
        return True
    first, second = map(read_image, contents)  # written twice, for example with another compression
    return first.value_range == second.value_range and np.array_equal(first.pixels, second.pixels)


def _series_in(headers: Iterable[Header]) -> list[Group]:
    """Group headers by series, in the order of Series Number."""

    def order(header: Header) -> tuple[float, str]:
        return np.inf if header.series_number is None else header.series_number, header.series

    groups = [list(group) for _, group in groupby(sorted(headers, key=order), key=lambda header: header.series)]
    stated = [group[0].series_number for group in groups]
    tells_apart = None not in stated and len(set(stated)) == len(groups)
    return [
        (
            SeriesInfo(
                number=group[0].series_number if tells_apart and group[0].series_number is not None else counted,
                uid=group[0].series,
                series_number=group[0].series_number,
                modality=group[0].modality,
                slices=sum(header.frames for header in group),
                rows=group[0].rows,
                columns=group[0].columns,
            ),
            group,
        )
        for counted, group in enumerate(groups, start=1)
    ]


def _pointed(groups: Sequence[Group], instance: str | None, reference_frame: str | None) -> Sequence[Group]:
    """Return the series that a location can be in."""
    found = [
        (info, headers)
        for info, headers in groups
        if (instance is None or any(header.uid == instance for header in headers))
        and (reference_frame is None or all(header.reference_frame == reference_frame for header in headers))
    ]
    if not found:
        what = "the image (SOPInstanceUID)" if instance is not None else "the frame of reference (FrameOfReferenceUID)"
        raise ParameterError(f"the study does not hold {what} that the SR points at", "Give the study that it is of.")
    return found


def _chosen(groups: Sequence[Group], series: int | str | None) -> list[Header]:
    table = ", ".join(str(info) for info, _ in groups)
    if series is None:
        if len(groups) > 1:
            raise ImageError(f"there are {len(groups)} series: {table}", "Choose one with --series N.")
        return groups[0][1]
    for info, headers in groups:
        if series in (info.number, info.uid):
            return headers
    raise ParameterError("there is no such series", f"Give one of these numbers: {table}.")


def _slice(header: Header) -> Slice:
    name = header.file.name
    if header.fault is not None:
        raise ImageError(f"{name}: {header.fault.problem}", header.fault.remedy)
    if header.frames != 1:
        raise ImageError(
            f"{name}: this file holds several frames, and each file of a series holds one",
            "Give the file itself, with --frame K and without --slices.",
        )
    assert header.plane is not None  # that would be a fault
    return Slice(header.file, header.plane, header.uid)


def _differ(one: PatientPlane, other: PatientPlane) -> bool:
    directions = np.subtract([*one.along_row, *one.along_column], [*other.along_row, *other.along_column])
    spacing = np.subtract(one.spacing_mm, other.spacing_mm)
    return bool(np.abs(directions).max() > 1e-3 or np.abs(spacing).max() > SAME_MM)
