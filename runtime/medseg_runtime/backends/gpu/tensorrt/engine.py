"""TensorRT engines in memory, and contexts to run them. Every return value is checked; errors quote the library's log.

Only the API that TensorRT 10.3 to 11.4 and TensorRT-RTX 1.7 share is used.
"""

from __future__ import annotations

from typing import Any

from medseg_runtime.backends.gpu.cuda import Stream
from medseg_runtime.backends.gpu.tensorrt.engine_files import Engines
from medseg_runtime.backends.gpu.tensorrt.logger import error_log
from medseg_runtime.errors import EngineError
from medseg_runtime.model.bundle import Graph, Manifest
from medseg_runtime.model.signatures import GraphName

REPORT = (
    "Build the engines again with `medseg-export build`; if that does not help, report the bundle and this message."
)


class LoadedEngines:
    """The three engines of a target, with their weights on the GPU. Contexts of several threads share them."""

    def __init__(self, engines: Engines, library: Any, manifest: Manifest, *, host_code: bool = False) -> None:
        """Deserialize the plans, whose hashes were checked, and compare their inputs and outputs with bundle.json.

        host_code: let plans run code of theirs on the CPU, as version-compatible ones do, which contain their own runtime.

        Raises:
            EngineError: TensorRT refuses a plan, it needs host code, or its inputs and outputs differ.
        """
        self.record = engines.record
        if self.record.flags.version_compatible and not host_code:
            raise EngineError(
                f"the engines {self.record.target} are version-compatible and would run code of theirs on the CPU",
                "Build them again without --trt-version-compatible, or use --trust-graphs if you trust who built them.",
            )
        self._library = library
        self._log = error_log(library)
        self._runtime = library.Runtime(self._log)
        self._runtime.engine_host_code_allowed = host_code and self.record.flags.version_compatible
        self._engines = {name: self._deserialized(name, plan) for name, plan in engines.plans.items()}
        for name, engine in self._engines.items():
            _check_edges(name, self._edges(engine), manifest.graphs[name])

    @property
    def activation_bytes(self) -> int:
        """Scratch memory of the largest engine. The engines run one after another, and share it."""
        return max(int(engine.device_memory_size_v2) for engine in self._engines.values())

    def context(self, graph: GraphName, profile: int, stream: Stream) -> Context:
        """Return a new context of an engine, without shapes, addresses or memory.

        Raises:
            EngineError: TensorRT refuses, usually for lack of memory.
        """
        strategy = self._library.ExecutionContextAllocationStrategy.USER_MANAGED
        raw = self._engines[graph].create_execution_context(strategy)
        if raw is None:
            raise self._refused(f"make a context of the {graph}")
        return Context(raw, graph, self._log, profile, stream)

    def close(self) -> None:
        """Drop the engines. Their contexts must be closed before."""
        self._engines.clear()
        self._runtime = None

    def _deserialized(self, graph: GraphName, plan: bytes) -> Any:
        engine = self._runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise self._refused(f"load {graph}.plan")
        return engine

    def _edges(self, engine: Any) -> dict[str, tuple[bool, bool, tuple[int, ...]]]:
        """Return name -> (is an input, is float32, shape with -1 for N)."""
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        return {
            name: (
                engine.get_tensor_mode(name) == self._library.TensorIOMode.INPUT,
                engine.get_tensor_dtype(name) == self._library.DataType.FLOAT,
                tuple(engine.get_tensor_shape(name)),
            )
            for name in names
        }

    def _refused(self, what: str) -> EngineError:
        return EngineError(f"{self.record.library} {self.record.version} does not {what}: {self._log.take()}", REPORT)


class Context:
    """One engine with its own shapes, addresses and memory, for one thread and one stream."""

    def __init__(self, raw: Any, graph: GraphName, log: Any, profile: int, stream: Stream) -> None:
        self._raw = raw
        self._graph = graph
        self._log = log
        self._stream = stream
        self._check(raw.set_optimization_profile_async(profile, int(stream.handle)), f"take profile {profile}")

    def use_memory(self, pointer: int, size: int) -> None:
        """Set the address of the scratch memory."""
        self._raw.set_device_memory(pointer, size)

    def shape(self, name: str, shape: tuple[int, ...]) -> None:
        """Set the shape of an input."""
        self._check(self._raw.set_input_shape(name, shape), f"take {shape} as {name}")

    def bind(self, **addresses: int) -> None:
        """Set the addresses of inputs and outputs on the GPU."""
        for name, pointer in addresses.items():
            self._check(self._raw.set_tensor_address(name, pointer), f"take the address of {name}")

    def launch(self) -> None:
        """Queue a run on the stream."""
        self._check(self._raw.execute_async_v3(int(self._stream.handle)), "run")

    def close(self) -> None:
        """Drop the context."""
        self._raw = None

    def _check(self, accepted: bool, what: str) -> None:
        if not accepted:
            raise EngineError(f"the {self._graph} engine does not {what}: {self._log.take()}", REPORT)


def _check_edges(name: GraphName, found: dict[str, tuple[bool, bool, tuple[int, ...]]], graph: Graph) -> None:
    """Refuse an engine whose inputs and outputs are not those of bundle.json. An engine may fix N."""
    expected = {tensor: (True, shape) for tensor, shape in graph.inputs.items()}
    expected |= {tensor: (False, shape) for tensor, shape in graph.outputs.items()}
    fits = found.keys() == expected.keys() and all(
        (is_input, is_float32) == (expected[tensor][0], True)
        and len(shape) == len(expected[tensor][1])
        and all(given in (side, "N") for side, given in zip(shape, expected[tensor][1], strict=True))
        for tensor, (is_input, is_float32, shape) in found.items()
    )
    if not fits:
        sides = ", ".join(f"{tensor} {list(shape)}" for tensor, (_, _, shape) in found.items())
        raise EngineError(f"{name}.plan has {sides}, not the inputs and outputs of bundle.json", REPORT)
