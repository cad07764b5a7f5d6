"""ONNX graphs => TensorRT plans, with `tensorrt` 10.3 to 11.x and `tensorrt_rtx` alike.

    graph --parser--> strongly typed network --builder, one or more ranges of N--> plan

Networks are strongly typed: precision is what the graph says, and nothing falls back or down in silence. What a library lacks is found
out by asking for it, never from its version. TensorRT reports failure by what it returns, and why in its log only: each return
value is looked at here, and the log goes into the exception.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from rich.progress import Progress

from medseg_export.engines.progress import progress_monitor
from medseg_runtime.backends.gpu.tensorrt.engine_files import Flags, Library, Profile
from medseg_runtime.backends.gpu.tensorrt.logger import error_log
from medseg_runtime.errors import EngineError
from medseg_runtime.machine.gpu import Gpu
from medseg_runtime.model.bundle import Graph
from medseg_runtime.model.signatures import GraphName, Shape

REPORT = "Export the bundle again with `medseg-export`; if that does not help, report it with this message."
PLAINER = (
    "Build again with fewer options, and nothing else on the GPU; if that does not help, report it with this message."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """What plans are built with and for."""

    library: Library
    trt: ModuleType
    gpu: Gpu | None
    """The GPU that the builder tries its kernels on; None: it builds ahead of time, for the compute capabilities."""
    compute_capabilities: tuple[int, ...]
    profiles: tuple[Profile, ...]
    flags: Flags

    @property
    def version(self) -> str:
        """Of the library."""
        return str(self.trt.__version__)


@dataclass(frozen=True, slots=True)
class Network:
    """A parsed graph, and what must live as long as it."""

    definition: Any
    builder: Any
    parser: Any
    """It holds the weights."""


def build_plan(
    target: Target, name: GraphName, graph: Graph, content: bytes, timing: bytes, progress: Progress
) -> tuple[bytes, bytes]:
    """Build one graph.

    content: the ONNX file.
    timing: what `build_plan` returned as timing cache before, or nothing.

    Returns: the plan, and the timing cache as it is now; nothing where the library keeps none.

    Raises:
        EngineError: the library refuses the graph, a profile or an option; ends with what it logged.
    """
    network = parse(target.trt, name, graph, content)
    config = configure(target, network.builder)
    for profile in target.profiles if _varies(graph) else ():
        add_profile(target.trt, network.builder, config, graph, profile)
    cache = _use_timing_cache(config, timing)
    plan = _serialize(target.trt, network, config, name, progress)
    return plan, bytes(cache.serialize()) if cache is not None else b""


def parse(trt: ModuleType, name: GraphName, graph: Graph, content: bytes) -> Network:
    """Read an ONNX file into a strongly typed network, and hold its edges against the manifest.

    Raises:
        EngineError: the parser refuses it, or reads something else than bundle.json describes.
    """
    log = error_log(trt)
    log.forget()
    builder = trt.Builder(log)
    definition = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(definition, log)
    if not parser.parse(content):
        refused = "; ".join(_refusal(parser.get_error(index)) for index in range(parser.num_errors))
        log.forget()
        raise EngineError(f"{_named(trt)} does not take the {name}: {refused}", REPORT)
    inputs = {tensor.name: tensor for tensor in map(definition.get_input, range(definition.num_inputs))}
    outputs = {tensor.name: tensor for tensor in map(definition.get_output, range(definition.num_outputs))}
    # Of bytes that are no graph at all the parser makes an empty network, and calls that success.
    if not (_fits(trt, inputs, graph.inputs) and _fits(trt, outputs, graph.outputs)):
        found = ", ".join(f"{key} {tuple(tensor.shape)}" for key, tensor in (inputs | outputs).items()) or "nothing"
        raise EngineError(f"{_named(trt)} reads {found} in the {name}, not what bundle.json describes", REPORT)
    return Network(definition, builder, parser)


def configure(target: Target, builder: Any) -> Any:
    """Return a builder configuration with the target's flags, each read back where the library may drop it.

    Raises:
        EngineError: the library lacks one of them.
    """
    trt, flags = target.trt, target.flags
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)  # on by default: float32 products would keep 10 of 23 bits
    config.builder_optimization_level = flags.optimization_level
    if flags.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if flags.workspace_mib is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, flags.workspace_mib << 20)
    if flags.hardware != "none":
        level = getattr(trt.HardwareCompatibilityLevel, flags.hardware.upper(), None)
        if level is not None:
            config.hardware_compatibility_level = level
        if level is None or config.hardware_compatibility_level != level:
            raise EngineError(f"{_named(trt)} has no hardware compatibility {flags.hardware}", "Leave out the option.")
    if target.gpu is None:
        _set_compute_capabilities(target, config)
    return config


def _set_compute_capabilities(target: Target, config: Any) -> None:
    members = capability_members(target.trt, target.compute_capabilities)
    config.num_compute_capabilities = len(members)
    for index, member in enumerate(members):
        if not config.set_compute_capability(member, index):
            refused = error_log(target.trt).take()
            raise EngineError(f"{_named(target.trt)} refuses {member}: {refused}", "Leave it out of --sm.")


def capability_members(trt: ModuleType, wanted: tuple[int, ...]) -> list[Any]:
    """Return what TensorRT-RTX calls these compute capabilities.

    Raises:
        EngineError: it does not build for one of them.
    """
    known = {sm: getattr(trt.ComputeCapability, f"SM{sm}", None) for sm in wanted}
    if lacking := [sm for sm, member in known.items() if member is None]:
        offered = sorted(int(name[2:]) for name in dir(trt.ComputeCapability) if name.startswith("SM"))
        raise EngineError(
            f"{_named(trt)} does not build for compute capability {', '.join(f'{sm / 10}' for sm in lacking)}",
            f"Give --sm some of {','.join(map(str, offered))}; other GPUs take `--trt`, on the machine that has them.",
        )
    return list(known.values())


def add_profile(trt: ModuleType, builder: Any, config: Any, graph: Graph, profile: Profile) -> None:
    """Let the engine take N samples in a range.

    Raises:
        EngineError: the library refuses the range.
    """
    ranges = builder.create_optimization_profile()
    try:
        for key, shape in graph.inputs.items():
            if "N" in shape:
                ranges.set_shape(key, *(_at(shape, samples) for samples in (profile.min, profile.opt, profile.max)))
        index = config.add_optimization_profile(ranges)
    except (RuntimeError, ValueError) as error:  # set_shape raises where it is plainly wrong; -1 is for the rest
        raise _bad_profile(trt, profile, str(error)) from error
    if index < 0:
        raise _bad_profile(trt, profile, error_log(trt).take())


def _bad_profile(trt: ModuleType, profile: Profile, reason: str) -> EngineError:
    given = f"{profile.min},{profile.opt},{profile.max}"
    return EngineError(
        f"{_named(trt)} refuses {given} samples: {reason}", "Give --trt-samples MIN,OPT,MAX in rising order."
    )


def _use_timing_cache(config: Any, timing: bytes) -> Any:
    """Let the builder look up what it timed before; None where kernels are not timed, as ahead of time."""
    if hasattr(config, "num_compute_capabilities"):
        return None
    for content in (timing, b""):  # a damaged one, or one of another version, is no reason not to build
        cache = config.create_timing_cache(content)
        if cache is not None and config.set_timing_cache(cache, False):  # ignore_mismatch, by position only
            return cache
    return None


def _serialize(trt: ModuleType, network: Network, config: Any, name: GraphName, progress: Progress) -> bytes:
    """Run the builder; Ctrl-C ends it at its next step.

    It runs in a thread, because an interrupt is raised in the main one: inside a callback of TensorRT it would be swallowed.
    """
    log = error_log(trt)
    monitor = progress_monitor(trt, progress, name)
    config.progress_monitor = monitor
    with ThreadPoolExecutor(1) as pool:
        try:
            plan = pool.submit(network.builder.build_serialized_network, network.definition, config).result()
        except BaseException:
            monitor.cancel()
            raise
    if plan is None:
        raise EngineError(f"{_named(trt)} cannot build the {name}: {log.take()}", PLAINER)
    return bytes(plan)


def _refusal(error: Any) -> str:
    where = (
        f"operator {error.node_operator()} (node {error.node()} {error.node_name()!r}), " if error.node() >= 0 else ""
    )
    return f"{where}{error.code().name}: {' '.join(error.desc().split()).rstrip('.')}"


def _fits(trt: ModuleType, found: dict[str, Any], expected: dict[str, Shape]) -> bool:
    return found.keys() == expected.keys() and all(
        tensor.dtype == trt.DataType.FLOAT and tuple(tensor.shape) == _at(expected[key], -1)
        for key, tensor in found.items()
    )


def _varies(graph: Graph) -> bool:
    return any("N" in shape for shape in graph.inputs.values())


def _at(shape: Shape, samples: int) -> tuple[int, ...]:
    return tuple(samples if side == "N" else side for side in shape)


def _named(trt: ModuleType) -> str:
    return f"{trt.__name__} {trt.__version__}"
