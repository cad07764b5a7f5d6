"""Parse the values of command-line options."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg_runtime.errors import ImageError, ParameterError
from medseg_runtime.files.read import sha256_of
from medseg_runtime.model.preprocess import Box

if TYPE_CHECKING:
    from medseg_runtime.readers.clip import Frames
    from medseg_runtime.readers.target import Location
    from medseg_runtime.result.output_request import OutputRequest
    from medseg_runtime.result.representatives import Choice
    from medseg_runtime.result.request import Samples


def parse_samples(text: str) -> Samples:
    """Parse --samples: a whole number, or auto.

    Raises:
        ParameterError: the text is neither. The functions below raise it likewise.
    """
    if text == "auto":
        return "auto"
    try:
        return int(text)
    except ValueError as error:
        raise ParameterError(
            f"{text!r} is not a number of samples", "Give --samples 16, for example, or auto."
        ) from error


def parse_representatives(text: str) -> Choice:
    """Parse --representatives: a whole number, or all."""
    if text == "all":
        return "all"
    try:
        return int(text)
    except ValueError as error:
        raise ParameterError(
            f"{text!r} is not a number of representatives", "Give --representatives 4, for example, or all."
        ) from error


def parse_region(text: str) -> Box:
    """Parse --roi: X,Y,W,H in pixels."""
    try:
        x, y, width, height = (int(part) for part in text.split(","))
    except ValueError as error:
        raise ParameterError(
            f"the region {text!r} is not four whole numbers", "Give --roi X,Y,W,H in pixels."
        ) from error
    return Box(x=x, y=y, width=width, height=height)


def parse_location(
    center: str | None,
    center_mm: str | None,
    frame: int | None,
    slices: int,
    series: str | None,
    point_from: Path | None,
    finding: str | None,
) -> Location:
    """Parse --center, --center-mm, --frame, --slices, --series, --point-from and --finding."""
    from medseg_runtime.readers.target import Location

    if point_from is not None:
        for option, given in (("--center", center), ("--center-mm", center_mm), ("--frame", frame)):
            if given is not None:
                raise ParameterError(f"{option} and --point-from exclude each other", "Give one of them.")
        return _pointed(point_from, finding, slices, None if series is None else _series(series))
    if finding is not None:
        raise ParameterError("--finding chooses in an SR", "Add --point-from SR, or leave --finding out.")
    pixel = None if center is None else _numbers(center, (2, 3), "--center X,Y or X,Y,Z")
    point = None if center_mm is None else _numbers(center_mm, (3,), "--center-mm X,Y,Z")
    return Location(
        center=pixel,
        center_mm=None if point is None else (point[0], point[1], point[2]),
        frame=frame,
        slices=slices,
        series=None if series is None else _series(series),
    )


def _pointed(path: Path, finding: str | None, slices: int, series: int | str | None) -> Location:
    from medseg_runtime.readers.dicom.pointing_sr import choose, read_findings  # pydicom is slow to import

    wanted = int(finding) if finding is not None and finding.isdecimal() else finding
    try:
        return choose(read_findings(path), wanted).location(slices=slices, series=series)
    except ImageError as error:
        raise ParameterError(f"--point-from: {error.problem}", error.remedy) from error


def location_record(location: Location, point_from: Path | None) -> dict[str, Any]:
    """Return what the audit file says of a location: of an SR its hash, and no UID."""
    record = asdict(location)
    del record["instance"], record["reference_frame"], record["tracking_uid"]
    if point_from is not None:
        record["point_from_sha256"] = sha256_of(point_from, ParameterError, "Give a DICOM SR.")
    return record


def _series(text: str) -> int | str:
    if not re.fullmatch(r"[0-9.]+", text):
        raise ParameterError(f"{text!r} is not a series", "Give --series N, or its UID.")
    return int(text) if text.isdigit() else text


def parse_frames(text: str) -> Frames:
    """Parse --frames: all, or A-B."""
    from medseg_runtime.readers.clip import ALL, Frames

    if text == "all":
        return ALL
    found = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
    if found is None:
        raise ParameterError(f"{text!r} is not a range of frames", "Give --frames A-B, counted from 1, or all.")
    return Frames(int(found[1]), int(found[2] or found[1]))


def _numbers(text: str, counts: tuple[int, ...], form: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) not in counts or not all(math.isfinite(number) for number in numbers):
        raise ParameterError(f"the point {text!r} is not {' or '.join(map(str, counts))} numbers", f"Give {form}.")
    return numbers


def check_together(asked: Mapping[str, Any], outputs: OutputRequest, *, slices: int, max_samples: int | None) -> None:
    """Refuse options that do not go together.

    Raises:
        ParameterError: two of them do not.
    """
    auto, representatives = asked["samples"] == "auto", outputs.representatives
    if slices > 1 and auto:
        raise ParameterError(
            "--samples auto may draw another number for each slice, and one file holds them all",
            "Give a number of --samples.",
        )
    most = asked["max_samples"] if auto else asked["samples"]
    if isinstance(representatives, int) and not 1 <= representatives <= most:
        raise ParameterError(
            f"--representatives {representatives} of {most} samples is out of range",
            f"Use 1 to {most}, or more --samples.",
        )
    if max_samples is not None and not auto:
        raise ParameterError("--max-samples is the limit of --samples auto", "Add that, or leave --max-samples out.")
