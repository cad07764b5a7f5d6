"""A segmenter inside another program: threads, and memory that does not grow with the number of samples."""

import os
import subprocess
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from medseg_runtime import ParameterError, Segmenter
from medseg_runtime.result import accumulator
from medseg_runtime.result.accumulator import COMPARED
from medseg_runtime.testing import toy_manifest, toy_segmenter

IMAGE = np.random.default_rng(0).integers(0, 255, (97, 120), dtype=np.uint8)
MAPS = ("confidence", "consensus", "entropy", "mean_probability", "areas")


# --- threads -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shipped():
    pytest.importorskip("onnxruntime")
    return Segmenter.load(backend="onnxruntime", threads=1)


def test_clones_in_several_threads_give_the_same_masks(shipped):
    images = [np.roll(IMAGE, 7 * k, axis=1) for k in range(8)]
    expected = [shipped(image, samples=4, steps=2, seed=k) for k, image in enumerate(images)]

    def segment(k):
        return shipped.clone()(images[k], samples=4, steps=2, seed=k)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(segment, range(8)))
    for one, other in zip(found, expected, strict=True):
        assert (one.masks == other.masks).all()
        assert (one.mean_probability == other.mean_probability).all()
    assert any(result.masks.any() for result in found)


def test_a_clone_shares_manifest_settings_and_weights(shipped):
    shipped.max_batch = 5
    clone = shipped.clone()
    assert clone is not shipped
    assert (clone.manifest, clone.max_batch, clone.bundle_sha256) == (shipped.manifest, 5, shipped.bundle_sha256)
    tracemalloc.start()
    shipped.clone()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


def test_several_streams_at_once(shipped):
    images = [np.roll(IMAGE, 11 * k, axis=0) for k in range(3)]
    expected = [shipped(image, samples=2, steps=1).masks for image in images]
    for outcomes in zip(*(shipped.stream(images, samples=2, steps=1) for _ in range(2)), strict=True):
        for outcome in outcomes:
            (number,) = (k for k, image in enumerate(images) if image is outcome.item)
            assert (outcome.result().masks == expected[number]).all()


# --- memory ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("geometry", ["native", "resize"])
@pytest.mark.parametrize("classes", [("nodule",), ("core", "rim")])
def test_without_masks_everything_else_is_the_same(geometry, classes):
    segmenter = toy_segmenter(toy_manifest(geometry=geometry, classes=classes))
    kept, forgotten = (segmenter(IMAGE, samples=20, keep_masks=keep) for keep in (True, False))
    for name in MAPS:
        assert (getattr(kept, name) == getattr(forgotten, name)).all(), name
    assert (kept.mean_pairwise_iou == forgotten.mean_pairwise_iou).all()
    assert (kept.samples, kept.standard_error, kept.warnings) == (
        forgotten.samples,
        forgotten.standard_error,
        forgotten.warnings,
    )
    with pytest.raises(ParameterError, match="keep_masks=True"):
        _ = forgotten.masks


@pytest.mark.parametrize("max_batch", [64, 7])
def test_without_masks_the_first_64_are_compared(max_batch):
    segmenter = toy_segmenter()
    segmenter.max_batch = max_batch
    many, first = segmenter(IMAGE, samples=100, keep_masks=False), segmenter(IMAGE, samples=COMPARED)
    assert many.mean_pairwise_iou == first.mean_pairwise_iou
    assert segmenter(IMAGE, samples=100).mean_pairwise_iou != first.mean_pairwise_iou


def peak_bytes(samples, **options):
    """Return the most that numpy and Python held at once during a call."""
    segmenter = toy_segmenter(toy_manifest(geometry="resize"))
    image = np.zeros((120, 150), np.uint8)
    segmenter(image, samples=2)  # what is made once
    tracemalloc.start()
    segmenter(image, samples=samples, steps=1, **options)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def test_hundreds_of_samples_take_the_memory_of_one_batch():
    batch, hundreds = peak_bytes(64, keep_masks=False), peak_bytes(400, keep_masks=False)
    assert hundreds < batch + (1 << 19)  # kept, they would be 7 MB


def test_kept_masks_add_their_own_size_and_little_more():
    few, many = peak_bytes(64), peak_bytes(128)
    masks = 64 * 120 * 150
    assert masks <= many - few < 2 * masks


def test_photographs_are_worked_on_sample_by_sample(monkeypatch):
    segmenter = toy_segmenter(toy_manifest(geometry="resize", classes=("core", "rim")))
    whole = segmenter(IMAGE, samples=9)
    monkeypatch.setattr(accumulator, "CHUNK", 1)
    one_by_one = segmenter(IMAGE, samples=9)
    assert (whole.masks == one_by_one.masks).all()
    for name in MAPS:
        assert (getattr(whole, name) == getattr(one_by_one, name)).all(), name


def test_a_call_wakes_no_thread_of_numpy():
    # a matrix product of NumPy's wakes threads that then spin for tens of milliseconds, where the next networks would compute
    code = """
import os, time
from pathlib import Path
import numpy as np
from medseg_runtime.testing import toy_segmenter
segmenter, image = toy_segmenter(), np.zeros((97, 120), np.uint8)

def switches():
    "How often each other thread went to sleep, once all of them do."
    while True:
        found = {}
        for thread in Path("/proc/self/task").iterdir():
            if int(thread.name) != os.getpid():
                state = dict(line.split(":", 1) for line in (thread / "status").read_text().splitlines())
                found[thread.name] = state["State"].split()[0], int(state["voluntary_ctxt_switches"])
        if all(state == "S" for state, _ in found.values()):
            return found
        time.sleep(0.01)  # NumPy's threads also spin after they were made

asleep = switches()
segmenter(image, samples=64)
print(len(asleep), switches() == asleep)
"""
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    environment["OPENBLAS_NUM_THREADS"] = "2"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "True"]


def test_a_result_names_its_backend():
    result = toy_segmenter()(IMAGE, samples=3)
    assert (result.samples, str(result.provenance.backend), result.provenance.backend.precision) == (
        3,
        "fake 0",
        "float32",
    )
