"""Training images: the readers of inference, and the check that an image and its masks are turned alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from medseg_runtime.errors import DataError, ImageError, MedsegError
from medseg_runtime.readers.image import is_dicom
from medseg_runtime.readers.raster.image import decode, shown
from medseg_runtime.readers.source import SourceImage
from medseg_trainer.data.masks import Mask


@dataclass(frozen=True, slots=True)
class TrainingImage:
    """An image as inference reads it."""

    source: SourceImage
    orientation: int
    """EXIF or TIFF, 1 to 8: how a viewer turns it; 1 for DICOM."""


def read_image(content: bytes, name: str) -> TrainingImage:
    """Decode a PNG, JPEG, TIFF, BMP or DICOM file, with the readers that inference uses.

    Raises:
        DataError: it cannot be decoded, or is a DICOM object of several frames.
    """
    try:
        if is_dicom(content):
            from medseg_runtime.readers.dicom.image import read_dicom  # pydicom is slow to import

            return TrainingImage(read_dicom(content, ""), 1)
        raster = decode(content)
        return TrainingImage(shown(raster, ""), raster.orientation)
    except ImageError as error:
        remedy = "Write each frame into a file of its own." if "--frame" in error.remedy else error.remedy
        raise DataError(f"{name}: {error.problem}", remedy) from error
    except MedsegError as error:
        raise DataError(f"{name}: {error.problem}", error.remedy) from error


def check_pair(image: TrainingImage, name: str, masks: Sequence[Mask]) -> None:
    """Refuse masks that may not lie on their image.

    Pixels are taken as stored, in training as in inference. If a file says that a viewer shall turn it, nobody can know
    whether the mask was drawn on the stored pixels or on the turned picture, unless both files say the same.

    Raises:
        DataError: a mask is turned otherwise than the image, or has another size.
    """
    height, width = image.source.pixels.shape[:2]
    for mask in masks:
        if mask.orientation != image.orientation:
            turned = name if image.orientation != 1 else mask.name
            raise DataError(
                f"{name} has the EXIF orientation {image.orientation} and {mask.name} has {mask.orientation}, "
                "so they may not lie on each other",
                f"If the mask fits the picture as viewers show it, run `mogrify -auto-orient` on {turned}; if it fits the "
                f"stored pixels, run `exiftool -Orientation=` on it.",
            )
        if mask.labels.shape != (height, width):
            raise DataError(
                f"{mask.name} is {mask.labels.shape[1]}x{mask.labels.shape[0]} px, its image {width}x{height}",
                "Export the mask in the size of the image.",
            )
