"""Two threads and the caller: order, bounds, errors in their place, and nothing left behind."""

import threading

import numpy as np
import pytest
from PIL import Image

from medseg_runtime import ImageError, Outcome, ParameterError, pipeline
from medseg_runtime.testing import toy_segmenter

IMAGES = [np.full((70, 80), grey, np.uint8) for grey in range(6)]


def run(items, read=lambda item: item, compute=lambda value: value, ahead=2):
    return pipeline.pipeline(items, read, compute, ahead=ahead)


def threads_of_ours():
    return [thread for thread in threading.enumerate() if thread.name.startswith("medseg-")]


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert threads_of_ours() == []


def test_everything_comes_out_in_order():
    found = list(run(range(50), lambda n: n + 0.5, str))
    assert found == [Outcome(n, f"{n}.5") for n in range(50)]
    assert list(run([])) == []


def test_an_item_that_fails_comes_out_as_its_error_and_the_others_go_on():
    def read(n):
        if n == 1:
            raise ImageError("no image", "Give one.")
        return n

    def compute(n):
        if n == 2:
            raise MemoryError
        return -n

    found = list(run(range(4), read, compute))
    assert [outcome.value for outcome in found] == [0, None, None, -3]
    assert [type(outcome.error) for outcome in found] == [type(None), ImageError, MemoryError, type(None)]
    assert found[3].result() == -3
    with pytest.raises(ImageError, match="Give one"):
        found[1].result()


@pytest.mark.parametrize("where", ["items", "read", "compute"])
def test_a_defect_is_raised(where):
    def fail_at_two(n, here):
        if n == 2 and here == where:
            raise ZeroDivisionError
        return n

    items = (fail_at_two(n, "items") for n in range(4))
    with pytest.raises(ZeroDivisionError):
        list(run(items, lambda n: fail_at_two(n, "read"), lambda n: fail_at_two(n, "compute")))


def test_results_before_a_defect_are_not_lost():
    outcomes = run([1, 2, 0], lambda n: 1 / n)
    assert [next(outcomes).value, next(outcomes).value] == [1.0, 0.5]
    with pytest.raises(ZeroDivisionError):
        next(outcomes)


def test_only_so_many_are_read_ahead():
    taken = []

    def endless():
        n = 0
        while True:
            taken.append(n)
            yield n
            n += 1

    entered, go_on = threading.Event(), threading.Event()

    def compute(n):
        entered.set()
        go_on.wait()
        return n

    outcomes = run(endless(), compute=compute, ahead=3)
    consumer = threading.Thread(target=lambda: next(outcomes))
    consumer.start()
    entered.wait()
    while len(taken) < 5:  # one is computed, three wait, and the reader holds one
        pass
    assert len(taken) == 5
    go_on.set()
    consumer.join()
    outcomes.close()
    assert len(taken) < 20


def test_reading_and_computing_go_on_beside_the_caller():
    # Each stage waits until the next has begun with the item before: one thread alone would wait for ever.
    computed, taken = threading.Event(), threading.Event()

    def read(n):
        return n if n == 0 else (computed.wait(), n)[1]

    def compute(n):
        computed.set()
        return n if n == 0 else (taken.wait(), n)[1]

    outcomes = run(range(2), read, compute)
    assert next(outcomes).value == 0
    taken.set()
    assert next(outcomes).value == 1
    assert list(outcomes) == []


def test_leaving_the_loop_ends_the_threads():
    for outcome in run(iter(int, 1)):
        assert outcome.value == 0
        break
    del outcome


# --- Segmenter.stream --------------------------------------------------------------------------------------------------


def test_a_stream_gives_what_calls_give(tmp_path):
    segmenter = toy_segmenter()
    Image.fromarray(IMAGES[1]).save(tmp_path / "image.png")
    images = [IMAGES[0], tmp_path / "image.png", str(tmp_path / "image.png"), *IMAGES[2:]]
    outcomes = list(segmenter.stream(iter(images), samples=5, seed=3, center=(20, 30)))
    assert all(outcome.item is image for outcome, image in zip(outcomes, images, strict=True))
    for outcome in outcomes:
        expected = segmenter(outcome.item, samples=5, seed=3, center=(20, 30))
        assert (outcome.result().masks == expected.masks).all()
        assert set(outcome.result().timings_ms) == set(expected.timings_ms)


def test_one_bad_image_of_a_stream_does_not_lose_the_others(tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    found = list(toy_segmenter().stream([IMAGES[0], tmp_path / "bad.png", tmp_path / "none.png", IMAGES[1]], samples=2))
    assert [outcome.error is None for outcome in found] == [True, False, False, True]
    with pytest.raises(ImageError):
        found[1].result()


def test_arguments_of_a_stream_are_refused_at_once():
    with pytest.raises(ParameterError, match="Use 1 or more"):
        toy_segmenter().stream([], samples=0)


def test_a_stream_leaves_the_segmenter_to_its_caller():
    segmenter = toy_segmenter()
    list(segmenter.stream(IMAGES, samples=2))
    assert segmenter.backend.calls == []
