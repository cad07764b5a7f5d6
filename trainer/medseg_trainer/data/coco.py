"""Masks from a file of COCO instances (https://cocodataset.org/#format-data): polygons and run lengths, one file or several.

Parts of an instance are joined. A crowd is an area like any other. An image without instances has an empty mask.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from medseg_trainer.data.annotation_file import Drawing, Shape, read_json, size_in, well_formed
from medseg_trainer.data.masks import Bool
from medseg_trainer.data.polygons import filled_polygon, run_length_mask

LISTS = ("images", "annotations", "categories")


def is_coco(content: Any) -> bool:
    """Tell whether the content of a JSON file has COCO's lists."""
    return isinstance(content, dict) and all(isinstance(content.get(key), list) for key in LISTS)


def read_coco(paths: Sequence[Path]) -> tuple[list[Drawing], list[str], list[str]]:
    """Return the drawings of all images, the names of the categories that have instances, and the names of all categories.

    Raises:
        DataError: a file cannot be read, or is not in this format.
    """
    drawings, used, declared = list[Drawing](), dict[str, None](), dict[str, None]()
    for path in paths:
        content = read_json(path)
        with well_formed(path.name):
            names = {entry["id"]: str(entry["name"]) for entry in content["categories"]}
            drawings += _drawings(path.name, content, names)
            used |= dict.fromkeys(names[instance["category_id"]] for instance in content["annotations"])
            declared |= dict.fromkeys(names.values())
    return drawings, list(used), list(declared)


def _drawings(file: str, content: dict[str, Any], names: dict[Any, str]) -> list[Drawing]:
    shapes: dict[Any, list[Shape]] = defaultdict(list)
    for instance in content["annotations"]:
        segmentation = instance["segmentation"]
        shapes[instance["image_id"]].append(Shape(names[instance["category_id"]], partial(_area, segmentation)))
    images = {entry["id"]: entry for entry in content["images"]}
    unknown = [identifier for identifier in shapes if identifier not in images]
    if unknown or len(images) < len(content["images"]):
        raise ValueError("an annotation names no image, or two images have one id")
    return [
        Drawing(file, str(entry["file_name"]), *size_in(entry, "height", "width"), tuple(shapes[identifier]))
        for identifier, entry in images.items()
    ]


def _area(segmentation: Any, height: int, width: int) -> Bool:
    if isinstance(segmentation, dict):
        if list(segmentation["size"]) != [height, width]:
            raise ValueError("run lengths are of another size than the image")
        return run_length_mask(segmentation["counts"], height, width)
    if not isinstance(segmentation, list) or not segmentation:
        raise ValueError("an instance has a box and no outline")
    area = np.zeros((height, width), bool)
    for part in segmentation:
        if not isinstance(part, list) or len(part) % 2:
            raise ValueError("segmentation is no list of polygons, each a list x, y, x, y, ...")
        area |= filled_polygon(np.asarray(part, np.float64).reshape(-1, 2), height, width)
    return area
