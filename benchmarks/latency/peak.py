"""Measure the machine's fastest matrix product, which gives the floor of every timing.

No library is fastest everywhere. In float32 torch uses MKL, which reaches half the speed of ONNX Runtime on an AMD processor. In
bfloat16 torch uses oneDNN, the fastest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnxruntime as ort
import torch
from onnx import TensorProto, helper

from benchmarks.latency.timing import Run, in_turns

TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
ROUNDS = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Peak:
    """The fastest matrix product of one precision and number of threads."""

    precision: str
    threads: int
    library: str
    side: int
    """Side of the square matrices."""
    gmacs_per_second: float

    def floor_ms(self, multiplications: int) -> float:
        """Return the time of multiply-accumulates at the peak, in milliseconds."""
        return multiplications / self.gmacs_per_second / 1e6


def product(library: str, precision: str, side: int, threads: int) -> Run:
    """Return a call that multiplies two square matrices."""
    if library == "onnxruntime":
        return _onnx_runtime_product(side, threads)
    left, right = (torch.randn(side, side).to(TYPES[precision]) for _ in range(2))
    out = torch.empty(side, side, dtype=TYPES[precision])
    return lambda: torch.mm(left, right, out=out)


def _onnx_runtime_product(side: int, threads: int) -> Run:
    shape = [side, side]
    left, right, out = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("a", "b", "c"))
    graph = helper.make_graph([helper.make_node("MatMul", ["a", "b"], ["c"])], "product", [left, right], [out])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry(
        "session.intra_op.allow_spinning", "0"
    )  # spinning threads would slow down the next contender
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    feeds = {name: rng.standard_normal(shape, np.float32) for name in ("a", "b")}
    return lambda: session.run(None, feeds)


def find_peak(precision: str, threads: int, sides: tuple[int, ...]) -> Peak:
    """Return the fastest product over libraries and sizes, by median."""
    torch.set_num_threads(threads)
    libraries = ("torch", "onnxruntime") if precision == "float32" else ("torch",)
    tried = {f"{library} {side}": (library, side) for library in libraries for side in sides}
    runs = {name: product(library, precision, side, threads) for name, (library, side) in tried.items()}
    taken = in_turns(runs, ROUNDS)
    peaks = [peak_of(precision, threads, *tried[name], milliseconds) for name, milliseconds in taken.items()]
    return max(peaks, key=lambda peak: peak.gmacs_per_second)


def peak_of(precision: str, threads: int, library: str, side: int, milliseconds: list[float]) -> Peak:
    """Return the peak from the median of timings of one product."""
    middle = sorted(milliseconds)[len(milliseconds) // 2]
    speed = side**3 / middle / 1e6
    return Peak(precision=precision, threads=threads, library=library, side=side, gmacs_per_second=speed)
