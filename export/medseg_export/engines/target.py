"""What engines can be built with: the options of `medseg-export` that name it, and the target that they make."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from medseg_export.engines.to_tensorrt import Target, capability_members
from medseg_runtime.backends.gpu.tensorrt.engine_files import Flags, Library, Profile
from medseg_runtime.errors import EngineError, ParameterError
from medseg_runtime.machine.gpu import find_gpu
from medseg_runtime.model.bundle import MAX_BATCH

EXTRA: dict[Library, str] = {"tensorrt": "trt", "tensorrt_rtx": "trt-rtx"}
"""Library -> the extra that installs it."""
RTX_DEFAULT = "86,89,120"
"""Ampere, Ada and Blackwell: GeForce 30, 40 and 50, and RTX workstations of these generations."""


def targets(*, trt: bool, trt_rtx: bool, sm: str | None, samples: list[str], flags: Flags) -> list[Target]:
    """Return what a command was asked to build for; nothing where it was asked for no engines.

    sm: compute capabilities for `trt_rtx`, as 86,89,120; None: those.
    samples: one text for each profile.

    Raises:
        ParameterError: an option cannot be read.
        EngineError: a library, or the GPU it needs, is not there.
    """
    if sm is not None and not trt_rtx:
        raise ParameterError("--sm is given without --trt-rtx", "Leave it out: --trt builds for the GPU that is here.")
    profiles = tuple(profile_from(text) for text in samples)
    capabilities = compute_capabilities_from(RTX_DEFAULT if sm is None else sm)
    here = [target_here(profiles, flags)] if trt else []
    return here + ([target_ahead(capabilities, profiles, flags)] if trt_rtx else [])


def target_here(profiles: tuple[Profile, ...], flags: Flags) -> Target:
    """Return the target of the GPU in this machine.

    Raises:
        EngineError: there is no GPU, or TensorRT is not installed.
    """
    try:
        gpu = find_gpu()
    except EngineError as error:
        raise EngineError(
            f"{error.problem}, and TensorRT tunes an engine on the GPU that will run it",
            "Run `medseg-export build BUNDLE --trt` on the machine with the GPU, "
            "or build ahead of time for RTX GPUs with `--trt-rtx`.",
        ) from error
    return Target(
        library="tensorrt",
        trt=_imported("tensorrt"),
        gpu=gpu,
        compute_capabilities=(gpu.compute_capability,),
        profiles=profiles,
        flags=flags,
    )


def target_ahead(compute_capabilities: tuple[int, ...], profiles: tuple[Profile, ...], flags: Flags) -> Target:
    """Return a target of RTX GPUs that need not be here.

    Raises:
        EngineError: TensorRT-RTX is not installed, or does not build for one of them.
    """
    trt = _imported("tensorrt_rtx")
    capability_members(trt, compute_capabilities)
    return Target(
        library="tensorrt_rtx",
        trt=trt,
        gpu=None,
        compute_capabilities=compute_capabilities,
        profiles=profiles,
        flags=flags,
    )


def _imported(library: Library) -> ModuleType:
    try:
        return import_module(library)
    except ImportError as error:
        raise EngineError(
            f"{library} cannot be imported: {error}", f"Run `pip install 'medseglatdiff[{EXTRA[library]}]'`."
        ) from error


def profile_from(text: str) -> Profile:
    """Read `MIN,OPT,MAX` samples, or `N` for an engine that takes N and nothing else.

    Raises:
        ParameterError: it is neither, or not in rising order from 1 to 64.
    """
    parts = text.split(",")
    if len(parts) in (1, 3) and all(part.strip().isdecimal() for part in parts):
        low, opt, high = map(int, parts * 3 if len(parts) == 1 else parts)
        if 1 <= low <= opt <= high <= MAX_BATCH:
            return Profile(min=low, opt=opt, max=high)
    raise ParameterError(
        f"--trt-samples {text!r} is no range of samples",
        f"Give MIN,OPT,MAX in rising order from 1 to {MAX_BATCH}, or one number.",
    )


def compute_capabilities_from(text: str) -> tuple[int, ...]:
    """Read `86,89,120`.

    Raises:
        ParameterError: it is not such a list.
    """
    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise ParameterError(f"--sm {text!r} is no list of compute capabilities", "Give them as 86,89,120.")
    return tuple(sorted({int(part) for part in parts}))
