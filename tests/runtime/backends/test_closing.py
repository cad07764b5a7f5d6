"""Closing a backend or a clone, on every backend: which calls go on, and the one error of those that do not."""

import gc
import threading
import time
import weakref

import numpy as np
import pytest

from medseg_runtime.backends.opening import open_backend
from medseg_runtime.backends.registry import installed
from medseg_runtime.errors import BackendError
from medseg_runtime.model.bundle import Bundle
from medseg_runtime.model.sampler import sampler_table, time_features

CLOSED = r"^the \w+ backend is closed\. Load the bundle again\.$"


def cuda_backend_on_the_cpu(bundle):
    pytest.importorskip("onnxruntime")
    from medseg_runtime.backends.gpu.onnxruntime.backend import CudaBackend, Device

    on_cpu = type("OnTheCpu", (CudaBackend,), {"device": Device(provider="CPUExecutionProvider", memory="cpu")})
    return on_cpu(bundle)


@pytest.fixture(params=["onnxruntime", "openvino", "cuda", "tensorrt"])
def backend(request, tiny, tiny_bundle, tmp_path):
    if request.param == "cuda":
        opened = cuda_backend_on_the_cpu(tiny_bundle)
    elif request.param == "tensorrt":
        request.getfixturevalue("machine")
        folder = request.getfixturevalue("write_engines")(tiny.write_bundle(tmp_path))
        opened = request.getfixturevalue("tensorrt_backend").TensorRtBackend(Bundle.load(folder))
    elif installed(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    else:
        opened = open_backend(request.param, tiny_bundle, precision="float32")
    yield opened
    opened.close()


FIELD, NOISE = np.full((1, 1, 8, 8), 0.5, np.float32), np.ones((3, 2, 4, 4), np.float32)


def sample(backend, manifest, condition):
    table = sampler_table(manifest.path, "euler", 3)
    features = time_features(table.t, manifest.time_features)
    return backend.decode(backend.denoise(condition, NOISE, table, features, lambda: NOISE))


def draw(backend, manifest):
    return sample(backend, manifest, backend.encode(FIELD))


def calls(backend, manifest, condition):
    """Return every call of a backend, with its arguments."""
    return (
        lambda: backend.encode(FIELD),
        lambda: sample(backend, manifest, condition),
        lambda: backend.decode(NOISE),
        backend.clone,
    )


@pytest.mark.parametrize("used", [False, True], ids=["unused", "used"])
def test_a_closed_backend_and_its_clones_refuse_every_call(backend, tiny_bundle, used):
    manifest, clone, condition = tiny_bundle.manifest, backend.clone(), backend.encode(FIELD)
    for each in (backend, clone) if used else ():
        draw(each, manifest)
    backend.close()
    for closed in (backend, clone, backend):
        for call in calls(closed, manifest, condition):
            with pytest.raises(BackendError, match=CLOSED):
                call()
        closed.close()  # once more does nothing


def test_closing_a_clone_leaves_the_others_open(backend, tiny_bundle):
    manifest, condition = tiny_bundle.manifest, backend.encode(FIELD)
    expected = draw(backend, manifest)
    first, second = backend.clone(), backend.clone()
    third = first.clone()
    first.close()
    for call in calls(first, manifest, condition):
        with pytest.raises(BackendError, match=CLOSED):
            call()
    first.close()
    for still_open in (backend, second, third, second.clone()):
        np.testing.assert_array_equal(draw(still_open, manifest), expected)


def test_a_backend_that_is_closed_while_others_draw_ends_them_with_the_one_error(backend, tiny_bundle):
    if backend.name == "tensorrt":
        pytest.skip("the GPU in numpy serves one thread; see test_tensorrt.py")
    manifest = tiny_bundle.manifest
    expected = draw(backend, manifest)
    clones, outcomes, started = [backend.clone() for _ in range(3)], [], threading.Barrier(4)

    def run(clone):
        started.wait()
        try:
            while True:
                outcomes.append(np.array_equal(draw(clone, manifest), expected))
        except BackendError as error:
            outcomes.append(str(error))

    threads = [threading.Thread(target=run, args=[clone]) for clone in clones]
    for thread in threads:
        thread.start()
    started.wait()
    while len(outcomes) < 9:
        time.sleep(0.001)
    backend.close()
    for thread in threads:
        thread.join()
    errors = [outcome for outcome in outcomes if isinstance(outcome, str)]
    assert len(errors) == 3
    assert {error.partition("backend")[2] for error in errors} == {" is closed. Load the bundle again."}
    assert all(outcome is True for outcome in outcomes if not isinstance(outcome, str))


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_what_nobody_refers_to_is_freed_at_once(name, tiny_bundle):
    """Whoever loads again and again without closing must not wait for Python to look for circles."""
    if installed(name) is None:
        pytest.skip(f"{name} is not installed")
    gc.disable()
    try:
        opened = open_backend(name, tiny_bundle, precision="float32")
        draw(opened, tiny_bundle.manifest)
        alive = weakref.ref(opened)
        del opened
        assert alive() is None
    finally:
        gc.enable()
