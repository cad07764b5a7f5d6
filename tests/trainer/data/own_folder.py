"""Write data sets of your own folder."""

import io

import numpy as np
from PIL import Image

SIZE = (40, 60)
Y, X = np.mgrid[: SIZE[0], : SIZE[1]]
DISC = (X - 20) ** 2 + (Y - 15) ** 2 < 64


def encoded(values, kind="PNG", **options):
    picture = values if isinstance(values, Image.Image) else Image.fromarray(values)
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


PHOTO = np.where(DISC, 220, 30).astype(np.uint8)
MASK = (DISC * 255).astype(np.uint8)


def build(root, files, splits="image,split\na,train\nb,val\n"):
    """Write files, by their path: bytes, text or an array, which is saved as PNG."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            path.write_text(content)
        else:
            path.write_bytes(content if isinstance(content, bytes) else encoded(content))
    if splits is not None:
        (root / "splits.csv").write_text(splits)
    return root


def pairs(*names, mask="masks/{}.png"):
    """Images and masks of these names, each image another."""
    rng = np.random.default_rng(len(names))
    files = {}
    for name in names:
        files[f"images/{name}.png"] = np.where(DISC, 220, rng.integers(0, 120, SIZE)).astype(np.uint8)
        files[mask.format(name)] = MASK
    return files
