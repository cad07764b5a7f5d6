"""The TensorRT backend on a GPU in numpy that enforces NVIDIA's rules; `fake_nvidia.py` says how."""

import gc
import threading

import numpy as np
import pytest

pytest.importorskip("cuda.bindings.runtime")
pytest.importorskip("tensorrt_rtx")

from medseg_runtime import Segmenter
from medseg_runtime.backends.gpu.tensorrt.engine_files import Profile
from medseg_runtime.errors import BackendError
from medseg_runtime.model.sampler import sampler_table, time_features

IMAGES = np.random.default_rng(0).integers(0, 255, (4, 11, 9), dtype=np.uint8)
WIDE, STATIC = Profile(min=1, opt=4, max=16), Profile(min=3, opt=3, max=3)


def test_more_samples_than_a_batch_encode_the_image_once(machine, tiny, load, same):
    segmenter = load(max_batch=4)
    reference = Segmenter(segmenter.manifest, tiny.Numpy())
    for seed in range(3):
        start = len(machine.calls)
        arguments = {"samples": 10, "steps": 2, "seed": seed}
        same(segmenter(IMAGES[seed], **arguments), reference(IMAGES[seed], **arguments))
        if seed == 0:
            assert machine.calls[start:].count("execute_async_v3") == 1 + 3 * (2 + 1)


@pytest.mark.parametrize("profiles", [(STATIC, WIDE), (WIDE, STATIC)])
def test_a_static_profile_is_taken_where_one_fits(tiny, load, profiles, same):
    segmenter = load(profiles=profiles)
    reference = Segmenter(segmenter.manifest, tiny.Numpy())
    taken = []
    original = type(segmenter.backend._shared.engines).context

    def spy(self, graph, profile, stream):
        taken.append((graph, profile))
        return original(self, graph, profile, stream)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(segmenter.backend._shared.engines), "context", spy)
        for samples in (3, 4):
            arguments = {"samples": samples, "steps": 2}
            same(segmenter(IMAGES[0], **arguments), reference(IMAGES[0], **arguments))
    static = profiles.index(STATIC)
    profiles_taken = [profile for graph, profile in taken if graph != "encoder"]
    assert profiles_taken == [static, static, 1 - static, 1 - static]
    assert [profile for graph, profile in taken if graph == "encoder"] == [0, 0]


def test_what_was_noted_can_be_decoded_in_any_order_and_twice(tiny, load):
    segmenter = load()
    backend, manifest = segmenter.backend, segmenter.manifest
    table = sampler_table(manifest.path, "dpmpp", 3)
    features = time_features(table.t, manifest.time_features)
    rng = np.random.default_rng(5)
    fields = rng.random((2, 1, 1, 8, 8), np.float32)
    noises = rng.standard_normal((2, 3, 2, 4, 4)).astype(np.float32)

    def noted(engine):
        latents = [
            engine.denoise(engine.encode(field), noise, table, features, list)
            for field, noise in zip(fields, noises, strict=True)
        ]
        return [engine.decode(latents[k]) for k in (1, 0, 0, 1)]

    for found, expected in zip(noted(backend), noted(tiny.Numpy()), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_clones_draw_side_by_side_on_streams_of_their_own(machine, tiny, load, same):
    first = load()
    reference = Segmenter(first.manifest, tiny.Numpy())
    segmenters = [Segmenter(first.manifest, first.backend.clone()) for _ in range(3)]
    assert machine.held()["streams"] == 4
    assert machine.held()["engines"] == 3
    # queued on one stream while another still has work: their scratch memory must not be shared
    for segmenter in segmenters:
        segmenter(IMAGES[0], samples=4, steps=2)
    latents = [s.backend.denoise(s.backend.encode(np.ones((1, 1, 8, 8), np.float32)), *_given(s)) for s in segmenters]
    for segmenter, each in zip(segmenters, latents, strict=True):
        segmenter.backend._stream._prepared(each)._queue_all()
    for segmenter in segmenters:
        segmenter.backend._stream._stream.wait()
    for k, segmenter in enumerate(segmenters):
        same(*(s(IMAGES[k], samples=4, steps=3, seed=k) for s in (segmenter, reference)))
    segmenters[0].backend.close()
    same(*(s(IMAGES[1], samples=4, steps=3) for s in (segmenters[1], reference)))
    del segmenter, segmenters
    gc.collect()
    assert machine.held()["streams"] == 1  # forgotten clones are freed
    same(*(s(IMAGES[1], samples=4, steps=3) for s in (first, reference)))


def _given(segmenter):
    table = sampler_table(segmenter.manifest.path, "euler", 2)
    noise = np.ones((4, 2, 4, 4), np.float32)
    return noise, table, time_features(table.t, segmenter.manifest.time_features), lambda: noise


def test_closing_waits_for_a_running_call(machine, load):
    segmenter = load("epsilon")
    backend, noise = segmenter.backend, np.ones((4, 2, 4, 4), np.float32)
    table = sampler_table(segmenter.manifest.path, "ddpm", 3)
    closing = threading.Thread(target=backend.close)

    def fresh():
        if not closing.is_alive():
            closing.start()
            closing.join(0.1)
        assert closing.is_alive()
        return noise

    condition = backend.encode(np.ones((1, 1, 8, 8), np.float32))
    features = time_features(table.t, segmenter.manifest.time_features)
    latents = backend.denoise(condition, noise, table, features, fresh)
    assert np.isfinite(latents).all()
    closing.join()
    assert machine.held() == {}


def test_closing_frees_everything_and_ends_all_clones(machine, load):
    segmenter = load()
    clone = segmenter.backend.clone()
    for seed in (0, 1):
        segmenter(IMAGES[0], samples=4, seed=seed)
    assert machine.held()["executables"] == 1
    segmenter.backend.close()
    segmenter.backend.close()
    assert machine.held() == {}
    with pytest.raises(BackendError, match=r"closed\. Load the bundle again"):
        Segmenter(segmenter.manifest, clone)(IMAGES[0])


def test_what_the_caller_does_with_his_arrays_later_changes_nothing(tiny, load):
    segmenter = load()
    noise, table, features, fresh = _given(segmenter)
    image = np.full((1, 1, 8, 8), 0.5, np.float32)

    def noted(engine):
        return engine.denoise(engine.encode(image), noise, table, features, fresh)

    expected, latents = tiny.Numpy().decode(noted(tiny.Numpy())), noted(segmenter.backend)
    image[:], noise[:] = 0.0, 0.0
    np.testing.assert_array_equal(segmenter.backend.decode(latents), expected)
