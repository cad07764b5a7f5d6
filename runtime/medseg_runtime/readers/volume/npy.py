"""An array of NumPy (.npy) as a volume. It does not say how it lies in the patient: its slices are taken as they are.

(H, W) or (H, W, 1) one grey slice, (H, W, 3) one RGB slice, (D, H, W) D slices
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg_runtime.errors import ImageError
from medseg_runtime.files.read import read_bytes
from medseg_runtime.readers.volume.volume import Volume, check_grid
from medseg_runtime.readers.voxel_grid import VoxelGrid


def read_npy(path: Path) -> Volume:
    """Read an array of NumPy: (H, W), (H, W, 1), (H, W, 3) or (D, H, W).

    Raises:
        ImageError: damaged, or of another shape or type.
    """
    content = read_bytes(path, ImageError, "Give an array that numpy.save wrote.")
    try:
        array = np.load(io.BytesIO(content), allow_pickle=False)
    except MemoryError as error:
        raise ImageError("the array does not fit into memory", "Give a crop of it.") from error
    except Exception as error:  # ValueError, EOFError, SyntaxError of the header and more
        raise ImageError(
            "the .npy file is damaged, or holds Python objects", "Save it again with numpy.save."
        ) from error
    if array.dtype.kind not in "buif":
        raise ImageError(f"an array of type {array.dtype} is not an image", "Save integers or floats.")
    if array.dtype.kind == "b":
        array = np.uint8(255) * array
    array = _sliced(array)
    voxels = array.swapaxes(0, 2)  # (x, y, slice)
    grid = VoxelGrid(shape=(voxels.shape[0], voxels.shape[1], voxels.shape[2]), affine=None)
    check_grid(grid)
    return Volume(voxels=voxels, grid=grid, kind="NumPy", sha256=hashlib.sha256(content).hexdigest())


def _sliced(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the slices (D, H, W) or (D, H, W, 3) of an array.

    Raises:
        ImageError: another shape.
    """
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[:, :, 0]
    if array.ndim == 3 and array.shape[-1] in (2, 4):  # taken as (D, H, W), its slices would be 2 or 4 pixels wide
        raise ImageError(
            f"the last axis of an array of shape {array.shape} looks like {array.shape[-1]} channels",
            "Save one channel, (H, W), or three, (H, W, 3); an alpha channel composited on a background.",
        )
    if array.ndim == 2 or (array.ndim == 3 and array.shape[-1] == 3):
        array = array[None]
    if array.ndim not in (3, 4) or (array.ndim == 4 and array.shape[-1] != 3) or 0 in array.shape:
        raise ImageError(
            f"an array of shape {array.shape} is no image or volume", "Save (H, W), (H, W, 3) or (D, H, W), D slices."
        )
    return array
