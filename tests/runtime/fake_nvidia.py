"""A GPU in numpy behind the names of `cuda.bindings.runtime` and `tensorrt`, which refuses what a real one forbids.

It computes, so that masks can be compared; and late: what is queued on a stream runs when somebody waits for it, so that reading too
early or overwriting too soon gives wrong masks. Memory starts as NaN. Names, signatures and enums are those of NVIDIA's own packages,
which install without a GPU; a call that they do not have is refused. A rule broken is an AssertionError, which our code never catches.
"""

# ruff: noqa: ARG002, N802, N805
# ... the names, arguments and first arguments of the functions are CUDA's and the machine's

import gc
import inspect
import itertools
import json
import math
import sys
import weakref
from collections import Counter
from dataclasses import dataclass, field
from types import ModuleType

import numpy as np
import tensorrt_rtx
from cuda.bindings import runtime as real_cudart

ALIGNMENT = 256
FIRST_ADDRESS = 0x7F_0000_0000
SUCCESS, FAILURE = real_cudart.cudaError_t.cudaSuccess, real_cudart.cudaError_t.cudaErrorUnknown


class RuleBroken(AssertionError):  # noqa: N818 - it is what was done, not what failed
    """The code under test did what NVIDIA forbids, or what would stop the host where it should not."""


def require(condition, rule):
    if not condition:
        raise RuleBroken(rule)


@dataclass
class Region:
    start: int
    content: np.ndarray
    kind: str


@dataclass
class Operation:
    """What is queued on a stream; of a context, its state at that moment."""

    run: object
    scratch: tuple = (0, 0)
    context: object = None
    version: int = 0


@dataclass
class Stream:
    queue: list = field(default_factory=list)
    captured: list | None = None


class Nvidia:
    """The machine: memory, streams and graphs, a log of calls, and failures on request."""

    def __init__(self, compute):
        """compute: run(graph, feeds) => outputs, what the engines do."""
        self.compute = compute
        self.calls = []
        self.regions, self.streams, self.graphs, self.executables = {}, {}, {}, {}
        self.engines, self.contexts = weakref.WeakSet(), weakref.WeakSet()
        self.device = 0
        self._refusals = Counter()
        self._handles = itertools.count(1001)
        self._address = FIRST_ADDRESS
        self.cudart = Cudart(self)
        self.tensorrt = tensorrt_module(self)

    def refuse(self, name, call=1):
        """Let a function fail at its next call, or at a later one."""
        self._refusals[name] = call

    def refused(self, name):
        self.calls.append(name)
        self._refusals[name] -= 1
        return self._refusals[name] == 0

    def allocate(self, size, kind):
        require(size > 0, "nothing to allocate")
        content = np.full(size, 0xFF, np.uint8)  # as float32: NaN
        start = content.ctypes.data if kind == "pinned" else self._address
        self._address += -(-size // 4096) * 4096
        self.regions[start] = Region(start, content, kind)
        return start

    def free(self, pointer, kind):
        region = self.regions.pop(pointer, None)
        require(region is not None and region.kind == kind, f"{kind} memory is freed twice, or was never allocated")
        require(not any(stream.queue for stream in self.streams.values()), "memory is freed while work is queued")

    def bytes_at(self, pointer, size, kind):
        for region in self.regions.values():
            if region.start <= pointer < region.start + region.content.size:
                require(region.kind == kind, f"{region.kind} memory where {kind} memory is needed")
                start = pointer - region.start
                require(start + size <= region.content.size, "reaches beyond the end of its memory")
                return region.content[start : start + size]
        raise RuleBroken(f"no {kind} memory there: freed, pageable, or never allocated")

    def queue(self, handle, operation):
        stream = self.stream(handle)
        self._check_scratch(stream, operation)
        (stream.queue if stream.captured is None else stream.captured).append(operation)

    def _check_scratch(self, own, operation):
        start, end = operation.scratch
        for stream in self.streams.values():
            for other in stream.queue if stream is not own else ():
                overlap = min(end, other.scratch[1]) - max(start, other.scratch[0])
                require(overlap <= 0, "two streams use the same scratch memory at once")

    def stream(self, handle):
        require(int(handle) in self.streams, "the default stream, or one that was destroyed")
        return self.streams[int(handle)]

    def not_capturing(self, what):
        require(all(s.captured is None for s in self.streams.values()), f"{what} inside a capture")

    def handle(self):
        return next(self._handles)

    def held(self):
        """What is allocated now, by kind."""
        gc.collect()
        kinds = Counter(region.kind for region in self.regions.values())
        named = {"streams": self.streams, "graphs": self.graphs, "executables": self.executables}
        counts = {name: len(things) for name, things in named.items()}
        counts |= kinds | {"contexts": len(self.contexts), "engines": len(self.engines)}
        return {name: count for name, count in counts.items() if count}


class Cudart:
    """`cuda.bindings.runtime`: the names, signatures and constants of the real one."""

    def __init__(self, machine):
        self._machine = machine

    def __getattr__(self, name):
        real = getattr(real_cudart, name)  # an AttributeError for what the real package does not have
        if inspect.isclass(real) or not callable(real):
            return real
        implementation = getattr(CudaFunctions, name, None)
        require(implementation is not None, f"the fake does not know {name}")

        def function(*arguments):
            inspect.signature(real).bind(*arguments)
            if self._machine.refused(name):
                if name == "cudaStreamEndCapture":  # ends it all the same
                    self._machine.stream(*arguments).captured = None
                return FAILURE, None
            value = implementation(self._machine, *arguments)
            return (SUCCESS,) if value is None else (SUCCESS, value)

        function.__name__ = name
        return function


class CudaFunctions:
    """What each function does; called with the machine first."""

    def cudaGetDevice(machine):
        return machine.device

    def cudaGetLastError(machine):
        pass

    def cudaMalloc(machine, size):
        machine.not_capturing("cudaMalloc")
        return machine.allocate(size, "device")

    def cudaFree(machine, pointer):
        machine.not_capturing("cudaFree")
        machine.free(pointer, "device")

    def cudaHostAlloc(machine, size, flags):
        machine.not_capturing("cudaHostAlloc")
        return machine.allocate(size, "pinned")

    def cudaFreeHost(machine, pointer):
        machine.not_capturing("cudaFreeHost")
        machine.free(pointer, "pinned")

    def cudaStreamCreateWithFlags(machine, flags):
        require(flags == real_cudart.cudaStreamNonBlocking, "a stream that waits for the default stream")
        handle = machine.handle()
        machine.streams[handle] = Stream()
        return handle

    def cudaStreamDestroy(machine, stream):
        require(not machine.stream(stream).queue, "a stream is destroyed with work on it")
        del machine.streams[stream]

    def cudaStreamSynchronize(machine, stream):
        machine.not_capturing("cudaStreamSynchronize")
        queue = machine.stream(stream).queue
        while queue:
            queue[0].run()
            queue.pop(0)

    def cudaMemcpyAsync(machine, target, source, size, kind, stream):
        kinds = {
            real_cudart.cudaMemcpyKind.cudaMemcpyHostToDevice: ("device", "pinned"),
            real_cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost: ("pinned", "device"),
        }
        to, of = kinds[kind]

        def copy():
            machine.bytes_at(target, size, to)[:] = machine.bytes_at(source, size, of)

        machine.bytes_at(target, size, to), machine.bytes_at(source, size, of)
        machine.queue(stream, Operation(copy))

    def cudaMemsetAsync(machine, pointer, value, size, stream):
        machine.queue(stream, Operation(lambda: machine.bytes_at(pointer, size, "device").fill(value)))

    def cudaStreamBeginCapture(machine, stream, mode):
        expected = real_cudart.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        require(mode == expected, "a capture that other threads spoil")
        machine.stream(stream).captured = []

    def cudaStreamEndCapture(machine, stream):
        handle, captured = machine.handle(), machine.stream(stream).captured
        require(captured is not None, "no capture to end")
        machine.graphs[handle], machine.stream(stream).captured = captured, None
        return handle

    def cudaGraphInstantiate(machine, graph, flags):
        handle = machine.handle()
        machine.executables[handle] = machine.graphs[graph]
        return handle

    def cudaGraphDestroy(machine, graph):
        require(machine.graphs.pop(graph, None) is not None, "a graph is destroyed twice")

    def cudaGraphExecDestroy(machine, executable):
        require(machine.executables.pop(executable, None) is not None, "an executable graph is destroyed twice")

    def cudaGraphLaunch(machine, executable, stream):
        require(executable in machine.executables, "a destroyed graph is launched")
        for operation in machine.executables[executable]:
            if operation.context is not None:
                context = operation.context()
                require(context is not None, "a graph outlives the context that it was captured from")
                require(context.version == operation.version, "a context was changed after its capture")
            machine.queue(stream, operation)


def tensorrt_module(machine):
    """A module like `tensorrt`; its enums and its logger's base class are the real ones of TensorRT-RTX."""
    module = ModuleType("tensorrt")
    module.__version__ = "11.4.0.1"
    for name in ("ILogger", "ExecutionContextAllocationStrategy", "TensorIOMode", "DataType"):
        setattr(module, name, getattr(tensorrt_rtx, name))
    module.Runtime = lambda logger: Runtime(machine, logger)
    return module


class Runtime:
    def __init__(self, machine, logger):
        self._machine, self._logger = machine, logger
        self.engine_host_code_allowed = False

    def deserialize_cuda_engine(self, serialized_engine):
        try:
            described = json.loads(serialized_engine)
        except ValueError:
            self._logger.log(tensorrt_rtx.ILogger.ERROR, "Serialization assertion failed: magic tag")
            return None
        if self._machine.refused("deserialize_cuda_engine"):
            return None
        if described.get("lean") and not self.engine_host_code_allowed:
            self._logger.log(tensorrt_rtx.ILogger.ERROR, "host code in the plan is not allowed")
            return None
        return ICudaEngine(self._machine, self._logger, described)


class ICudaEngine:
    """Made of a description: graph, inputs, outputs (name -> shape with "N"), profiles, bytes of scratch memory."""

    def __init__(self, machine, logger, described):
        self._machine, self._logger, self._described = machine, logger, described
        self._shapes = described["inputs"] | described["outputs"]
        machine.engines.add(self)

    @property
    def num_io_tensors(self):
        return len(self._shapes)

    @property
    def device_memory_size_v2(self):
        return self._described["scratch"]

    def get_tensor_name(self, index):
        return list(self._shapes)[index]

    def get_tensor_mode(self, name):
        mode = tensorrt_rtx.TensorIOMode
        return mode.INPUT if name in self._described["inputs"] else mode.OUTPUT

    def get_tensor_dtype(self, name):
        return getattr(tensorrt_rtx.DataType, self._described.get("types", {}).get(name, "FLOAT"))

    def get_tensor_shape(self, name):
        return tuple(-1 if side == "N" else side for side in self._shapes[name])

    def create_execution_context(self, strategy=tensorrt_rtx.ExecutionContextAllocationStrategy.STATIC):
        user = tensorrt_rtx.ExecutionContextAllocationStrategy.USER_MANAGED
        require(strategy == user, "a context with scratch memory of its own")
        self._machine.not_capturing("create_execution_context")
        if self._machine.refused("create_execution_context"):
            return None
        return IExecutionContext(self._machine, self._logger, self, self._described)


class IExecutionContext:
    def __init__(self, machine, logger, engine, described):
        self._machine, self._logger, self._engine, self._described = machine, logger, engine, described
        self._shapes, self._addresses, self._memory, self._profile = {}, {}, None, 0
        self._ready = False  # has run since its shapes were set
        self.version = 0
        machine.contexts.add(self)

    def _changed(self):
        self._ready, self.version = False, self.version + 1

    def _no(self, message):
        self._logger.log(tensorrt_rtx.ILogger.ERROR, message)
        return False

    def set_optimization_profile_async(self, profile_index, stream_handle):
        self._machine.stream(stream_handle)
        self._machine.not_capturing("set_optimization_profile_async")
        if self._machine.refused("set_optimization_profile_async"):
            return False
        self._changed()
        self._profile = profile_index
        return profile_index < len(self._described["profiles"]) or self._no("profile index out of range")

    def set_device_memory(self, memory, size):
        require(memory % ALIGNMENT == 0, "scratch memory is not aligned")
        self._machine.bytes_at(memory, size, "device")
        require(size >= self._engine.device_memory_size_v2, "too little scratch memory")
        self._changed()
        self._memory = (memory, memory + size)

    def set_input_shape(self, name, shape):
        if self._machine.refused("set_input_shape"):
            return False
        low, _, high = self._described["profiles"][self._profile]
        sides = self._described["inputs"][name]
        if len(sides) != len(shape) or any(
            not (low <= side <= high if wanted == "N" else side == wanted)
            for side, wanted in zip(shape, sides, strict=True)
        ):
            return self._no(f"{name}: {shape} is outside the profile {low} to {high}")
        self._changed()
        self._shapes[name] = tuple(shape)
        return True

    def set_tensor_address(self, name, memory):
        if self._machine.refused("set_tensor_address"):
            return False
        if name not in self._described["inputs"] | self._described["outputs"]:
            return self._no(f"no tensor {name}")
        if memory % ALIGNMENT:
            return self._no(f"{name}: the address is not aligned to {ALIGNMENT} bytes")
        self._addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle):
        if self._machine.refused("execute_async_v3"):
            return False
        if self._memory is None:
            return self._no("device memory was not set")
        tensors = self._tensors()
        if missing := [name for name, (address, _) in tensors.items() if address is None]:
            return self._no(f"no address for {missing}")
        capturing = self._machine.stream(stream_handle).captured is not None
        require(self._ready or not capturing, "the first run with these shapes is captured")
        self._ready = True
        self._check_overlap(tensors)
        run = self._kernel(tensors)
        self._machine.queue(stream_handle, Operation(run, self._memory, weakref.ref(self), self.version))
        return True

    def _tensors(self):
        """Name -> (address, shape)."""
        described, shapes = self._described, dict(self._shapes)
        for name, sides in described["inputs"].items():
            require("N" not in sides or name in shapes, f"the shape of {name} was not set")
        batch = next((shapes[name][0] for name, sides in described["inputs"].items() if "N" in sides), 1)
        fixed = described["inputs"] | described["outputs"]
        return {
            name: (self._addresses.get(name), tuple(batch if side == "N" else side for side in sides))
            for name, sides in fixed.items()
        }

    def _check_overlap(self, tensors):
        ranges = {name: (address, address + 4 * math.prod(shape)) for name, (address, shape) in tensors.items()}
        ranges["scratch"] = self._memory
        for written in (*self._described["outputs"], "scratch"):
            for other in ranges.keys() - {written}:
                apart = ranges[written][1] <= ranges[other][0] or ranges[other][1] <= ranges[written][0]
                require(apart, f"{written} overwrites {other}")

    def _kernel(self, tensors):
        machine, described, (start, end) = self._machine, self._described, self._memory

        def at(name):
            address, shape = tensors[name]
            return machine.bytes_at(address, 4 * math.prod(shape), "device").view(np.float32).reshape(shape)

        def run():
            feeds = {name: at(name).copy() for name in described["inputs"]}
            machine.bytes_at(start, end - start, "device").fill(0xFF)
            outputs = machine.compute(described["graph"], feeds)
            for name, output in zip(described["outputs"], outputs, strict=True):
                at(name)[:] = output

        return run


def install(monkeypatch, machine):
    """Put the fakes where our modules look for the real ones."""
    from medseg_runtime.backends.gpu import cuda

    monkeypatch.setattr(cuda, "cudart", machine.cudart)
    monkeypatch.setitem(sys.modules, "tensorrt", machine.tensorrt)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
