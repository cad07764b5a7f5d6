"""Threads that share one segmenter: each gets the masks of its own image, and what cannot be shared is refused."""

import copy
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from medseg_runtime import BackendError, SampleRequest, Segmenter
from medseg_runtime.testing import toy_segmenter

CALLS = 20
"""Per case, from four threads at once. Before calls took turns, one in eight returned another image's masks."""


def disc(radius):
    rows, columns = np.mgrid[:80, :72]
    return (40 + 160 * (np.hypot(rows - 40, columns - 36) < radius)).astype(np.uint8)


IMAGES = [disc(radius) for radius in range(4, 12)]


@pytest.mark.parametrize(("samples", "steps"), [(1, 1), (1, 3), (4, 1)])
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_threads_that_share_a_segmenter_get_their_own_masks(backend, samples, steps):
    pytest.importorskip(backend)
    with Segmenter.load(backend=backend, precision="float32", threads=1) as segmenter:
        request = SampleRequest(samples=samples, steps=steps)
        expected = [segmenter.segment(image, request).mean_probability for image in IMAGES]
        assert len({each.tobytes() for each in expected}) == len(IMAGES)
        start = threading.Barrier(4)

        def call(number):
            if number < 4:
                start.wait()
            return segmenter.segment(IMAGES[number % len(IMAGES)], request).mean_probability

        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(call, range(CALLS)))
    wrong = [k for k, each in enumerate(found) if not np.array_equal(each, expected[k % len(IMAGES)])]
    assert wrong == []


def test_a_stream_clones_and_direct_calls_at_once_get_their_own_masks():
    pytest.importorskip("onnxruntime")
    with Segmenter.load(backend="onnxruntime", threads=1) as segmenter:
        expected = [segmenter(image, samples=1).mean_probability for image in IMAGES]

        def direct(of):
            return [of(image, samples=1).mean_probability for image in IMAGES]

        def streamed(of):
            return [outcome.result().mean_probability for outcome in of.stream(IMAGES, samples=1)]

        jobs = [(direct, segmenter), (streamed, segmenter), (direct, segmenter.clone()), (streamed, segmenter)]
        with ThreadPoolExecutor(len(jobs)) as pool:
            for found in pool.map(lambda job: job[0](job[1]), jobs):
                for one, other in zip(found, expected, strict=True):
                    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("attempt", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_segmenter_cannot_be_pickled_or_copied(attempt):
    with pytest.raises(BackendError, match=r"cannot be pickled or copied.*clone\(\).*Segmenter.load\(\)"):
        attempt(toy_segmenter())


def test_a_result_can_be_pickled_and_saved_elsewhere(tmp_path):
    result = toy_segmenter()(IMAGES[0], samples=3)
    again = pickle.loads(pickle.dumps(result))  # noqa: S301 - our own bytes
    np.testing.assert_array_equal(again.masks, result.masks)
    assert (again.provenance, again.request) == (result.provenance, result.request)
    again.save(tmp_path / "out")
    assert (tmp_path / "out" / "overlay.png").exists()


def test_a_closed_segmenter_says_so(tmp_path):
    with toy_segmenter() as segmenter:
        clone = segmenter.clone()
        result = segmenter(IMAGES[0], samples=2)
    for call in (lambda: segmenter(IMAGES[0]), segmenter.clone, lambda: next(segmenter.stream(IMAGES))):
        with pytest.raises(BackendError, match=r"closed.*Segmenter.load\(\)"):
            call()
    segmenter.close()  # again
    assert clone(IMAGES[0], samples=2).masks.shape == result.masks.shape  # the toy's clones share nothing
    result.save(tmp_path / "after")
