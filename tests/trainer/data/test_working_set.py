"""Batches: the preprocessing of the runtime, an order that follows from (seed, step), and reading of a split."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from medseg_runtime.errors import DataError
from medseg_runtime.model.preprocess import paste, place, to_network, to_seen
from medseg_trainer.data.working_set import WorkingSet
from tests.trainer.data.batches import (
    COLOR,
    LIVELY,
    NATIVE,
    OBLONG,
    ODD_DIFFERENCE,
    SIZES,
    SQUASHED,
    make_case,
    source,
    working_set,
)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(
    "rule", [NATIVE, ODD_DIFFERENCE, OBLONG, SQUASHED, COLOR], ids=["native", "odd", "oblong", "squashed", "color"]
)
def test_an_unaugmented_batch_is_what_the_runtime_feeds(rule, size):
    case = make_case(*size, channels=rule.channels)
    (image,) = source(working_set(case, rule=rule), rule)[0].image.numpy()
    served = to_network(case.image, rule, place(case.image, rule, None))[0]
    np.testing.assert_allclose(image, served, atol=2**-11)  # the working set is float16


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("rule", [NATIVE, ODD_DIFFERENCE, OBLONG], ids=["native", "odd", "oblong"])
def test_native_labels_go_back_to_where_they_were_drawn(rule, size):
    case = make_case(*size)
    (labels,) = source(working_set(case, rule=rule), rule)[0].labels.numpy()
    placement = place(case.image, rule, None)
    inside = placement.field.clipped(*size)
    kept = np.s_[:, inside.y : inside.y + inside.height, inside.x : inside.x + inside.width]
    expected = np.zeros_like(case.masks)
    expected[kept] = case.masks[kept]
    np.testing.assert_array_equal(paste(to_seen(labels.astype(np.float32), placement), placement), expected)


def test_resized_labels_stay_on_the_structure_that_the_image_shows():
    case = make_case(96, 120)
    case.image[:] = 255 * (case.masks[0] > 0)
    batch = source(working_set(case, rule=SQUASHED), SQUASHED)[0]
    np.testing.assert_array_equal(batch.image[0, 0] > 0.5, batch.labels[0, 0] > 0)
    assert batch.labels[0, 0].any()


def test_resized_labels_are_no_mixture_of_classes():
    case = make_case(64, 64)
    case.masks[0, 10:30, 10:30], case.masks[0, 10:30, 30:50] = 1, 3
    (labels,) = source(working_set(case, rule=COLOR), COLOR)[0].labels.numpy()
    assert set(np.unique(labels)) <= {0, 1, 3}  # interpolation between 1 and 3 must not give 2


@pytest.fixture
def numbered():
    """Thirteen cases; the gray value of an image is its number."""
    images = np.arange(13, dtype=np.float16)[:, None, None, None] / 16 * np.ones((1, 1, 64, 64), np.float16)
    return WorkingSet(images, np.zeros((13, 2, 64, 64), np.uint8), 13)


def numbers(batch):
    return (16 * batch.image[:, 0, 0, 0]).round().int().tolist()


def test_every_case_comes_once_an_epoch_in_another_order_each_time(numbered):
    batches = source(numbered, batch_size=4)
    stream = np.concatenate([numbers(batches[step]) for step in range(13)])  # four epochs, none on a batch's border
    epochs = stream.reshape(4, 13)
    assert (np.sort(epochs, axis=1) == np.arange(13)).all()
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_a_batch_is_a_function_of_seed_and_step(numbered):
    first, again = source(numbered, augment=LIVELY, batch_size=4), source(numbered, augment=LIVELY, batch_size=4)
    _ = [again[step] for step in (5, 0, 2)]  # batches accessed before must not matter
    np.testing.assert_array_equal(first[3].image, again[3].image)
    other_seed = replace(first, seed=8)
    assert not np.array_equal(first[3].image, first[4].image)
    assert not np.array_equal(first[3].image, other_seed[3].image)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # where only one processor may be used
def test_batches_that_processes_prepare_ahead_are_the_same(numbered, monkeypatch):
    monkeypatch.setattr("medseg_trainer.data.working_set.workers_for", lambda _: 2)
    made = source(numbered, batch_size=3)
    before = torch.get_rng_state()
    ahead = list(made.batches(range(4, 9), torch.device("cpu")))
    assert torch.equal(torch.get_rng_state(), before)  # initial weights come from this generator
    for step, batch in zip(range(4, 9), ahead, strict=True):
        assert torch.equal(batch.image, made[step].image)
        assert torch.equal(batch.labels, made[step].labels)


def test_two_processes_together_see_the_batch_of_one():
    data = working_set(*(make_case(100 + k, 90) for k in range(5)))
    whole, *parts = (
        source(data, augment=LIVELY, batch_size=4, rank=rank, world_size=size)[3]
        for rank, size in ((0, 1), (0, 2), (1, 2))
    )
    for name in ("image", "labels"):
        together = np.empty_like(getattr(whole, name).numpy())
        together[0::2], together[1::2] = (getattr(part, name).numpy() for part in parts)
        np.testing.assert_array_equal(together, getattr(whole, name))


def test_the_working_set_holds_the_context_of_every_case(phantom_zips):
    data = WorkingSet.read(phantom_zips, "val", NATIVE, 4, 1, quiet=True)
    assert data.images.shape == (len(data), 1, 64, 64)
    assert data.labels.shape == (len(data), 4, 64, 64)
    assert (data.images.dtype, data.labels.dtype, data.num_groups) == (np.float16, np.uint8, 3)


def test_another_number_of_raters_is_refused(phantom_zips):
    with pytest.raises(DataError, match=r"has 4 raters' masks, the configuration says 1\. Run with --raters 4\."):
        WorkingSet.read(phantom_zips, "val", NATIVE, 1, 1, quiet=True)


def test_class_frequency_is_counted_in_the_field():
    labels = np.zeros((1, 1, 64, 64), np.uint8)
    labels[..., :16, :] = 1  # beyond the field
    labels[..., 16:20, 16:48], labels[..., 20:24, 16:32] = 1, 2
    data = WorkingSet(np.zeros((1, 1, 64, 64), np.float16), labels, 1)
    assert data.class_frequency(NATIVE, ("one", "two")).tolist() == pytest.approx([1 - 6 / 32, 4 / 32, 2 / 32])


@pytest.mark.parametrize(("labels", "name"), [(0, "lesion"), (1, "background")])
def test_a_class_that_no_mask_marks_is_refused(labels, name):
    data = WorkingSet(np.zeros((1, 1, 64, 64), np.float16), np.full((1, 1, 64, 64), labels, np.uint8), 1)
    with pytest.raises(DataError, match=rf"marks any {name} in the 32x32 px .* center.* such as photo"):
        data.class_frequency(NATIVE, ("lesion",))


def own_folder(folder, images):
    for kind in ("images", "masks"):
        (folder / kind).mkdir()
    for index, image in enumerate(images):
        Image.fromarray(image).save(folder / "images" / f"{index}.tiff")
        Image.fromarray(np.eye(32, dtype=np.uint8) * 255).save(folder / "masks" / f"{index}.png")
    (folder / "splits.csv").write_text("image,split\n" + "".join(f"{k}.tiff,train\n" for k in range(len(images))))
    return folder


def test_images_without_contrast_are_refused(tmp_path):
    """12-bit images in 16-bit files use a sixteenth of the range."""
    twelve_bits = np.random.default_rng(0).integers(0, 4096, (2, 32, 32), np.uint16)
    with pytest.raises(DataError, match=r"between 0% and 6% of the range of their files\. Stretch them"):
        WorkingSet.read(own_folder(tmp_path, twelve_bits), "train", COLOR, 1, 1, quiet=True)


def test_floats_of_another_scale_are_refused_by_the_name_of_their_image(tmp_path):
    floats = np.random.default_rng(0).uniform(0, 255, (1, 32, 32)).astype(np.float32)
    with pytest.raises(DataError, match=r"^0: .*takes them from 0 to 1\. Scale them"):
        WorkingSet.read(own_folder(tmp_path, floats), "train", COLOR, 1, 1, quiet=True)
