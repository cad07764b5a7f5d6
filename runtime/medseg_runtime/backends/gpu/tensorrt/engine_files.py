"""TensorRT engines beside the graphs of a bundle: medseg-export writes them, the runtime reads them.

    bundle/engines/<target>/engine.json + encoder.plan, denoiser.plan, decoder.plan

A plan runs only on the library version and kind of GPU that it was built for, and contains host code; TensorRT's errors say little.
So engine.json is compared with bundle, library and GPU, and each plan with its SHA-256, before anything is deserialized. bundle.json
does not mention engines: building or deleting them does not change the bundle.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from medseg_runtime.errors import BundleError, EngineError
from medseg_runtime.files.names import printable
from medseg_runtime.files.read import MAX_FILE_BYTES, is_link, read_bytes
from medseg_runtime.files.typed_json import MAX_JSON_BYTES, parse_json, typed
from medseg_runtime.model.authenticity import SUFFIX, check_signature
from medseg_runtime.model.bundle import Bundle, Precision
from medseg_runtime.model.signatures import GraphName

SCHEMA_VERSION = 1
ENGINES, RECORD_NAME = "engines", "engine.json"

Library = Literal["tensorrt", "tensorrt_rtx"]
Hardware = Literal["none", "same_compute_capability", "ampere_plus"]
BUILD_OPTION: dict[Library, str] = {"tensorrt": "--trt", "tensorrt_rtx": "--trt-rtx"}
"""Name of the library's module -> the option of medseg-export that builds for it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Profile:
    """The range of samples N that denoiser and decoder take, and the N they are tuned for."""

    min: int
    opt: int
    max: int

    def __str__(self) -> str:
        return str(self.opt) if self.static else f"{self.min},{self.opt},{self.max}"

    @property
    def static(self) -> bool:
        """Whether it takes only one N."""
        return self.min == self.max


@dataclass(frozen=True, kw_only=True, slots=True)
class Flags:
    """Build options. The help of `medseg-export build` says what each costs."""

    version_compatible: bool
    """Whether later versions with the same major number run the plans; the runtime must then allow their host code."""
    hardware: Hardware
    """Which GPUs besides those of the record run the plans."""
    workspace_mib: int | None
    """Largest scratch memory of a layer in MiB; None: all GPU memory."""
    optimization_level: int
    """0 to 5: how long the builder optimizes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """One serialised engine."""

    file: str
    sha256: str
    bytes: int
    source_sha256: str
    """SHA-256 of the ONNX graph that it was built from."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineRecord:
    """The content of engine.json."""

    schema_version: int = SCHEMA_VERSION
    library: Library
    version: str
    """The library's `__version__`."""
    precision: Precision
    """Precision of the graphs, and so of the engines, which are strongly typed."""
    gpu: str | None
    """Name of the GPU that the plans were tuned on; None if they were built ahead of time without one."""
    compute_capabilities: tuple[int, ...]
    """Compute capabilities of the GPUs that run the plans; 86 is 8.6."""
    profiles: tuple[Profile, ...]
    """Optimization profiles of denoiser and decoder, by index. The encoder has no N and one profile."""
    flags: Flags
    plans: dict[GraphName, Plan]
    built: str
    """Date, UTC."""
    driver: str | None
    """Version of the GPU driver; None without one."""
    cuda: str | None
    """Newest CUDA version that the driver runs."""

    @property
    def max_samples(self) -> int:
        """Largest N of all profiles."""
        return max(profile.max for profile in self.profiles)

    @property
    def target(self) -> str:
        """Name of the folder."""
        return target_name(self.library, self.compute_capabilities)

    def profile_for(self, samples: int) -> int:
        """Return the index of the narrowest profile that takes N samples.

        Raises:
            EngineError: no profile takes this number.
        """
        fitting = [index for index, profile in enumerate(self.profiles) if profile.min <= samples <= profile.max]
        if not fitting:
            taken = " and ".join(f"N = {p.opt}" if p.static else f"N from {p.min} to {p.max}" for p in self.profiles)
            raise EngineError(
                f"the engines {self.target} take {taken}, not {samples} samples at once",
                f"Build them with `--trt-samples {min(samples, self.profiles[0].min)},{samples},"
                f"{max(samples, self.max_samples)}` among the options of `medseg-export build`.",
            )
        return min(fitting, key=lambda index: self.profiles[index].max - self.profiles[index].min)

    def to_json(self) -> str:
        """Return the text of engine.json."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> EngineRecord:
        """Read the text of engine.json.

        Raises:
            ValueError, TypeError, LookupError: not JSON, of another schema version, or with an unusable field.
        """
        content = parse_json(text)
        if content["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"schema version {content['schema_version']!r}, this medseglatdiff reads {SCHEMA_VERSION}")
        record: EngineRecord = typed(cls, content, RECORD_NAME)
        if record.plans.keys() != set(get_args(GraphName)):
            raise ValueError(f"plans are {', '.join(record.plans)}, expected {', '.join(get_args(GraphName))}")
        if not record.profiles or not all(1 <= p.min <= p.opt <= p.max for p in record.profiles):
            raise ValueError(f"profiles are {', '.join(map(str, record.profiles)) or 'missing'}")
        return record


@dataclass(frozen=True, slots=True)
class Engines:
    """The checked plans of one target, still serialized."""

    record: EngineRecord
    plans: dict[GraphName, bytes]


def target_name(library: Library, compute_capabilities: tuple[int, ...]) -> str:
    """Return the name of a target's folder: library and compute capabilities. Building for the same target replaces it."""
    return "-".join([library, *(f"sm{sm}" for sm in compute_capabilities)])


def open_engines(bundle: Bundle, library: Library, version: str, compute_capability: int) -> Engines:
    """Return the engines of a bundle that this library can run on this GPU.

    version: the `__version__` of the imported library.
    compute_capability: of the GPU; 86 is 8.6.

    Raises:
        EngineError: there are no engines, none fit, or those that fit are damaged. The message ends with the command that builds them.
    """
    rebuild = rebuild_remedy(bundle.folder, library, compute_capability)
    misfits = []
    for folder in sorted((bundle.folder / ENGINES).glob(f"{library}-*")):
        try:
            record = read_record(folder, rebuild, public_key=bundle.public_key)
        except EngineError as error:  # another target may fit
            misfits.append(error.problem)
            continue
        reason = misfit(record, bundle, library, version, compute_capability)
        if reason is None:
            return Engines(record, {name: _read_plan(folder, plan, rebuild) for name, plan in record.plans.items()})
        misfits.append(f"{printable(folder.name)} {reason}")
    if not misfits:
        raise EngineError(f"the bundle has no {library} engines", rebuild)
    raise EngineError(f"no {library} engines of the bundle fit: {'; '.join(misfits)}", rebuild)


def misfit(record: EngineRecord, bundle: Bundle, library: Library, version: str, compute_capability: int) -> str | None:
    """Return why engines cannot be used here, as the end of a sentence about them; None if they can be."""
    if record.library != library:
        return f"are for {record.library}"
    if not _version_fits(record, version):
        return f"were built by {library} {record.version}, here is {version}"
    if not _gpu_fits(record, compute_capability):
        built_for = ", ".join(map(_dotted, record.compute_capabilities))
        return f"are for compute capability {built_for}, the GPU has {_dotted(compute_capability)}"
    sources = bundle.manifest.graphs if record.precision == "float32" else bundle.manifest.half
    if any(name not in sources or plan.source_sha256 != sources[name].sha256 for name, plan in record.plans.items()):
        return f"were built from other {record.precision} graphs than the bundle's"
    return None


def rebuild_remedy(bundle: Path, library: Library, compute_capability: int | None) -> str:
    """Return the remedy of errors about engines: the command that builds them."""
    ahead = f" --sm {compute_capability}" if library == "tensorrt_rtx" and compute_capability is not None else ""
    return f"Run `medseg-export build {printable(bundle)} {BUILD_OPTION[library]}{ahead}`."


def read_record(folder: Path, remedy: str, *, public_key: bytes | None = None) -> EngineRecord:
    """Read engine.json of one target.

    public_key: that it must be signed with, if any.

    Raises:
        EngineError: it is missing, unreadable, of another schema or not signed; ends with `remedy`.
    """
    content = _read(folder / RECORD_NAME, remedy, limit=MAX_JSON_BYTES)
    if public_key is not None:
        try:
            check_signature(content, folder / f"{RECORD_NAME}{SUFFIX}", public_key, f"{folder.name}/{RECORD_NAME}")
        except BundleError as error:
            raise EngineError(error.problem, error.remedy) from error
    try:
        return EngineRecord.from_json(content.decode("utf-8"))
    except (LookupError, TypeError, ValueError, OverflowError, RecursionError) as error:
        name = f"{printable(folder.name)}/{RECORD_NAME}"
        raise EngineError(f"{name} cannot be used: {type(error).__name__}: {error}", remedy) from error


def _read_plan(folder: Path, plan: Plan, remedy: str) -> bytes:
    name = f"{printable(folder.name)}/{printable(plan.file)}"
    path = folder / plan.file
    if Path(plan.file).name != plan.file or is_link(path):
        raise EngineError(f"{name} lies outside the folder of its record", remedy)
    content = _read(path, remedy)
    if len(content) != plan.bytes or hashlib.sha256(content).hexdigest() != plan.sha256:
        found = f"{len(content):,} bytes of {plan.bytes:,}" if len(content) != plan.bytes else "SHA-256 differs"
        raise EngineError(f"{name} is not the file that its record describes ({found})", remedy)
    return content


def _read(path: Path, remedy: str, *, limit: int = MAX_FILE_BYTES) -> bytes:
    name = f"{printable(path.parent.name)}/{printable(path.name)}"
    return read_bytes(path, EngineError, remedy, name=name, limit=limit)


def _version_fits(record: EngineRecord, version: str) -> bool:
    if record.version == version:
        return True
    built, here = _numbers(record.version), _numbers(version)
    return record.flags.version_compatible and bool(built) and built[0] == here[0] and here > built


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".") if part.isdecimal()]


def _gpu_fits(record: EngineRecord, compute_capability: int) -> bool:
    if record.flags.hardware == "ampere_plus":
        return compute_capability >= 80
    return compute_capability in record.compute_capabilities


def _dotted(compute_capability: int) -> str:
    return f"{compute_capability // 10}.{compute_capability % 10}"
