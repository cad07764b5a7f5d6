"""Workers and the caller: order, bounds, errors in their place, and no threads left."""

import gc
import itertools
import subprocess
import sys
import threading
import time
import weakref
from contextlib import contextmanager, suppress

import numpy as np
import pytest
from PIL import Image

from medseg_runtime import ImageError, Outcome, ParameterError
from medseg_runtime.inference.workers import Turns, run_workers
from medseg_runtime.testing import toy_segmenter

HANG_S = 200
"""Ends a test that waits for what never comes; no slow machine takes so long."""
IMAGES = [np.full((70, 80), grey, np.uint8) for grey in range(6)]


def run(items, work=lambda item: item, workers=2, ahead=3):
    return run_workers(items, [work] * workers, ahead=ahead)


def threads_of_ours():
    return [thread for thread in threading.enumerate() if thread.name.startswith("medseg-")]


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert threads_of_ours() == []


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_everything_comes_out_in_order(workers):
    def work(n):
        time.sleep(0.002 * (n % 3))
        return str(n)

    assert list(run(range(50), work, workers, ahead=7)) == [Outcome(n, str(n)) for n in range(50)]
    assert list(run([], work, workers)) == []


def test_an_item_that_fails_comes_out_as_its_error_and_the_others_go_on():
    def work(n):
        if n == 1:
            raise ImageError("no image", "Give one.")
        if n == 2:
            raise MemoryError
        return -n

    found = list(run(range(4), work))
    assert [outcome.value for outcome in found] == [0, None, None, -3]
    assert [type(outcome.error) for outcome in found] == [type(None), ImageError, MemoryError, type(None)]
    assert found[3].result() == -3
    with pytest.raises(ImageError, match="Give one"):
        found[1].result()


@pytest.mark.parametrize("where", ["items", "work"])
def test_a_defect_is_raised(where):
    def fail_at_two(n, here):
        if n == 2 and here == where:
            raise ZeroDivisionError
        return n

    items = (fail_at_two(n, "items") for n in range(4))
    with pytest.raises(ZeroDivisionError):
        list(run(items, lambda n: fail_at_two(n, "work")))


@pytest.mark.parametrize("workers", [1, 2])
def test_results_before_a_defect_are_not_lost(workers):
    outcomes = run([1, 2, 0], lambda n: 1 / n, workers)
    assert [next(outcomes).value, next(outcomes).value] == [1.0, 0.5]
    with pytest.raises(ZeroDivisionError):
        next(outcomes)


def test_the_number_of_started_items_is_bounded():
    begun, asked, most = itertools.count(1), 0, []

    def endless():
        for number in begun:
            most.append(number - asked)
            yield number

    outcomes = run(endless(), ahead=3)
    for expected in range(1, 101):
        asked = expected
        assert next(outcomes).value == expected
        while len(most) < expected + 3:  # three more are begun, and then none
            time.sleep(0.0001)
    outcomes.close()
    assert max(most) == 3
    assert len(most) == 103


def test_workers_run_side_by_side_and_beside_the_caller():
    # Each waits for the others: fewer threads than three would wait for ever.
    together, taken = threading.Barrier(2, timeout=HANG_S), threading.Event()

    def work(n):
        if n < 2:
            together.wait()
        else:
            assert taken.wait(HANG_S)
        return n

    outcomes = run(range(3), work, ahead=5)
    assert next(outcomes).value == 0
    taken.set()
    assert [outcome.value for outcome in outcomes] == [1, 2]


def test_leaving_the_loop_ends_the_threads():
    for outcome in run(iter(int, 1)):
        assert outcome.value == 0
        break
    del outcome


def test_turns_are_in_the_order_of_the_items_however_they_end():
    turns, ended = Turns(), []

    def work(n):
        with turns.ended(n), at_the_end(lambda: ended.append(n)), turns.awaited(n):
            time.sleep(0.002 * (5 - n % 6))
            if n % 4 == 1:
                raise MemoryError

    assert len(list(run(range(40), work, workers=4, ahead=8))) == 40
    assert ended == list(range(40))


@contextmanager
def at_the_end(act):
    try:
        yield
    finally:
        act()


# --- Segmenter.stream --------------------------------------------------------------------------------------------------


def test_a_stream_gives_the_results_of_single_calls(tmp_path):
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


def test_the_caller_may_use_the_segmenter_during_a_stream():
    segmenter = toy_segmenter()
    list(segmenter.stream(IMAGES, samples=2))
    assert segmenter.backend.calls == []


AT_THE_END = """
import os, time
from medseg_runtime.inference.workers import run_workers

def work(number):
    time.sleep(0.3 * number)
    os.write(1, b"%d " % number)
    return number

outcomes = run_workers([0, 1], [work, work], ahead=2)
next(outcomes)
HOW
"""


@pytest.mark.parametrize("how", ["", "raise RuntimeError"])
def test_a_program_may_exit_with_an_open_stream(how):
    """Work in progress is finished: killing native code would abort the process."""
    code = AT_THE_END.replace("HOW", how)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (int(bool(how)), "0 1 ")


def test_a_kept_error_does_not_keep_the_image():
    class Content:
        pass

    seen = []

    def work(_):
        content = Content()
        seen.append(weakref.ref(content))
        try:
            raise ValueError("in a library")
        except ValueError as error:
            raise ImageError("no image", "Give one.") from error

    kept = list(run(range(3), work))
    gc.collect()
    assert [content() for content in seen] == [None, None, None]
    assert all("in a library" in str(outcome.error.__cause__) for outcome in kept)


# --- a source that does not return --------------------------------------------------------------------------------------


@contextmanager
def waiting_source(given):
    """Items, and then none until the block ends: (items, event that is set when a thread waits in it)."""
    asked, released = threading.Event(), threading.Event()

    def items():
        yield from range(given)
        asked.set()
        released.wait(HANG_S)
        yield given

    try:
        yield items(), asked
    finally:
        released.set()
        for thread in threads_of_ours():
            thread.join(HANG_S)


def leave_by_break(outcomes):
    for _ in outcomes:
        break


def leave_by_error(outcomes):
    with suppress(ZeroDivisionError):
        for _ in outcomes:
            raise ZeroDivisionError


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("leave", [leave_by_break, leave_by_error, next])
def test_leaving_does_not_wait_for_the_source(monkeypatch, workers, leave):
    monkeypatch.setattr("medseg_runtime.inference.workers.SOURCE_SECONDS", 0.05)
    with waiting_source(1) as (items, asked):
        outcomes = run(items, workers=workers)
        leave(outcomes)
        assert asked.wait(HANG_S)
        outcomes.close()
        assert len(threads_of_ours()) == 1  # in the source; the others have ended


def test_an_item_that_comes_after_the_end_is_dropped(monkeypatch):
    monkeypatch.setattr("medseg_runtime.inference.workers.SOURCE_SECONDS", 0.05)
    worked = []
    with waiting_source(1) as (items, asked):
        outcomes = run(items, worked.append, workers=1)
        next(outcomes)
        assert asked.wait(HANG_S)
        outcomes.close()
    assert worked == [0]


def test_a_process_ends_although_a_source_waits():
    code = """
import queue
from medseg_runtime.inference.workers import run_workers
waiting = queue.Queue()
waiting.put(1)
outcomes = run_workers(iter(waiting.get, None), [abs, abs], ahead=2)
assert next(outcomes).value == 1
print("done")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=HANG_S, check=True)
    assert (done.stdout, done.stderr) == ("done\n", "")
