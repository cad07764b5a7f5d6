"""What a step sees: the runtime's own preprocessing, then the same move for the image and its labels, from (seed, step) alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from medseg_runtime.errors import DataError
from medseg_runtime.model.preprocess import InputRule, paste, place, to_network, to_seen
from medseg_trainer.config.run import AugmentConfig
from medseg_trainer.data.augment import Draw, augmented
from medseg_trainer.data.layouts import Case
from medseg_trainer.data.working_set import BatchSource, WorkingSet, working_size

STILL = AugmentConfig(shift_px=0, flip=False, intensity=0.0)
NATIVE = InputRule(channels=1, height=32, width=32, geometry="native", intensity="minmax", context=64)
ODD_DIFFERENCE = replace(NATIVE, context=62)  # 15 px on either side
OBLONG = replace(NATIVE, height=16, width=48)
SQUASHED = InputRule(channels=1, height=32, width=48, geometry="resize", intensity="minmax")
COLOUR = InputRule(channels=3, height=32, width=32, geometry="resize", intensity="unit")
SIZES = [(128, 128), (65, 127), (63, 90), (30, 31)]  # whole, odd, narrower than the context, smaller than the field


def make_case(height=128, width=128, channels=1, raters=2):
    rng = np.random.default_rng(height)
    image = rng.integers(0, 256, (height, width) if channels == 1 else (height, width, channels), np.uint8)
    masks = np.zeros((raters, height, width), np.uint8)
    masks[0, height // 3 : height // 2 + 3, width // 3 : width // 2 + 5] = 1
    masks[1:, height // 2, width // 2] = 2
    return Case(name="a", group="a", image=image, masks=masks)


def working_set(*cases, rule=NATIVE):
    images, labels = zip(*(working_size(case, rule) for case in cases), strict=True)
    return WorkingSet(np.stack(images).astype(np.float16), np.stack(labels), len(cases))


def source(data, rule=NATIVE, augment=STILL, batch_size=1, **more):
    return BatchSource(data, rule, augment, batch_size, 7, **more)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(
    "rule", [NATIVE, ODD_DIFFERENCE, OBLONG, SQUASHED, COLOUR], ids=["native", "odd", "oblong", "squashed", "colour"]
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
    (labels,) = source(working_set(case, rule=COLOUR), COLOUR)[0].labels.numpy()
    assert set(np.unique(labels)) <= {0, 1, 3}  # between 1 and 3 is no 2


# --- order


@pytest.fixture
def numbered():
    """Thirteen cases, told apart by the grey of their images."""
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


LIVELY = AugmentConfig(shift_px=9, flip=True, intensity=0.2)


def test_a_batch_is_a_function_of_seed_and_step(numbered):
    first, again = source(numbered, augment=LIVELY, batch_size=4), source(numbered, augment=LIVELY, batch_size=4)
    _ = [again[step] for step in (5, 0, 2)]  # what was drawn before does not matter
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
    assert torch.equal(torch.get_rng_state(), before)  # of which weights are drawn
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


# --- augmentation


def marked_set(row, column, side=64):
    """One image that is bright, and marked by both raters, in one place only."""
    image = np.zeros((1, 1, side, side), np.float16)
    labels = np.zeros((1, 2, side, side), np.uint8)
    image[0, 0, row : row + 2, column : column + 3] = 1.0
    labels[0, :, row : row + 2, column : column + 3] = 1
    return WorkingSet(image, labels, 1)


@pytest.mark.parametrize("augment", [LIVELY, replace(LIVELY, intensity=0.0)], ids=["with intensity", "moves alone"])
def test_image_and_labels_move_together(augment):
    batches = source(marked_set(26, 33), augment=augment)
    seen = set()
    for step in range(60):
        batch = batches[step]
        bright = batch.image[0, 0] > 0.5
        for rater in range(2):
            np.testing.assert_array_equal(bright, batch.labels[0, rater] > 0)
        seen.add(tuple(bright.nonzero()[0].tolist()) + tuple(bright.any(dim=1).nonzero().shape))
    assert len(seen) > 30  # it did move


def blob_set(value=1):
    """Unsymmetric, smooth at no place: an image that is its own mask, and a mask of a second class beside it."""
    labels = np.zeros((1, 1, 64, 64), np.uint8)
    labels[0, 0, 24:40, 28:34], labels[0, 0, 36:40, 34:42] = value, value
    return WorkingSet((labels > 0).astype(np.float16), labels, 1)


def test_turned_and_zoomed_images_keep_their_masks_in_place():
    batches = source(blob_set(2), augment=AugmentConfig(shift_px=4, rotation_deg=180.0, zoom=0.3))
    areas = []
    for step in range(60):
        batch = batches[step]
        np.testing.assert_array_equal(batch.labels[0, 0] > 0, batch.image[0, 0] > 0.5)
        assert set(np.unique(batch.labels)) <= {0, 2}
        areas.append(int((batch.labels > 0).sum()))
    whole = (blob_set().labels > 0).sum()
    assert min(areas) < whole / 1.3 < whole * 1.3 < max(areas)  # nearly the extremes: 1 / 1.69 and 1.69
    assert whole / 1.8 < min(areas)
    assert max(areas) < whole * 1.8


@pytest.mark.parametrize(("quarters", "angle"), [(1, np.pi / 2), (2, np.pi), (3, -np.pi / 2)])
def test_a_quarter_turn_is_the_exact_one(quarters, angle):
    data = blob_set()
    still = (False, False, False)
    field, labels = augmented(data.images[0], data.labels[0], NATIVE, Draw(0, 0, still, None, (angle, 1.0)))
    expected = np.rot90(data.labels[0, 0, 16:48, 16:48], -quarters)
    np.testing.assert_array_equal(labels[0], expected)
    np.testing.assert_allclose(field[0], expected, atol=1e-5)


def test_what_is_turned_in_from_beyond_repeats_the_edge_and_bears_no_mask():
    data = WorkingSet(np.ones((1, 1, 32, 32), np.float16), np.ones((1, 1, 32, 32), np.uint8), 1)
    field, labels = augmented(
        data.images[0], data.labels[0], NATIVE, Draw(0, 0, (False, False, False), None, (np.pi / 4, 1.0))
    )
    np.testing.assert_allclose(field, 1.0)
    assert not labels[0, [0, 0, -1, -1], [0, -1, 0, -1]].any()
    assert labels[0, 16, 16] == 1


def test_turning_leaves_the_other_random_choices_as_they_were():
    turned = replace(LIVELY, rotation_deg=90.0, zoom=0.2)
    plain, other = (Draw.of(np.random.default_rng(3), augment) for augment in (LIVELY, turned))
    assert replace(other, turn=None) == plain
    assert other.turn is not None


def test_a_share_of_the_images_is_turned():
    rng, augment = np.random.default_rng(0), AugmentConfig(rotation_deg=180.0, turn_share=0.25)
    turned = sum(Draw.of(rng, augment).turn is not None for _ in range(2000))
    assert 430 < turned < 570  # 500, and three and a half deviations


def test_the_eight_symmetries_all_occur_and_nothing_else():
    batches = source(marked_set(18, 20), augment=AugmentConfig(shift_px=0, flip=True))
    field = batches.data.labels[0, 0, 16:48, 16:48]
    expected = {np.rot90(side, k).tobytes() for side in (field, field.T) for k in range(4)}
    assert {batches[step].labels[0, 0].numpy().tobytes() for step in range(80)} == expected


def test_a_field_that_is_not_square_is_never_transposed():
    batches = source(marked_set(30, 30), OBLONG, replace(LIVELY, shift_px=0))
    assert {tuple(batches[step].labels.shape) for step in range(20)} == {(1, 2, 16, 48)}


@pytest.mark.parametrize("shift", [16, 40])  # to the working image's edge, and beyond
def test_shifts_reach_their_limit_and_no_further(shift):
    ramp = np.linspace(0, 1, 64).astype(np.float16)
    image = np.broadcast_to(ramp[:, None], (1, 1, 64, 64))
    batches = source(
        WorkingSet(image, np.ones((1, 1, 64, 64), np.uint8), 1), augment=AugmentConfig(shift_px=shift, flip=False)
    )
    shifts = []
    for step in range(300):
        shifts.append(Draw.of(np.random.default_rng((batches.seed, 1, step)), batches.augment).down)
        rows = np.arange(16, 48) + shifts[-1]
        batch = batches[step]
        np.testing.assert_array_equal(batch.image[0, 0, :, 0], ramp[np.clip(rows, 0, 63)])  # the edge is repeated ...
        assert not batch.labels[0, 0, (rows < 0) | (rows > 63)].any()  # ... and bears no mask
    assert (min(shifts), max(shifts)) == (-shift, shift)


def test_a_tint_changes_each_colour_by_itself_and_the_labels_not_at_all():
    case = make_case(32, 32, channels=3)
    case.image[:] = 128
    data = working_set(case, rule=COLOUR)
    batch = source(data, COLOUR, replace(STILL, tint=0.2))[0]
    gains = batch.image[0, :, 0, 0].numpy() / (128 / 255)
    assert len(np.unique(gains)) == 3
    assert (np.abs(gains - 1) <= 0.201).all()
    assert torch.equal(batch.labels, source(data, COLOUR)[0].labels)


def test_changed_intensities_stay_in_range_and_in_order():
    ramp = np.broadcast_to(np.linspace(0, 1, 64), (1, 1, 64, 64)).astype(np.float16)
    batches = source(WorkingSet(ramp, np.zeros((1, 1, 64, 64), np.uint8), 1), augment=replace(STILL, intensity=0.4))
    fields = np.stack([batches[step].image[0, 0, 0].numpy() for step in range(50)])
    assert fields.dtype == np.float32
    assert fields.min() >= 0.0
    assert fields.max() <= 1.0
    assert (np.diff(fields, axis=1) >= 0).all()
    assert np.ptp(fields[:, 16]) > 0.2


# --- reading


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
def test_a_class_that_no_mask_marks_is_nothing_to_learn(labels, name):
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


def test_pictures_in_which_nothing_can_be_seen_are_refused(tmp_path):
    """12 bits in files of 16: a tenth of what augmentation alone adds and takes away."""
    twelve_bits = np.random.default_rng(0).integers(0, 4096, (2, 32, 32), np.uint16)
    with pytest.raises(DataError, match=r"between 0% and 6% of the range of their files\. Stretch them"):
        WorkingSet.read(own_folder(tmp_path, twelve_bits), "train", COLOUR, 1, 1, quiet=True)


def test_floats_of_another_scale_are_refused_by_the_name_of_their_image(tmp_path):
    floats = np.random.default_rng(0).uniform(0, 255, (1, 32, 32)).astype(np.float32)
    with pytest.raises(DataError, match=r"^0: .*takes them from 0 to 1\. Scale them"):
        WorkingSet.read(own_folder(tmp_path, floats), "train", COLOUR, 1, 1, quiet=True)
