"""Masks from labelme's JSON files (https://github.com/wkentaro/labelme): one beside each image, or in a folder of their own.

X-AnyLabeling writes the same, with four corners of a rectangle instead of two, and turned ones as `rotation`.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from medseg_trainer.data.annotation_file import Drawing, Shape, read_json, size_in, well_formed
from medseg_trainer.data.masks import Bool, decode_mask
from medseg_trainer.data.polygons import circle, filled_polygon, points_of, rectangle


def is_labelme(content: Any) -> bool:
    """Tell whether the content of a JSON file is labelme's."""
    return isinstance(content, dict) and isinstance(content.get("shapes"), list)


def read_labelme(files: Mapping[str, Path]) -> tuple[dict[str, Drawing], list[str]]:
    """Return the drawing of each image, and the names of the labels.

    files: by the name of their image.

    Raises:
        DataError: a file cannot be read, or is not in this format.
    """
    drawings: dict[str, Drawing] = {}
    for image, path in files.items():
        content = read_json(path)
        with well_formed(path.name):
            shapes = tuple(Shape(str(shape["label"]), partial(_area, shape)) for shape in content["shapes"])
            drawings[image] = Drawing(path.name, image, *size_in(content, "imageHeight", "imageWidth"), shapes)
    labels = {shape.category: None for drawing in drawings.values() for shape in drawing.shapes}
    return drawings, list(labels)


def _area(shape: dict[str, Any], height: int, width: int) -> Bool:
    kind, points = shape.get("shape_type") or "polygon", shape["points"]
    if kind in ("polygon", "rotation") or (kind == "rectangle" and len(points) == 4):
        return filled_polygon(points, height, width)
    if kind == "rectangle":
        return filled_polygon(rectangle(points), height, width)
    if kind == "circle":
        return filled_polygon(circle(points), height, width)
    if kind == "mask":
        return _pasted(shape, height, width)
    raise ValueError(f"it holds a shape of the kind {kind!r}, and areas are polygons, rectangles, circles and masks")


def _pasted(shape: dict[str, Any], height: int, width: int) -> Bool:
    """Put a mask, which labelme stores as a PNG of its box, into the image."""
    content = base64.b64decode(shape["mask"], validate=True)
    (left, top), _ = np.rint(points_of(shape["points"])).astype(int).tolist()
    part = decode_mask(content, "a mask in it", 1)[max(-top, 0) :, max(-left, 0) :] > 0
    area = np.zeros((height, width), bool)
    room = area[max(top, 0) :, max(left, 0) :]
    part = part[: room.shape[0], : room.shape[1]]
    room[: part.shape[0], : part.shape[1]] = part
    return area
