"""A worker: a process that loads the model, and segments one job after the other.

It reads a JSON line for each job from stdin and answers with one on stdout. When stdin ends, the node is gone, and so is the worker,
in the middle of whatever it does: the node that starts next gives the job to another.

    {"order": {...}, "series": "...", "out": "..."}   =>   {"outputs": {...}, ...}  or  {"failed": {...}, "permanent": true}
"""

from __future__ import annotations

import json
import logging
import os
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any, TextIO

from medseg_runtime.errors import BundleError, ImageError, ParameterError
from medseg_runtime.inference.segmenter import Segmenter
from medseg_service.node.config import Model, NodeConfig
from medseg_service.node.failure import reason_of
from medseg_service.node.job import Order
from medseg_service.node.segmentation import segment
from medseg_service.toml_file import read_toml

PERMANENT = (ImageError, ParameterError, BundleError)
"""Errors that the next attempt would have too."""


def main() -> None:
    """Run a worker: python -m medseg_service.node.worker CONFIG."""
    answers = _own_stdout()
    logging.disable()  # log lines and warnings of libraries may quote a data set
    _be_the_first_to_go()
    os.umask(0o077)
    model = read_toml(Path(sys.argv[1]), NodeConfig).model
    try:
        segmenter = load(model)
    except Exception as error:  # noqa: BLE001 - the node says what it was
        _say(answers, {"failed": reason_of(error), "permanent": isinstance(error, PERMANENT)})
        return
    _say(answers, {"ready": segmenter.backend.name})
    for asked in iter(_asked().get, None):
        _say(answers, _answer(asked, model, segmenter))


def load(model: Model) -> Segmenter:
    """Load the model of a configuration.

    Raises:
        BundleError, ParameterError, BackendError: as `Segmenter.load`.
    """
    return Segmenter.load(
        model.bundle,
        backend=model.backend,
        precision=model.precision,
        threads=model.threads,
        require_signature=model.require_signature,
        bundle_sha256=model.bundle_sha256,
    )


def _answer(asked: dict[str, Any], model: Model, segmenter: Segmenter) -> dict[str, Any]:
    order = Order.from_json(asked["order"])
    try:
        return asdict(
            segment(order, Path(asked["series"]), Path(asked["out"]), segmenter, model.request(), model.slices)
        )
    except Exception as error:  # noqa: BLE001 - the next job is another one
        return {"failed": reason_of(error), "permanent": isinstance(error, PERMANENT)}


def _asked() -> SimpleQueue[dict[str, Any] | None]:
    """Return a queue of the lines on stdin. At its end the process exits at once, whatever it does."""
    queue: SimpleQueue[dict[str, Any] | None] = SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            queue.put(json.loads(line))
        os._exit(0)

    Thread(target=read, daemon=True).start()
    return queue


def _own_stdout() -> TextIO:
    """Keep stdout for answers; what libraries print goes nowhere."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    return answers


def _say(answers: TextIO, answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


def _be_the_first_to_go() -> None:
    """Ask Linux to end this process rather than the node when memory runs out."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


if __name__ == "__main__":
    main()
