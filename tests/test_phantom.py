"""The synthetic images that other tests and the README use."""

from pathlib import Path

import numpy as np
from PIL import Image

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_the_committed_example_is_what_the_generator_writes(phantom, tmp_path):
    phantom.write_example(tmp_path)
    for name in ("nodule-phantom.png", "nodule-phantom-readers.png"):
        committed, drawn = (np.asarray(Image.open(folder / name)).astype(int) for folder in (EXAMPLES, tmp_path))
        assert np.abs(committed - drawn).max() <= 1, name  # another CPU may round the last bit differently


def test_a_seed_determines_the_image(phantom):
    first, again, other = (phantom.make_nodule(seed)[0] for seed in (3, 3, 4))
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.masks, again.masks)
    assert not np.array_equal(first.image, other.image)


def test_the_readers_disagree_as_in_lidc(phantom):
    generators = map(
        np.random.RandomState, range(100)
    )  # nodules without their images, which take a tenth of a second each
    masks = np.stack([phantom.reader_masks(rng, phantom.nodule(rng), [1.0])[0] for rng in generators])
    marked = masks.any(axis=(2, 3))
    assert marked.any(axis=1).all()  # every nodule is marked by someone ...
    assert 0.1 < 1 - marked.mean() < 0.5  # ... but not by everyone
    assert (np.diff(marked.astype(int), axis=1) <= 0).all()  # empty masks come last
    assert 30 < np.median(masks.sum(axis=(2, 3))[marked]) < 120  # pixels; LIDC-IDRI: 64
    assert np.mean([(m != m[0]).any() for m in masks]) > 0.9


def test_the_data_set_has_the_published_layout(phantom, tmp_path):
    root = phantom.write_dataset(tmp_path, num_patients=3)
    images = sorted(root.glob("*/nodule-*/images/slice-*.png"))
    assert root.name == "LIDC-IDRI-slices"
    assert len({path.parts[-4] for path in images}) == 3
    for path in images:
        image = np.asarray(Image.open(path))
        assert (image.shape, image.min(), image.max()) == ((128, 128), 0, 255)
        for k in range(4):
            mask = np.asarray(Image.open(path.parents[1] / f"mask-{k}" / path.name))
            assert set(np.unique(mask)) <= {0, 255}
