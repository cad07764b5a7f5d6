"""Build TensorRT plans from ONNX graphs, with `tensorrt` 10.3 to 11.x or `tensorrt_rtx`.

    graph --parser--> strongly typed network --builder, one or more ranges of N--> plan

Networks are strongly typed: they compute in the types of the graph, and nothing changes precision silently. Features are detected
by attribute, not by version. TensorRT reports a failure by its return value and the reason only in its log: each return value is
checked here, and the log goes into the exception.
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

EXPORT_AGAIN = "Export the bundle again with `medseg-export`. If that does not help, report this message."
BUILD_AGAIN = "Build again with fewer options and nothing else on the GPU. If that does not help, report this message."


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """The library that builds plans, and what they are built for."""

    library: Library
    trt: ModuleType
    gpu: Gpu | None
    """The GPU that the builder times kernels on; None: it builds ahead of time for the compute capabilities."""
    compute_capabilities: tuple[int, ...]
    """86 is 8.6."""
    profiles: tuple[Profile, ...]
    flags: Flags

    @property
    def version(self) -> str:
        """Version of the library."""
        return str(self.trt.__version__)


@dataclass(frozen=True, slots=True)
class Network:
    """A parsed graph, and the objects that must outlive it."""

    definition: Any
    builder: Any
    parser: Any
    """Holds the weights."""


def build_plan(
    target: Target, name: GraphName, graph: Graph, content: bytes, timing: bytes, progress: Progress
) -> tuple[bytes, bytes]:
    """Build the plan of one graph.

    content: the ONNX file.
    timing: the timing cache that an earlier call returned, or b"".

    Returns: the plan and the updated timing cache, which is b"" if the library has none.

    Raises:
        EngineError: the library rejects the graph, a profile or an option. The message contains its log.
    """
    network = parse(target.trt, name, graph, content)
    config = configure(target, network.builder)
    for profile in target.profiles if _takes_samples(graph) else ():
        add_profile(target.trt, network.builder, config, graph, profile)
    cache = _use_timing_cache(config, timing)
    plan = _serialize(target.trt, network, config, name, progress)
    return plan, bytes(cache.serialize()) if cache is not None else b""


def parse(trt: ModuleType, name: GraphName, graph: Graph, content: bytes) -> Network:
    """Parse an ONNX file into a strongly typed network; check its inputs and outputs against the manifest.

    Raises:
        EngineError: the parser rejects the file, or reads other inputs or outputs than bundle.json describes.
    """
    log = error_log(trt)
    log.forget()
    builder = trt.Builder(log)
    definition = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(definition, log)
    if not parser.parse(content):
        refused = "; ".join(_parser_error(parser.get_error(index)) for index in range(parser.num_errors))
        log.forget()
        raise EngineError(f"{_name_and_version(trt)} does not take the {name}: {refused}", EXPORT_AGAIN)
    inputs = {tensor.name: tensor for tensor in map(definition.get_input, range(definition.num_inputs))}
    outputs = {tensor.name: tensor for tensor in map(definition.get_output, range(definition.num_outputs))}
    # From bytes that are not a graph the parser makes an empty network and reports success.
    if not (_matches(trt, inputs, graph.inputs) and _matches(trt, outputs, graph.outputs)):
        found = ", ".join(f"{key} {tuple(tensor.shape)}" for key, tensor in (inputs | outputs).items()) or "nothing"
        raise EngineError(
            f"{_name_and_version(trt)} reads {found} in the {name}, not what bundle.json describes", EXPORT_AGAIN
        )
    return Network(definition, builder, parser)


def configure(target: Target, builder: Any) -> Any:
    """Return a builder configuration with the target's flags.

    Raises:
        EngineError: the library does not support one of them.
    """
    trt, flags = target.trt, target.flags
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)  # on by default: it rounds float32 products to 10 of 23 mantissa bits
    config.builder_optimization_level = flags.optimization_level
    if flags.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if flags.workspace_mib is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, flags.workspace_mib << 20)
    if flags.hardware != "none":
        level = getattr(trt.HardwareCompatibilityLevel, flags.hardware.upper(), None)
        if level is not None:
            config.hardware_compatibility_level = level
        if level is None or config.hardware_compatibility_level != level:  # a library may ignore it silently
            raise EngineError(
                f"{_name_and_version(trt)} has no hardware compatibility {flags.hardware}", "Leave out the option."
            )
    if target.gpu is None:
        _set_compute_capabilities(target, config)
    return config


def _set_compute_capabilities(target: Target, config: Any) -> None:
    members = capability_members(target.trt, target.compute_capabilities)
    config.num_compute_capabilities = len(members)
    for index, member in enumerate(members):
        if not config.set_compute_capability(member, index):
            refused = error_log(target.trt).take()
            raise EngineError(f"{_name_and_version(target.trt)} refuses {member}: {refused}", "Leave it out of --sm.")


def capability_members(trt: ModuleType, compute_capabilities: tuple[int, ...]) -> list[Any]:
    """Return TensorRT-RTX's enum members for compute capabilities.

    Raises:
        EngineError: the library does not build for one of them.
    """
    known = {sm: getattr(trt.ComputeCapability, f"SM{sm}", None) for sm in compute_capabilities}
    if lacking := [sm for sm, member in known.items() if member is None]:
        offered = sorted(int(name[2:]) for name in dir(trt.ComputeCapability) if name.startswith("SM"))
        raise EngineError(
            f"{_name_and_version(trt)} does not build for compute capability {', '.join(f'{sm / 10}' for sm in lacking)}",
            f"Give --sm some of {','.join(map(str, offered))}. For other GPUs use `--trt` on the machine that has them.",
        )
    return list(known.values())


def add_profile(trt: ModuleType, builder: Any, config: Any, graph: Graph, profile: Profile) -> None:
    """Add a range of N samples that the engine accepts.

    Raises:
        EngineError: the library rejects the range.
    """
    ranges = builder.create_optimization_profile()
    try:
        for key, shape in graph.inputs.items():
            if "N" in shape:
                ranges.set_shape(
                    key, *(_with_batch(shape, samples) for samples in (profile.min, profile.opt, profile.max))
                )
        index = config.add_optimization_profile(ranges)
    except (RuntimeError, ValueError) as error:  # set_shape raises for some invalid ranges; for others the index is -1
        raise _bad_profile(trt, profile, str(error)) from error
    if index < 0:
        raise _bad_profile(trt, profile, error_log(trt).take())


def _bad_profile(trt: ModuleType, profile: Profile, reason: str) -> EngineError:
    given = f"{profile.min},{profile.opt},{profile.max}"
    return EngineError(
        f"{_name_and_version(trt)} refuses {given} samples: {reason}", "Give --trt-samples MIN,OPT,MAX in rising order."
    )


def _use_timing_cache(config: Any, timing: bytes) -> Any:
    """Give the builder its earlier timings. Return the timing cache; None ahead of time, where kernels are not timed."""
    if hasattr(config, "num_compute_capabilities"):
        return None
    for content in (timing, b""):  # start empty if the cache is damaged or from another version
        cache = config.create_timing_cache(content)
        if cache is not None and config.set_timing_cache(cache, False):  # ignore_mismatch, by position only
            return cache
    return None


def _serialize(trt: ModuleType, network: Network, config: Any, name: GraphName, progress: Progress) -> bytes:
    """Run the builder. Ctrl-C ends it at its next step.

    The builder runs in another thread: an interrupt is raised in the main thread, and inside a callback of TensorRT it would be lost.
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
        raise EngineError(f"{_name_and_version(trt)} cannot build the {name}: {log.take()}", BUILD_AGAIN)
    return bytes(plan)


def _parser_error(error: Any) -> str:
    """Return one error of the parser as a line: operator, node, code, description."""
    where = (
        f"operator {error.node_operator()} (node {error.node()} {error.node_name()!r}), " if error.node() >= 0 else ""
    )
    return f"{where}{error.code().name}: {' '.join(error.desc().split()).rstrip('.')}"


def _matches(trt: ModuleType, found: dict[str, Any], expected: dict[str, Shape]) -> bool:
    return found.keys() == expected.keys() and all(
        tensor.dtype == trt.DataType.FLOAT and tuple(tensor.shape) == _with_batch(expected[key], -1)
        for key, tensor in found.items()
    )


def _takes_samples(graph: Graph) -> bool:
    return any("N" in shape for shape in graph.inputs.values())


def _with_batch(shape: Shape, samples: int) -> tuple[int, ...]:
    return tuple(samples if side == "N" else side for side in shape)


def _name_and_version(trt: ModuleType) -> str:
    return f"{trt.__name__} {trt.__version__}"
