"""The segmenter on a fake backend: its calls, its masks, its maps and its refusals."""

import math
from dataclasses import replace
from itertools import combinations, pairwise

import numpy as np
import pytest
from PIL import Image

from medseg_runtime import Segmenter
from medseg_runtime.errors import BackendError, ImageError, ParameterError
from medseg_runtime.model.noise import NoiseLaw, SampleNoise
from medseg_runtime.model.preprocess import Box
from medseg_runtime.model.sampler import sampler_table, time_features
from medseg_runtime.result import uncertainty
from medseg_runtime.result.accumulator import foreground_probability
from medseg_runtime.result.metrics import iou
from medseg_runtime.testing import LATENT, TIME_FEATURES, FakeBackend, toy_manifest

SAMPLERS = [("flow", "euler"), ("flow", "dpmpp"), ("epsilon", "ddim"), ("epsilon", "dpmpp"), ("epsilon", "ddpm")]
IMAGE = np.random.default_rng(0).integers(0, 255, (97, 120), dtype=np.uint8)


def step(feeds):
    """One row round a network that is not linear and uses all it is given."""
    p, q, a, b, c = feeds["row"]
    z = feeds["latent"]
    denoised = p * z + q * np.tanh(z * (1 + feeds["condition"] + feeds["time_features"].mean()))
    return a * z + b * denoised + c * feeds["extra"], denoised


class Recorder(FakeBackend):
    """Remembers what it was fed."""

    def __init__(self, manifest):
        super().__init__(manifest)
        self.feeds = []

    def run(self, graph, feeds):
        self.feeds.append((graph, {name: array.copy() for name, array in feeds.items()}))
        result = super().run(graph, feeds)
        return step(feeds) if graph == "denoiser" else result

    def of(self, graph):
        return [feeds for name, feeds in self.feeds if name == graph]

    def latents(self):
        """All samples as they came out of the last step, (N, z, h, w)."""
        return np.concatenate([feeds["latent"] for feeds in self.of("decoder")])


class OneByOne(FakeBackend):
    """The same functions, computed one sample at a time."""

    name = "one by one"

    def run(self, graph, feeds):
        if graph == "encoder":
            return super().run(graph, feeds)
        per_sample = []
        for k in range(len(feeds["latent"])):
            own = {name: array[k : k + 1] if name in ("latent", "extra") else array for name, array in feeds.items()}
            result = super().run(graph, own)
            per_sample.append(step(own) if graph == "denoiser" else result)
        return tuple(np.concatenate(parts) for parts in zip(*per_sample, strict=True))


class Decoding(FakeBackend):
    """Decodes every sample to the same logits: one number per channel, or a map for each."""

    def __init__(self, manifest, logits):
        super().__init__(manifest)
        self.logits = np.asarray(logits, np.float32)

    def run(self, graph, feeds):
        results = super().run(graph, feeds)
        if graph != "decoder":
            return results
        maps = self.logits if self.logits.ndim == 3 else self.logits[:, None, None]
        return (np.broadcast_to(maps, results[0].shape),)


def toy(objective="flow", max_batch=64, backend=Recorder, **manifest):
    made = toy_manifest(objective=objective, **manifest)
    return Segmenter(made, backend(made), max_batch=max_batch)


def decoding(logits, **manifest):
    made = toy_manifest(**manifest)
    return Segmenter(made, Decoding(made, logits))


# --- calls -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("samples", "batches"), [(1, [1]), (15, [15]), (16, [16]), (17, [16, 1]), (40, [16, 16, 8])])
def test_all_samples_go_through_one_call_per_step(samples, batches):
    segmenter = toy(max_batch=16)
    segmenter(IMAGE, samples=samples, steps=3)
    expected = [call for n in batches for call in [("denoiser", n)] * 3 + [("decoder", n)]]
    assert segmenter.backend.calls == [("encoder", 1), *expected]


@pytest.mark.parametrize(("objective", "sampler"), SAMPLERS)
@pytest.mark.parametrize("max_batch", [1, 3, 4])
def test_splitting_the_batch_changes_nothing(objective, sampler, max_batch):
    whole, split = toy(objective), toy(objective, max_batch)
    one, other = (segmenter(IMAGE, samples=10, steps=4, sampler=sampler, seed=5) for segmenter in (whole, split))
    assert (whole.backend.latents() == split.backend.latents()).all()
    assert (one.masks == other.masks).all()
    assert (one.mean_probability == other.mean_probability).all()


@pytest.mark.parametrize(("objective", "sampler"), SAMPLERS)
def test_a_sample_is_the_same_among_any_number(objective, sampler):
    few, many = toy(objective), toy(objective)
    first, all_of_them = (
        segmenter(IMAGE, samples=n, steps=4, sampler=sampler) for segmenter, n in ((few, 3), (many, 12))
    )
    assert (few.backend.latents() == many.backend.latents()[:3]).all()
    assert (first.masks == all_of_them.masks[:3]).all()


@pytest.mark.parametrize(("objective", "sampler"), SAMPLERS)
def test_samples_are_what_the_table_says(objective, sampler):
    # Each sample alone, by the definition in sampler.py: its noise, its rows, its previous estimate.
    segmenter = toy(objective, max_batch=3)
    segmenter(IMAGE, samples=4, steps=5, sampler=sampler, seed=11)
    table = sampler_table(segmenter.manifest.path, sampler, 5)
    condition = segmenter.backend.of("denoiser")[0]["condition"]
    for k, found in enumerate(segmenter.backend.latents()):
        noise = SampleNoise(11, k, NoiseLaw(antithetic=True))
        feeds = {"latent": noise.start(LATENT), "extra": np.zeros(LATENT, np.float32), "condition": condition[0]}
        for t, row in zip(table.t, table.rows.astype(np.float32), strict=True):
            if table.extra == "noise":
                feeds["extra"] = noise.draw(LATENT)
            feeds["latent"], denoised = step(
                feeds | {"row": row, "time_features": time_features(np.array([t]), TIME_FEATURES)}
            )
            if table.extra == "previous":
                feeds["extra"] = denoised
        np.testing.assert_allclose(found, feeds["latent"], rtol=1e-5, atol=1e-5)


def test_ddpm_noise_is_fresh_in_every_step_and_of_each_sample():
    segmenter = toy("epsilon")
    segmenter(IMAGE, samples=6, steps=4, sampler="ddpm")
    extra = np.stack([feeds["extra"] for feeds in segmenter.backend.of("denoiser")])  # (steps, samples, ...)
    assert len({noise.tobytes() for noise in extra.reshape(24, -1)}) == 24
    assert (extra[:, 1::2] == -extra[:, ::2]).all()  # antithetic pairs


def test_without_antithetic_noise_no_sample_mirrors_another():
    manifest = toy_manifest()
    object.__setattr__(manifest.sampling, "noise", NoiseLaw())
    segmenter = Segmenter(manifest, Recorder(manifest))
    segmenter(IMAGE, samples=4)
    first = segmenter.backend.of("denoiser")[0]["latent"]
    assert all((a != -b).any() for a, b in combinations(first, 2))


def test_dpmpp_hands_the_previous_estimate_on_and_the_others_nothing():
    segmenter = toy()
    segmenter(IMAGE, samples=2, steps=4, sampler="dpmpp")
    feeds = segmenter.backend.of("denoiser")
    assert (feeds[0]["extra"] == 0).all()
    for before, after in pairwise(feeds):
        assert (after["extra"] == step(before)[1]).all()
    segmenter = toy()
    segmenter(IMAGE, samples=2, steps=4, sampler="euler")
    assert all((feeds["extra"] == 0).all() for feeds in segmenter.backend.of("denoiser"))


@pytest.mark.parametrize("geometry", ["native", "resize"])
def test_every_feed_is_float32_of_the_shape_in_the_manifest(geometry):
    segmenter = toy(geometry=geometry, channels=3)
    segmenter(IMAGE, samples=5)
    assert {graph for graph, _ in segmenter.backend.feeds} == {"encoder", "denoiser", "decoder"}
    for graph, feeds in segmenter.backend.feeds:
        shapes = segmenter.manifest.graphs[graph].inputs
        assert {name: array.shape for name, array in feeds.items()} == {
            name: tuple(5 if side == "N" else side for side in shape) for name, shape in shapes.items()
        }
        assert {array.dtype for array in feeds.values()} == {np.dtype(np.float32)}


# --- what a call depends on --------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_masks_and_another_does_not():
    segmenter = toy()
    first, again, other = (segmenter(IMAGE, samples=8, seed=seed) for seed in (3, 3, 4))
    assert (first.masks == again.masks).all()
    assert (first.confidence == again.confidence).all()
    assert (first.masks != other.masks).any()
    assert len({latent.tobytes() for latent in segmenter.backend.latents()}) == 16  # 8 of each seed
    assert (segmenter(IMAGE, samples=8, seed=np.int64(3)).masks == first.masks).all()


@pytest.mark.parametrize(("objective", "sampler"), SAMPLERS)
def test_backends_of_the_same_function_agree(objective, sampler):
    batched, one_by_one = (
        toy(objective, backend=backend)(IMAGE, samples=6, sampler=sampler) for backend in (Recorder, OneByOne)
    )
    assert (batched.masks == one_by_one.masks).all()


def test_the_bundle_says_sampler_and_steps_unless_the_caller_does():
    segmenter = toy()
    default, steps, sampler = segmenter(IMAGE), segmenter(IMAGE, steps=2), segmenter(IMAGE, sampler="dpmpp")
    assert (len(default.masks), default.sampler, default.steps, default.request.seed) == (16, "euler", 4, 0)
    assert (steps.sampler, steps.steps) == ("euler", 2)
    assert (sampler.sampler, sampler.steps) == ("dpmpp", 4)


def test_a_file_is_the_array_that_it_holds(tmp_path):
    Image.fromarray(IMAGE).save(tmp_path / "image.png")
    from_array = toy()(IMAGE, samples=3)
    for path in (tmp_path / "image.png", str(tmp_path / "image.png")):
        assert (toy()(path, samples=3).masks == from_array.masks).all()


@pytest.mark.parametrize("geometry", ["native", "resize"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_the_input_is_left_alone(geometry, dtype):
    image = IMAGE.astype(dtype)
    image.setflags(write=False)
    toy(geometry=geometry)(image, samples=2)
    assert (image == IMAGE).all()


@pytest.mark.parametrize("geometry", ["native", "resize"])
def test_masks_are_where_the_region_is(geometry):
    region = Box(x=70, y=8, width=40, height=50)
    result = toy(geometry=geometry)(IMAGE, samples=4, region=region)
    rows, columns = np.nonzero(result.masks.any(axis=0))
    assert (columns.mean() + 0.5, rows.mean() + 0.5) == pytest.approx(region.center, abs=1.0)  # the toy's discs
    assert result.masks.shape == (4, *IMAGE.shape)


# --- maps and warnings ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("geometry", ["native", "resize"])
@pytest.mark.parametrize("classes", [("nodule",), ("core", "rim", "halo")])
def test_all_maps_follow_from_the_masks(geometry, classes):
    result = toy(geometry=geometry, classes=classes)(IMAGE, samples=6)
    several = () if len(classes) == 1 else (3,)
    assert result.masks.shape == (6, *several, *IMAGE.shape)
    assert (result.masks.dtype, result.confidence.dtype, result.entropy.dtype) == (bool, np.float32, np.float32)
    assert (result.confidence == (result.masks.sum(axis=0) / 6).astype(np.float32)).all()
    assert (result.consensus == (2 * result.masks.sum(axis=0) >= 6)).all()
    assert (result.entropy == uncertainty.entropy(result.confidence)).all()
    assert (result.areas == result.masks.sum(axis=(-2, -1))).all()
    assert result.areas.shape == (6, *several)
    per_class = result.masks.reshape(6, len(classes), *IMAGE.shape).swapaxes(0, 1)
    expected = [np.mean([iou(a, b) for a, b in combinations(masks, 2)]) for masks in per_class]
    np.testing.assert_allclose(result.mean_pairwise_iou, expected if several else expected[0])
    assert result.mean_pairwise_iou.shape == several
    assert result.mean_probability.shape == result.confidence.shape
    assert result.classes == classes
    assert set(result.timings_ms) == {"preprocess", "encode", "denoise", "decode", "aggregate"}


def test_classes_exclude_each_other():
    result = toy(classes=("core", "rim"))(IMAGE, samples=5)
    assert result.masks.any(axis=(0, 2, 3)).all()
    assert result.masks.sum(axis=1).max() == 1


@pytest.mark.parametrize(
    ("logits", "expected"),
    [
        ((0, 1, 2), [False, True]),
        ((0, 2, 1), [True, False]),
        ((2, 1, 0), [False, False]),
        ((0, 1, 1), [True, False]),  # of equals the first
        ((1, 1, -200), [False, False]),  # 1, 1 and 0 before they are divided, however a processor rounds
        ((2, 1.9, 1.9), [False, False]),  # the likeliest, though foreground is likelier than background
    ],
)
def test_the_likeliest_of_several_classes_wins(logits, expected):
    result = decoding(logits, classes=("core", "rim"), geometry="resize")(IMAGE, samples=1)
    assert result.masks[0].all(axis=(1, 2)).tolist() == result.masks[0].any(axis=(1, 2)).tolist() == expected


def test_the_probability_is_a_sigmoid_without_overflow():
    logits = np.array([-1e4, -2.0, 0.0, 0.5, 1e4], np.float32).reshape(5, 1, 1, 1)
    expected = [0.0, 1 / (1 + math.exp(2)), 0.5, 1 / (1 + math.exp(-0.5)), 1.0]
    assert foreground_probability(logits).ravel() == pytest.approx(expected, abs=1e-7)


def test_the_probability_of_several_classes_is_a_softmax_without_its_background():
    logits = np.array([[0.0, math.log(2), math.log(5)], [1e4, 0, 0], [0, 1e4, -1e4]], np.float32).reshape(3, 3, 1, 1)
    expected = [[2 / 8, 5 / 8], [0, 0], [1, 0]]
    np.testing.assert_allclose(foreground_probability(logits)[:, :, 0, 0], expected, atol=1e-6)


def test_the_threshold_is_of_the_probability():
    # The sigmoid of log 3 is 3/4.
    segmenter = decoding([math.log(3)], geometry="resize")
    assert segmenter(IMAGE, samples=2, threshold=0.74).masks.all()
    assert not segmenter(IMAGE, samples=2, threshold=0.76).masks.any()
    assert segmenter(IMAGE, samples=2).mean_probability == pytest.approx(0.75, abs=1e-6)
    single = toy()(IMAGE, samples=1, threshold=0.3)
    assert (single.masks[0] == (single.mean_probability > 0.3)).all()


def test_the_mean_probability_is_over_the_samples():
    few = [toy()(IMAGE, samples=n).mean_probability.astype(float) * n for n in (1, 2, 3)]
    assert (few[1] >= few[0] - 1e-6).all()  # sums
    both = toy()(IMAGE, samples=2)
    assert ((both.mean_probability >= 0) & (both.mean_probability <= 1)).all()
    np.testing.assert_allclose(few[2] - few[1], third_probability(), atol=1e-6)


def third_probability():
    """Return the probability of sample 2 alone, from the noise of that sample."""
    segmenter = toy()
    segmenter(IMAGE, samples=3)
    backend = segmenter.backend
    (logits,) = FakeBackend(segmenter.manifest).run("decoder", {"latent": backend.latents()[2:]})
    result = decoding(logits[0])(IMAGE, samples=1)
    return result.mean_probability


def test_outside_the_field_there_is_nothing():
    large = np.zeros((300, 400), np.uint8)
    result = decoding([9.0])(large, samples=2)
    box = result.placement.field
    assert (box.width, box.height) == (64, 64)
    assert result.areas.tolist() == [64 * 64] * 2
    assert result.masks[:, box.y : box.y + 64, box.x : box.x + 64].all()
    assert (result.mean_probability > 0).sum() == 64 * 64
    assert result.mean_pairwise_iou == 1.0


def test_empty_masks_give_a_warning():
    result = decoding([-9.0])(IMAGE, samples=4)
    assert not result.masks.any()
    assert result.mean_pairwise_iou == 1.0
    assert result.warnings == ("all 4 samples are empty: the model sees no nodule here",)
    assert toy()(IMAGE, samples=4).warnings == ()


@pytest.mark.parametrize(("marked", "warned"), [(1, True), (2, False), (4, False)])
def test_an_empty_consensus_of_samples_that_are_not_empty_gives_a_warning(marked, warned):
    result = decoding([[9.0]] * marked + [[-9.0]] * (4 - marked))(IMAGE, samples=4)
    assert result.consensus.any() == (not warned)
    said = "the consensus is empty, though 1 of 4 samples mark nodule (25%): look at the samples and the confidence"
    assert [warning.partition(" before")[0] for warning in result.warnings] == [said] * warned


def test_steps_that_the_model_was_not_tuned_for_give_a_warning():
    manifest = toy_manifest()
    tuned = replace(manifest, sampling=replace(manifest.sampling, steps=1, tuned=True))
    segmenter = Segmenter(tuned, FakeBackend(tuned))
    assert segmenter(IMAGE, samples=2).warnings == ()
    (warning,) = segmenter(IMAGE, samples=2, steps=4).warnings
    assert warning.startswith(
        "the model was tuned to draw in 1 step of euler: its published figures do not hold for 4 of euler"
    )
    assert len(segmenter(IMAGE, samples=2, sampler="dpmpp").warnings) == 1


@pytest.mark.parametrize(
    ("side", "pointed", "warned"),
    [
        (256, {}, False),
        (257, {}, True),
        (257, {"center": (200, 50)}, False),
        (257, {"region": Box(x=0, y=0, width=9, height=9)}, False),
    ],
)
def test_a_much_larger_image_without_a_point_gives_a_warning(side, pointed, warned):
    warnings = toy()(np.zeros((100, side), np.uint8), samples=1, **pointed).warnings
    assert any("saw only the 64x64 px" in warning for warning in warnings) == warned


def test_a_single_sample_has_no_agreement():
    assert math.isnan(toy()(IMAGE, samples=1).mean_pairwise_iou)


# --- refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        ({"samples": 0}, "Use 1 or more; 16 is usual."),
        ({"samples": -3}, "Use 1 or more; 16 is usual."),
        ({"samples": 10**9}, f"Use at most {(4 << 30) // IMAGE.size} samples."),
        ({"steps": 0}, "Use 1 to 1000 steps."),
        ({"steps": 1001}, "Use 1 to 1000 steps."),
        ({"seed": -1}, "Use 0 or more."),
        ({"threshold": 0.0}, "Use a number between 0 and 1, for example 0.5."),
        ({"threshold": 1.0}, "Use a number between 0 and 1, for example 0.5."),
        ({"threshold": math.nan}, "Use a number between 0 and 1, for example 0.5."),
        ({"sampler": "ddim"}, "Use one of: euler, dpmpp."),
        ({"sampler": ""}, "Use one of: euler, dpmpp."),
        ({"region": Box(x=0, y=0, width=121, height=3)}, "at most the image's width and height."),
    ],
    ids=str,
)
def test_arguments_out_of_range_are_refused_before_the_network_runs(arguments, remedy):
    segmenter = toy()
    with pytest.raises(ParameterError) as error:
        segmenter(IMAGE, **arguments)
    assert str(error.value).endswith(remedy)
    assert segmenter.backend.calls == []


@pytest.mark.parametrize(
    "image", [np.zeros(4), np.zeros((4, 4, 2)), np.full((8, 8), np.nan)], ids=["1-d", "2 channels", "NaN"]
)
def test_arrays_that_are_not_images_are_refused(image):
    with pytest.raises(ImageError, match=r"(Pass|Replace)"):
        toy()(image)


@pytest.mark.parametrize("max_batch", [0, 65])
def test_a_batch_beyond_what_the_graphs_allow_is_refused(max_batch):
    with pytest.raises(ParameterError, match="Use 1 to 64"):
        toy(max_batch=max_batch)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_are_an_error_not_a_mask(value):
    logits = np.zeros((1, 64, 64))
    logits[0, 5, 7] = value
    with pytest.raises(BackendError, match=r"fake returned NaN or infinite values from the decoder\. Try another"):
        decoding(logits)(IMAGE)
