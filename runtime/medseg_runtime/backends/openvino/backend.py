"""OpenVINO on the CPU: float32, and bfloat16 where the processor computes in it (AMX, AVX-512 BF16).

A graph compiled for a fixed batch is a tenth faster than one with a dynamic batch, and a third faster for one sample. So each usual
batch is compiled when it is first used, and all others share the dynamic model. Compiled models are kept in the user's cache folder.

The encoder always computes in float32: it runs once, and all samples share its error. Measured on 100 validation crops of the shipped
model, the mean probability of 16 samples moved by up to 0.025 with the encoder in bfloat16, and by up to 0.006 without.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import weakref
from collections.abc import Callable, Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any

from medseg_runtime.backends.base import chosen_precision, closed_error
from medseg_runtime.backends.host_loop import BoundLoop, check_signature, failure
from medseg_runtime.backends.telemetry import no_telemetry
from medseg_runtime.errors import BackendError
from medseg_runtime.files import cache
from medseg_runtime.machine.processor import processor
from medseg_runtime.machine.threads import calls_at_once

with no_telemetry():
    import openvino as ov
    from openvino.frontend import FrontEndManager

if TYPE_CHECKING:
    from medseg_runtime.backends.base import PrecisionName
    from medseg_runtime.backends.host_loop import Arrays, BoundCall
    from medseg_runtime.model.bundle import Bundle, Precision
    from medseg_runtime.model.signatures import GraphName

DEVICE = "CPU"
ELEMENT_TYPES: dict[Precision, str] = {"float32": "f32", "bfloat16": "bf16"}
CACHE_VERSION = 3
"""Cache version: raise it when `_compile` makes another model of the same graph."""
FIXED_BATCHES = frozenset({1, 2, 4, 8, 16, 32, 64})
"""Batches that are compiled by themselves. Others, such as the rest of 100 samples, run on the model with a dynamic batch."""


class OpenVinoBackend(BoundLoop):
    """Compiled models that clones share, each with its own infer requests.

    Calls of clones take turns on all threads; with `threads` given they run side by side, each on that many.
    """

    name = "openvino"
    version: str = ov.__version__.partition("-")[0]

    def __init__(self, bundle: Bundle, *, precision: PrecisionName = "auto", threads: int | None = None) -> None:
        self.precision = chosen_precision(self.name, precision, self.precisions())
        self.graphs = bundle.manifest.graphs
        self._models = _Models(bundle, self.precision, threads)
        self._models.compiled("encoder", 1)

    @classmethod
    def precisions(cls) -> tuple[Precision, ...]:
        """Return the precisions that OpenVINO computes in on this processor."""
        capable: list[str] = _translated(
            "cannot start", lambda: _core().get_property(DEVICE, "OPTIMIZATION_CAPABILITIES")
        )
        return ("bfloat16", "float32") if "BF16" in capable else ("float32",)

    @property
    def compiled(self) -> dict[str, str]:
        """The models compiled so far, such as `denoiser, batch 16`, and their SHA-256."""
        return dict(self._models.hashes)

    def bind(self, graph: GraphName, inputs: Arrays, outputs: Arrays) -> BoundCall:
        model = self._models.compiled(graph, len(inputs.get("latent", [0])))

        def bound() -> ov.InferRequest:
            request = model.create_infer_request()
            for name, array in (*inputs.items(), *outputs.items()):
                request.set_tensor(name, ov.Tensor(array, shared_memory=True))
            return request

        request, owner = _translated(f"failed in {graph}", bound), weakref.proxy(self)  # self keeps what is returned

        def call() -> None:
            owner.check_open()
            owner._models.check_process()  # noqa: SLF001 - self
            _translated(f"failed in {graph}", lambda: request.infer(share_outputs=True))

        return call

    def drop_graphs(self) -> None:
        self._models.close()

    def graphs_dropped(self) -> bool:
        return self._models.closed


class _Models:
    """The graphs of a bundle, each compiled when it is first used. Safe in several threads."""

    def __init__(self, bundle: Bundle, precision: Precision, threads: int | None) -> None:
        self._manifest, self._contents, self._precision = bundle.manifest, bundle.graphs, precision
        self._threads = threads
        self._process = os.getpid()
        self._compiled: dict[tuple[GraphName, int | None], ov.CompiledModel] = {}
        self._lock = Lock()
        self.hashes: dict[str, str] = {}
        """Compiled model -> its SHA-256."""
        self.closed = False

    def compiled(self, graph: GraphName, batch: int) -> ov.CompiledModel:
        """Return a graph compiled for this batch, or for any batch.

        Raises:
            BackendError: OpenVINO refuses the graph, or the backend is closed.
        """
        fixed = batch if graph != "encoder" and batch in FIXED_BATCHES else None
        with self._lock:
            if self.closed:
                raise closed_error(OpenVinoBackend.name)
            if (graph, fixed) not in self._compiled:
                self._compiled[graph, fixed] = _translated(
                    f"cannot load {graph}.onnx", lambda: self._load(graph, fixed)
                )
            return self._compiled[graph, fixed]

    def check_process(self) -> None:
        """Refuse a call that would never return: with `threads` given OpenVINO computes in threads of its own, and a fork has none.

        Raises:
            BackendError: this process was forked from the one that loaded the models.
        """
        if self._threads is not None and os.getpid() != self._process:
            raise BackendError(
                "OpenVINO with a number of threads was loaded before this process was forked",
                "Load the bundle in each process, or start them by spawn.",
            )

    def close(self) -> None:
        """Drop the compiled models. A call in another thread keeps its own until it returns."""
        with self._lock:
            self.closed = True
            self._compiled.clear()

    def _load(self, graph: GraphName, batch: int | None) -> ov.CompiledModel:
        """Import a compiled model from the cache, or compile it and store it there."""
        options = _options(self._arithmetic(graph), self._threads)
        name = self._cache_name(graph, batch, options)
        kept = cache.load(name)
        if kept is not None:
            try:
                model = _core().import_model(kept.content, DEVICE, options)
            except Exception:  # noqa: BLE001 - it can be compiled again whatever is wrong with it
                cache.remove(name)
            else:
                self.hashes[_label(graph, batch)] = kept.sha256
                return model
        model = self._compile(graph, batch, options)
        content = model.export_model().getvalue()
        cache.store(name, content)
        self.hashes[_label(graph, batch)] = hashlib.sha256(content).hexdigest()
        return model

    def _arithmetic(self, graph: GraphName) -> Precision:
        """Return the precision that a graph computes in."""
        return "float32" if graph == "encoder" else self._precision

    def _compile(self, graph: GraphName, batch: int | None, options: dict[str, Any]) -> ov.CompiledModel:
        # imported here: cached models do not need them
        from medseg_runtime.backends.openvino.graph_rewrites import flatten_planes, write_out_transposes

        model = _read_onnx(self._contents[graph])
        check_signature(graph, self._manifest.graphs[graph], _edges(model.inputs), _edges(model.outputs))
        if batch is not None:
            model.reshape({port.any_name: [_side(side, batch) for side in port.partial_shape] for port in model.inputs})
        if self._arithmetic(graph) == "float32":
            write_out_transposes(model)
        flatten_planes(model)
        compiled = _core().compile_model(model, DEVICE, options)
        found = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        if found != options["INFERENCE_PRECISION_HINT"]:
            raise BackendError(
                f"OpenVINO took {found} instead of {options['INFERENCE_PRECISION_HINT']}",
                "Use --precision float32, or another --backend.",
            )
        return compiled

    def _cache_name(self, graph: GraphName, batch: int | None, options: dict[str, Any]) -> str:
        """Return a name made of everything that the compiled model depends on."""
        sha256 = self._manifest.graphs[graph].sha256
        parts = [CACHE_VERSION, sha256, batch, ov.get_version(), sorted(options.items()), str(processor())]
        return f"openvino/{hashlib.sha256(json.dumps(parts).encode()).hexdigest()}.blob"


@functools.cache
def _core() -> ov.Core:
    """Return OpenVINO's root object. It is slow to make, and safe in several threads."""
    return ov.Core()


def _label(graph: GraphName, batch: int | None) -> str:
    return graph if graph == "encoder" else f"{graph}, batch {'N' if batch is None else batch}"


def _read_onnx(content: bytes) -> ov.Model:
    """Read a graph with OpenVINO's reader of ONNX. `Core.read_model` would look for other formats too."""
    reader = FrontEndManager().load_by_framework("onnx")
    return reader.convert(reader.load(io.BytesIO(content)))


def _options(precision: Precision, threads: int | None) -> dict[str, Any]:
    options: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": ELEMENT_TYPES[precision],
        "ENABLE_CPU_PINNING": False,  # leave thread affinity to the host process
    }
    if precision == "float32":
        # OpenVINO 2026.4.1 crashes (SIGSEGV) on AVX-512 when it fuses the attention of a float32 graph with a fixed batch.
        # Measured no slower without.
        options["SNIPPETS_MODE"] = "DISABLE"
    if threads is not None:
        options["NUM_STREAMS"] = calls_at_once(threads)
        options["INFERENCE_NUM_THREADS"] = threads * options["NUM_STREAMS"]
    return options


def _edges(ports: Sequence[Any]) -> dict[str, tuple[bool, list[int | None]]]:
    return {
        port.any_name: (
            port.element_type == ov.Type.f32,
            [None if side.is_dynamic else side.get_length() for side in port.partial_shape],
        )
        for port in ports
    }


def _side(side: ov.Dimension, batch: int) -> int:
    return batch if side.is_dynamic else int(side.get_length())


def _translated(problem: str, work: Callable[[], Any]) -> Any:
    try:
        return work()
    except BackendError:
        raise
    except Exception as error:  # RuntimeError from OpenVINO, TypeError and ValueError from its bindings
        raise failure(
            f"OpenVINO {OpenVinoBackend.version} {problem}",
            error,
            "Use --backend onnxruntime, or export the bundle again.",
        ) from error
