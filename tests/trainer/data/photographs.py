"""Small photographs with masks, written to disk."""

import zipfile

import numpy as np
from PIL import Image

from medseg_trainer.data.layouts import read_cases


def write_pair(image, mask, seed=0, size=(12, 16)):
    """Write a color image and its mask with a soft edge of 255, 128 and 127."""
    for path in (image, mask):
        path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)).save(image)
    drawn = np.zeros(size, np.uint8)
    drawn[3:6, 4:6], drawn[3:6, 6], drawn[3:6, 7] = 255, 128, 127
    Image.fromarray(drawn).save(mask)


def zipped(source, target):
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(source.rglob("*")):
            archive.write(path, path.relative_to(source).as_posix())


def names(data, split="train", **options):
    return [case.name for case in read_cases(data, split, 1, **options)]
