"""From a location in a file, series or volume to the images to segment, and the point in them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from medseg_runtime.errors import ImageError, ParameterError
from medseg_runtime.files.read import is_folder
from medseg_runtime.readers.file_kind import is_zip, volume_kind
from medseg_runtime.readers.image import DIRECTORY, read_image
from medseg_runtime.readers.patient_plane import Vector
from medseg_runtime.readers.series import read_series, read_volume
from medseg_runtime.readers.source import SourceImage
from medseg_runtime.readers.stack import Stack, first_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Location:
    """A location in a file, a volume, or a study: at most one of `center` and `center_mm`."""

    center: tuple[float, ...] | None = None
    """x, y in pixels from the image's upper left corner; in a series also the slice, counted from 0.

    In a volume file i, j, k: the voxel in the file's own order, counted from 0, whole numbers at voxel centers."""
    center_mm: Vector | None = None
    """x, y, z in DICOM patient coordinates: mm to the left, to the back and to the head. NIfTI's are to the right and to the front."""
    frame: int | None = None
    """Frame of a multi-frame object, counted from 1."""
    slices: int = 1
    """Number of slices of a series to segment, with the location in the middle one."""
    series: int | str | None = None
    """Which series of a study: its number in `list_series`, or its UID."""
    instance: str | None = None
    """SOP Instance UID of the image that `center` is in; then x, y says enough in a series too."""
    reference_frame: str | None = None
    """Frame of Reference UID that `center_mm` is in; None for that of the image."""
    tracking_uid: str | None = None
    """Tracking UID of the finding at the location, if an SR states one: DICOM objects that are written carry it on."""

    def __post_init__(self) -> None:
        if self.center is not None and self.center_mm is not None:
            raise ParameterError("--center and --center-mm exclude each other", "Give one of them.")
        if self.slices < 1:
            raise ParameterError(f"{self.slices} slices is out of range", "Use 1 or more.")

    @property
    def pixel(self) -> tuple[float, float] | None:
        """x, y of `center` in an image."""
        return None if self.center is None else (self.center[0], self.center[1])

    @property
    def needs_series(self) -> bool:
        """Whether a folder is a study with a series to segment, and not a set of unrelated images."""
        in_stack = self.center_mm is not None or (self.center is not None and len(self.center) == 3)
        return in_stack or self.slices > 1 or self.series is not None or self.instance is not None

    @property
    def names_images(self) -> bool:
        """Whether it is a location in certain DICOM images alone."""
        return self.instance is not None or self.reference_frame is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """The images of one result."""

    images: tuple[SourceImage, ...]
    """In the order of the series."""
    index: int
    """Of the image with the location."""
    center: tuple[float, float] | None
    """x, y in pixels from the image's corner."""


def read_target(path: Path, location: Location) -> Target:
    """Read the image in a file, or slices of a volume, of the series in a folder, or of the one in a zip.

    Raises:
        ImageError: it cannot be read, or states no patient coordinates although `center_mm` is given.
        ParameterError: the location is not in it.
    """
    stacked = _stack(path, location)
    if stacked is not None:
        return _in_stack(*stacked)
    if location.series is not None:
        raise ParameterError("this is one image, not a study", "Give the folder of the study, or leave --series out.")
    if location.slices > 1 or (location.center is not None and len(location.center) == 3):
        raise ParameterError(
            "this is one image, not a series", "Give the folder of the series, or --center X,Y without --slices."
        )
    image = read_image(path, location.frame)
    _check_named(image, location)
    if location.center_mm is None:
        return Target(images=(image,), index=0, center=location.pixel)
    if image.plane is None:
        raise ImageError("this image states no position in the patient", "Give the point in pixels: --center X,Y.")
    from medseg_runtime.readers.dicom.series import Series, Slice
    from medseg_runtime.readers.dicom.study_files import StudyFile

    x, y, _ = Series((Slice(StudyFile(path), image.plane, ""),)).locate(location.center_mm)
    _check_inside(image, x, y)
    return Target(images=(image,), index=0, center=(x, y))


def _stack(path: Path, location: Location) -> tuple[Stack, Location] | None:
    """Read the headers of a folder, zip or volume, and return the location in it; None for any other file."""
    folder = is_folder(path)
    if not folder and path.name.upper() == DIRECTORY:
        raise ImageError(
            "this is the directory of a DICOM medium, and holds no image", "Give the folder that it lies in."
        )
    if not folder and volume_kind(path) is not None:
        if location.series is not None:
            raise ParameterError("a volume file holds no series to choose from", "Leave --series out.")
        if location.names_images:
            raise ParameterError(
                "a volume file does not say which DICOM images it is made of",
                "Give the DICOM series that the SR points at.",
            )
        return read_volume(path), location
    if not folder and not is_zip(path):
        return None
    series = read_series(path, location.series, instance=location.instance, reference_frame=location.reference_frame)
    if location.instance is None or location.pixel is None:
        return series, location
    z = series.index_of(location.instance)
    frame = None if location.frame == 1 else location.frame  # each file of a series holds one
    return series, replace(location, center=(*location.pixel, z), frame=frame)


def _in_stack(stack: Stack, location: Location) -> Target:
    if location.frame is not None:
        raise ParameterError("--frame chooses in one DICOM file", "Give the file itself, or leave --frame out.")
    if location.center_mm is not None:
        x, y, z = stack.locate(location.center_mm)
    elif location.center is not None and len(location.center) == 3:
        x, y, z = stack.pixel((location.center[0], location.center[1], location.center[2]))
    elif len(stack) == 1:
        return Target(images=(stack.read(0),), index=0, center=location.pixel)
    else:
        raise ParameterError(
            f"these are {len(stack)} slices, and the point says which to segment",
            "Give --center X,Y,Z or --center-mm X,Y,Z.",
        )
    images = stack.around(z, location.slices)
    index = z - max(first_of(z, location.slices), 0)
    if location.center_mm is not None:
        _check_inside(images[index], x, y)
    return Target(images=tuple(images), index=index, center=(x, y))


def _check_named(image: SourceImage, location: Location) -> None:
    """Refuse an image that is not the one, or not in the frame of reference, that a location names."""
    header = None if image.dicom is None else image.dicom.header
    for keyword, named in (("SOPInstanceUID", location.instance), ("FrameOfReferenceUID", location.reference_frame)):
        if named is not None and (header is None or str(header.get(keyword)) != named):
            raise ParameterError(
                f"the SR points at another image than this one ({keyword})",
                "Give the image that it points at, or the folder of the study.",
            )


def _check_inside(image: SourceImage, x: float, y: float) -> None:
    """Refuse a point in mm that lies beside an image; x and y in its pixels."""
    height, width = image.pixels.shape[:2]
    if not (0 <= x <= width and 0 <= y <= height):
        raise ParameterError(
            f"the point lies beside the image, at {x:.4g},{y:.4g} of its {width}x{height} px",
            "Give DICOM patient coordinates: mm to the left, to the back and to the head. NIfTI's are to the right and to the front.",
        )
