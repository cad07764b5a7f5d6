"""What a DICOM Structured Report points at: its findings with coordinates, as of TID 1500 "Measurement Report" (PS3.16).

    SCOORD      column and row in an image, (0, 0) the corner and (0.5, 0.5) the center of its first pixel (PS3.3, C.18.6).
                So are x and y of `--center`: nothing is converted
    SCOORD3D    mm in a frame of reference (PS3.3, C.18.9): the coordinates of `--center-mm`

A finding is a Measurement Group; outside of groups each graphic is one. Of several graphics in a group a point counts before an outline, and an
outline before a line; of lines, such as the two diameters of a lesion, the longest one. `graphics` says which location each of them means.

>>> (finding,) = read_findings("point.dcm")                     # doctest: +SKIP
>>> target = read_target(Path("study"), finding.location())     # doctest: +SKIP
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pydicom
from pydicom.multival import MultiValue
from pydicom.uid import RE_VALID_UID

from medseg_runtime.errors import ImageError, ParameterError
from medseg_runtime.readers.content import Readable, content_of
from medseg_runtime.readers.dicom.graphics import Kind, Mark, mark_of
from medseg_runtime.readers.dicom.guard import reading
from medseg_runtime.readers.dicom.parse import parse
from medseg_runtime.readers.image import is_dicom
from medseg_runtime.readers.target import Location

STRUCTURED_REPORTS = "1.2.840.10008.5.1.4.1.1.88."
"""How the UIDs of their storage classes begin (PS3.6, table A-1)."""
MEASUREMENT_GROUP, TRACKING_IDENTIFIER, TRACKING_UID = "125007", "112039", "112040"
"""Concepts of the scheme DCM, as in TID 1501 and TID 1410."""
GIVE_ONE = "Give an SR of TID 1500 with a point: an SCOORD of an image, or an SCOORD3D."


@dataclass(frozen=True, slots=True)
class ImagePoint:
    """A location in an image."""

    instance: str
    """SOP Instance UID of the image."""
    frame: int | None
    """Counted from 1; None where the SR names none."""
    x: float
    y: float
    """In pixels from the image's upper left corner."""

    def __str__(self) -> str:
        return f"at {self.x:.5g},{self.y:.5g} of {'an image' if self.frame is None else f'frame {self.frame}'}"


@dataclass(frozen=True, slots=True)
class PatientPoint:
    """A location in patient coordinates, in mm."""

    reference_frame: str
    """Frame of Reference UID."""
    x: float
    y: float
    z: float

    def __str__(self) -> str:
        return f"at {self.x:.5g},{self.y:.5g},{self.z:.5g} mm"


@dataclass(frozen=True, kw_only=True, slots=True)
class PointedFinding:
    """A finding that has coordinates."""

    number: int
    """Counted from 1, in the order of the SR."""
    tracking_uid: str
    """Empty if it is not stated."""
    label: str
    """Tracking Identifier, empty if it is not stated. A free text, which may identify a patient: never print it."""
    point: ImagePoint | PatientPoint | None
    fault: str = ""
    """Why there is no point, if there is none."""

    def __str__(self) -> str:
        return f"{self.number} ({self.point or self.fault})"

    def location(self, *, slices: int = 1, series: int | str | None = None) -> Location:
        """Return where to look in the study.

        slices, series: as of `Location`.

        Raises:
            ParameterError: what it points at is not clear.
        """
        match self.point:
            case ImagePoint(instance, frame, x, y):
                place = Location(center=(x, y), frame=frame, instance=instance)
            case PatientPoint(reference_frame, x, y, z):
                place = Location(center_mm=(x, y, z), reference_frame=reference_frame)
            case None:
                problem = f"finding {self.number} of the SR does not say where: {self.fault}"
                raise ParameterError(problem, GIVE_ONE)
        return replace(
            place, slices=slices, series=series, tracking_uid=self.tracking_uid if _is_uid(self.tracking_uid) else None
        )


def read_findings(source: Readable) -> tuple[PointedFinding, ...]:
    """Read the findings of a Structured Report that have coordinates, at least one.

    source: a path, bytes, an open file or a pydicom data set.

    Raises:
        ImageError: it is no SR, is damaged, or holds no coordinates. No content raises anything else.
    """
    if found := find_findings(source):
        return found
    raise ImageError("the SR holds no coordinates", GIVE_ONE)


def find_findings(source: Readable) -> tuple[PointedFinding, ...]:
    """Do the same for a report that may hold no coordinates, and then return nothing.

    Raises:
        ImageError: it is no SR, or is damaged.
    """
    content = content_of(source)
    if not is_dicom(content):
        raise ImageError("this is no DICOM file", GIVE_ONE)
    with reading():
        root = parse(io.BytesIO(content))
        if not str(root.get("SOPClassUID", "")).startswith(STRUCTURED_REPORTS):
            raise ImageError("this DICOM object is no Structured Report", GIVE_ONE)
        groups: dict[int, tuple[pydicom.Dataset, list[pydicom.Dataset]]] = {}
        for group, graphic in _graphics(root, None):
            key = graphic if group is None else group
            groups.setdefault(id(key), (key, []))[1].append(graphic)
        return tuple(_finding(number, *each, root) for number, each in enumerate(groups.values(), start=1))


def choose(findings: Sequence[PointedFinding], wanted: int | str | None = None) -> PointedFinding:
    """Return the only finding, or the one that is asked for.

    wanted: its number, or its tracking UID.

    Raises:
        ParameterError: there are several and none is asked for, or there is no such one.
    """
    found = [each for each in findings if wanted is None or wanted in (each.number, each.tracking_uid)]
    if len(found) == 1:
        return found[0]
    table = ", ".join(map(str, findings))
    if wanted is None:
        raise ParameterError(f"the SR points at {len(findings)} findings: {table}", "Choose one with --finding N.")
    problem = "several findings have that tracking UID" if found else "there is no such finding"
    raise ParameterError(f"{problem}; the SR points at {table}", "Give --finding N with one of these numbers.")


def _graphics(
    item: pydicom.Dataset, group: pydicom.Dataset | None
) -> Iterator[tuple[pydicom.Dataset | None, pydicom.Dataset]]:
    """Yield the content items below one that hold coordinates, each with the innermost Measurement Group that it is in."""
    for child in item.get("ContentSequence") or []:
        if child.get("ValueType") in {"SCOORD", "SCOORD3D"}:
            yield group, child
        yield from _graphics(child, child if _is_named(child, MEASUREMENT_GROUP) else group)


def _is_named(item: pydicom.Dataset, code: str) -> bool:
    names = item.get("ConceptNameCodeSequence") or []
    return any((name.get("CodeValue"), name.get("CodingSchemeDesignator")) == (code, "DCM") for name in names)


def _text(group: pydicom.Dataset, code: str, keyword: str) -> str:
    for child in group.get("ContentSequence") or []:
        if _is_named(child, code):
            return str(child.get(keyword) or "")
    return ""


def _is_uid(text: str) -> bool:
    """Tell whether a text is a UID (PS3.5, 9.1). `pydicom.uid.UID` prints one that is not in a warning."""
    return len(text) <= 64 and re.fullmatch(RE_VALID_UID, text) is not None


class _Unclear(Exception):  # noqa: N818 - no error: a reason
    """Why a graphic or a finding means no single location."""


def _finding(
    number: int, group: pydicom.Dataset, graphics: Sequence[pydicom.Dataset], root: pydicom.Dataset
) -> PointedFinding:
    point, fault = None, ""
    try:
        point = _point(graphics, root)
    except _Unclear as reason:
        fault = str(reason)
    return PointedFinding(
        number=number,
        tracking_uid=_text(group, TRACKING_UID, "UID"),
        label=_text(group, TRACKING_IDENTIFIER, "TextValue"),
        point=point,
        fault=fault,
    )


def _point(graphics: Sequence[pydicom.Dataset], root: pydicom.Dataset) -> ImagePoint | PatientPoint:
    """Return the one location that the graphics of a finding mean."""
    marks = [(mark, graphic) for graphic in graphics if (mark := _mark(graphic)) is not None]
    if not marks:
        raise _Unclear("no point, closed outline or line of two points")
    best = min(mark.kind for mark, _ in marks)
    trusted = [(_placed(mark, graphic, root), mark.length) for mark, graphic in marks if mark.kind is best]
    if best is Kind.LINE and len({_where(point) for point, _ in trusted}) == 1:
        longest = max(length for _, length in trusted)
        trusted = [each for each in trusted if each[1] == longest]
    points = {point for point, _ in trusted}
    if len(points) > 1:
        raise _Unclear(f"{len(points)} different locations")
    return points.pop()


def _where(point: ImagePoint | PatientPoint) -> tuple[str, int | None]:
    if isinstance(point, ImagePoint):
        return point.instance, point.frame
    return point.reference_frame, None


def _mark(graphic: pydicom.Dataset) -> Mark | None:
    dimensions = 2 if graphic.ValueType == "SCOORD" else 3
    data = np.atleast_1d(np.asarray(graphic.get("GraphicData"), np.float64))
    if len(data) % dimensions or not len(data) or not np.isfinite(data).all():
        raise _Unclear("its coordinates (GraphicData) are not valid")
    return mark_of(str(graphic.get("GraphicType", "")), data.reshape(-1, dimensions))


def _placed(mark: Mark, graphic: pydicom.Dataset, root: pydicom.Dataset) -> ImagePoint | PatientPoint:
    if graphic.ValueType == "SCOORD3D":
        reference_frame = str(graphic.get("ReferencedFrameOfReferenceUID") or "")
        if not reference_frame:
            raise _Unclear("it states no frame of reference (ReferencedFrameOfReferenceUID)")
        return PatientPoint(reference_frame, *mark.center)
    if graphic.get("PixelOriginInterpretation") == "VOLUME":
        raise _Unclear("it counts pixels in the whole of a tiled image (PixelOriginInterpretation)")
    return ImagePoint(*_image(graphic, root), *mark.center)


def _image(graphic: pydicom.Dataset, root: pydicom.Dataset) -> tuple[str, int | None]:
    """Return the SOP Instance UID and the frame of the only image that a graphic is selected from."""
    selected = [_resolved(child, root) for child in graphic.get("ContentSequence") or []]
    images = {
        (str(reference.get("ReferencedSOPInstanceUID") or ""), _numbers(reference, "ReferencedFrameNumber"))
        for item in selected
        if item is not None and item.get("ValueType") == "IMAGE"
        for reference in item.get("ReferencedSOPSequence") or []
    }
    if len(images) != 1:
        raise _Unclear(f"it refers to {len(images) or 'no'} images, not to one")
    ((instance, frames),) = images
    if not instance:
        raise _Unclear("it refers to an image without its SOP Instance UID")
    if len(frames) > 1:
        raise _Unclear(f"it refers to {len(frames)} frames, not to one")
    return instance, frames[0] if frames else None


def _numbers(item: pydicom.Dataset, keyword: str) -> tuple[int, ...]:
    """Return the whole numbers of an element, of any number of values."""
    stated = item.get(keyword)
    values = stated if isinstance(stated, MultiValue | list) else [] if stated in (None, "") else [stated]
    return tuple(map(int, values))


def _resolved(item: pydicom.Dataset, root: pydicom.Dataset) -> pydicom.Dataset | None:
    """Return the item that a by-reference relationship leads to (PS3.3, C.17.3.2.5); None if it leads nowhere."""
    path = _numbers(item, "ReferencedContentItemIdentifier")
    if not path:
        return item
    found: pydicom.Dataset | None = root
    for position in path[1:]:  # the first is that of the root
        children = found.get("ContentSequence") or [] if found is not None else []
        found = children[position - 1] if 1 <= position <= len(children) else None
    return found
