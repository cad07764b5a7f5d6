"""Where the masks of a folder are, and which belongs to an image.

The first of these that is there:

    masks/                     pictures, in the sub-folders of images/; one more level of folders is one folder for each rater
    *.json, annotations/*.json  COCO instances
    <image>.json               labelme, in annotations/, masks/, labels/ or beside the image
    images/<image>_mask.png    pictures beside the image
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from medseg_runtime.errors import DataError
from medseg_runtime.files.read import read_bytes
from medseg_trainer.data.annotation_file import Drawing, class_numbers, read_json
from medseg_trainer.data.coco import is_coco, read_coco
from medseg_trainer.data.image_names import ImageNames
from medseg_trainer.data.labelme import is_labelme, read_labelme
from medseg_trainer.data.mask_names import masks_among, masks_of
from medseg_trainer.data.masks import Mask, read_mask
from medseg_trainer.data.names import files_below, folders_in, kinds_below, pictures_in, stem_of

COCO_FOLDERS = (".", "annotations", "masks", "images")
LABELME_FOLDERS = ("annotations", "masks", "labels", "images")


class MaskSource(Protocol):
    """The masks of all images of a folder."""

    @property
    def description(self) -> str:
        """Where they are from, for a reader."""

    @property
    def leftover(self) -> tuple[str, ...]:
        """What belongs to no image."""

    def check(self, image: str) -> None:
        """Find the masks of an image without reading them.

        Raises:
            DataError: one is missing, or nobody can know which it is.
        """

    def read(self, image: str) -> list[Mask]:
        """Read one mask for each rater.

        Raises:
            DataError: see `check`, or one cannot be read.
        """


@dataclass(frozen=True, slots=True)
class MaskPictures:
    """Masks as pictures, with one folder for each rater."""

    data: Path
    """The folder of the data set, for messages."""
    images: Mapping[str, Path]
    raters: Mapping[str, Mapping[str, Path]]
    """Pictures by the path of their folder, then by name."""
    found: Mapping[str, Mapping[str, list[str]]]
    """The names of the masks of each image, by the same path."""
    num_classes: int
    description: str

    @property
    def leftover(self) -> tuple[str, ...]:
        return tuple(
            f"{rater}/{mask}"
            for rater, pictures in self.raters.items()
            for used in [{mask for masks in self.found[rater].values() for mask in masks}]
            for mask in pictures
            if mask not in used
        )

    def check(self, image: str) -> None:
        for rater in self.raters:
            self._mask(image, rater)

    def read(self, image: str) -> list[Mask]:
        paths = {rater: self._mask(image, rater) for rater in self.raters}
        return [
            read_mask(read_bytes(path, DataError, "Give a mask that may be read.", name=name), name, self.num_classes)
            for path in paths.values()
            for name in [path.relative_to(self.data).as_posix()]
        ]

    def _mask(self, image: str, rater: str) -> Path:
        masks, pictures = self.found[rater][image], self.raters[rater]
        file = self.images[image].name
        if not masks:
            raise DataError(
                f"images/{_under(image, file)} has no mask in {rater}/",
                f"Add {image}.png or {image}_mask.png there; all zero if nothing was marked.",
            )
        if len(masks) > 1:
            names = " and ".join(pictures[mask].name for mask in masks[:3])
            raise DataError(
                f"images/{_under(image, file)} has {len(masks)} masks in {rater}/: {names}",
                "Keep the one that is meant, join them, or put each rater's masks into a folder of their own.",
            )
        others = [one for one, found in self.found[rater].items() if found == masks and one != image]
        if others:
            raise DataError(
                f"{pictures[masks[0]].name} may be the mask of {image} and of {others[0]}", "Name it as its image."
            )
        return pictures[masks[0]]


@dataclass(frozen=True, slots=True)
class MaskDrawings:
    """Masks as an annotation tool writes them; one rater."""

    images: Mapping[str, Path]
    drawings: Mapping[str, Drawing]
    numbers: Mapping[str, int]
    """The class of each category."""
    description: str
    leftover: tuple[str, ...]

    def check(self, image: str) -> None:
        if image not in self.drawings:
            raise DataError(
                f"images/{_under(image, self.images[image].name)} has no outlines in {self.description}",
                "Annotate it, if only as an image in which nothing is marked, or remove it from splits.csv.",
            )

    def read(self, image: str) -> list[Mask]:
        self.check(image)
        return [self.drawings[image].mask(dict(self.numbers))]


def find_masks(data: Path, images: Mapping[str, Path], classes: Sequence[str]) -> tuple[MaskSource, dict[str, Path]]:
    """Return the masks of a folder, and the images among the pictures of images/.

    images: pictures of images/, by name.

    Raises:
        DataError: there are no masks, or an annotation file cannot be read.
    """
    folder = data / "masks"
    pictures = pictures_in(folder) if folder.is_dir() else {}
    if pictures:
        return _pictures(folder, pictures, images, classes), dict(images)
    drawings = _coco(data, images, classes) or _labelme(data, images, classes)
    if drawings is not None:
        return drawings, dict(images)
    beside = {name: images[name] for name in masks_among(images)}
    alone = {name: path for name, path in images.items() if name not in beside}
    if beside:
        found = {"images": masks_of(alone, beside)}
        return MaskPictures(data, alone, {"images": beside}, found, len(classes), "masks beside the images"), alone
    raise _no_masks(data)


def _no_masks(data: Path) -> DataError:
    folder = data / "masks"
    if folder.is_dir() and (kinds := kinds_below(folder)):
        return DataError(
            f"masks/ holds no picture, but {kinds}",
            "Save the masks as PNG or TIFF, volumes slice by slice; or outlines as COCO or labelme.",
        )
    return DataError(
        f"masks/ is missing next to images/; the folders there are {folders_in(data)}",
        "Put one mask per image there, or one folder of masks per rater; rename the folder that holds them, if there is one. "
        "Or give outlines, as COCO's annotations.json or labelme's JSON files in annotations/.",
    )


def _pictures(
    folder: Path, pictures: dict[str, Path], images: Mapping[str, Path], classes: Sequence[str]
) -> MaskPictures:
    tops = {name.partition("/")[0] for name in pictures if "/" in name}
    mirrored = {name.partition("/")[0] for name in images if "/" in name}
    raters = {"masks": pictures}
    if tops and tops.isdisjoint(mirrored):
        if any("/" not in name for name in pictures):
            raise DataError(
                f"masks/ holds pictures beside the folder {min(tops)}/",
                "Keep one folder for each rater, or pictures alone.",
            )
        _check_raters(tops, classes)
        raters = {
            f"masks/{top}": {
                name.removeprefix(f"{top}/"): path for name, path in pictures.items() if name.startswith(f"{top}/")
            }
            for top in sorted(tops)
        }
    found = {rater: masks_of(images, masks) for rater, masks in raters.items()}
    count = f"{len(raters)} raters" if len(raters) > 1 else "one rater"
    return MaskPictures(folder.parent, images, raters, found, len(classes), f"{folder.name}/, {count}")


def _check_raters(folders: Collection[str], classes: Sequence[str]) -> None:
    """Refuse a folder for each class: each would be taken for a rater."""
    names = {name.casefold() for name in classes}
    called = sorted(folder for folder in folders if folder.casefold() in names)
    if called and len(folders) > 1:
        raise DataError(
            f"masks/ has a folder {called[0]}/, as a class is called, but each folder is one rater",
            "Keep one mask for each image in masks/: 0 and 255 for one class, or the number of the class in each pixel for several.",
        )


def _coco(data: Path, images: Mapping[str, Path], classes: Sequence[str]) -> MaskDrawings | None:
    candidates = [path for place in COCO_FOLDERS for path in sorted((data / place).glob("*.json"))]
    files = [path for path in candidates if path.stem not in images and is_coco(read_json(path))]
    if not files:
        return None
    drawings, used, declared = read_coco(files)
    described = ", ".join(path.name for path in files)
    names, found, leftover = ImageNames(images), dict[str, Drawing](), list[str]()
    for drawing in drawings:
        match names.find(drawing.image):
            case [name] if name in found:
                raise DataError(f"{described} names the image {name!r} twice", "Keep one of the entries.")
            case [name]:
                found[name] = drawing
            case _:
                leftover.append(drawing.image)
    numbers = class_numbers(used, classes, described, declared)
    return MaskDrawings(images, found, numbers, described, tuple(leftover))


def _labelme(data: Path, images: Mapping[str, Path], classes: Sequence[str]) -> MaskDrawings | None:
    for place in LABELME_FOLDERS:
        root = data / place
        files = {
            name: path
            for path in sorted(files_below(root))
            if path.suffix.lower() == ".json" and (name := stem_of(path.relative_to(root).as_posix())) in images
        }
        if any(is_labelme(read_json(path)) for path in files.values()):
            drawings, labels = read_labelme(files)
            described = f"labelme's files in {place}/"
            return MaskDrawings(images, drawings, class_numbers(labels, classes, described), described, ())
    return None


def _under(image: str, file: str) -> str:
    """Return the path of an image below images/, with its suffix."""
    folder = image.rpartition("/")[0]
    return f"{folder}/{file}" if folder else file
