"""Too few threads and too little memory are named as the reason, and nothing else is."""

import errno
import sys

import numpy as np
import pytest

from medseg_runtime import BackendError
from medseg_runtime.backends import registry
from medseg_runtime.backends.registry import check_room, load_backend
from medseg_runtime.commands import infer as infer_command
from medseg_runtime.commands import preparation
from medseg_runtime.machine import shortage as module
from medseg_runtime.machine.shortage import NO_DESCRIPTORS, NO_MEMORY, NO_THREADS, shortage
from medseg_runtime.model.bundle import Bundle
from medseg_runtime.testing import toy_segmenter

IMAGE = np.zeros((40, 40), np.uint8)
PIDS = RuntimeError("can't start new thread")
MAPPING = ImportError("libonnxruntime.so: failed to map segment from shared object")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (PIDS, NO_THREADS),
        (RuntimeError("env.cc:327 PosixThread::PosixThread(...) pthread_create failed, error code: 11"), NO_THREADS),
        (RuntimeError("Exception from src/plugin.cpp:54: Resource temporarily unavailable"), NO_THREADS),
        (MemoryError(), NO_MEMORY),
        (RuntimeError("Exception during initialization: std::bad_alloc"), NO_MEMORY),
        (RuntimeError("Exception from src/plugin.cpp:54: can't alloc"), NO_MEMORY),
        (MAPPING, NO_MEMORY),
        (OSError(errno.EMFILE, "Too many open files"), NO_DESCRIPTORS),
        (RuntimeError("Invalid protobuf"), None),
        (ModuleNotFoundError("No module named 'onnxruntime'"), None),
    ],
)
def test_what_libraries_say(error, expected, monkeypatch):
    monkeypatch.setattr(module, "available_bytes", lambda: 1 << 30)
    assert shortage(error) == expected
    monkeypatch.setattr(module, "available_bytes", lambda: 1 << 20)
    assert shortage(error) == (expected or NO_MEMORY)


def test_a_library_that_cannot_be_mapped_is_not_called_missing(monkeypatch):
    def failing(_):
        raise MAPPING

    monkeypatch.setattr(registry, "import_module", failing)
    with pytest.raises(BackendError, match="cannot be imported: there is not enough memory"):
        load_backend("onnxruntime", Bundle.load(), precision="auto")


def test_a_library_that_is_missing_is_called_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "medseg_runtime.backends.onnxruntime_cpu", None)
    with pytest.raises(BackendError, match=r"onnxruntime is not installed\. Run `pip install"):
        load_backend("onnxruntime", Bundle.load(), precision="auto")


def test_a_model_that_does_not_fit_into_memory_is_not_loaded(monkeypatch):
    monkeypatch.setattr(registry, "available_bytes", lambda: 140 << 20)
    check_room(20 << 20)
    with pytest.raises(BackendError, match="needs about 216 MiB of memory, and 140 are free"):
        check_room(40 << 20)


@pytest.mark.parametrize("allowed", [0, 1])
def test_with_few_threads_a_stream_goes_on(monkeypatch, allowed):
    from threading import Thread

    from medseg_runtime.inference import workers

    started = []

    class Limited(Thread):
        def start(self):
            if len(started) >= allowed:
                raise PIDS
            started.append(self)
            super().start()

    monkeypatch.setattr(workers, "Thread", Limited)
    with toy_segmenter() as segmenter:
        found = [outcome.result().samples for outcome in segmenter.stream([IMAGE] * 5, samples=2)]
    assert found == [2] * 5
    assert len(started) == allowed


def test_a_folder_is_flushed_without_threads(monkeypatch, tmp_path):
    from medseg_runtime.files import publish

    def refused(_):
        raise PIDS

    monkeypatch.setattr(publish.Thread, "start", refused)
    toy_segmenter()(IMAGE, samples=2).save(tmp_path / "out")
    assert (tmp_path / "out" / "result.json").is_file()


@pytest.mark.parametrize("error", [PIDS, MAPPING, MemoryError(), OSError(errno.EMFILE, "Too many open files")])
def test_a_command_says_it_in_one_line(run_command, tmp_path, monkeypatch, error):
    def failing(*_, **__):
        raise error

    monkeypatch.setattr(preparation, "plan_jobs", failing)
    code, out, err = run_command(infer_command.main, "medseg-infer", tmp_path / "image.png")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("medseg-infer: error: ")
    assert "limit of" in err
