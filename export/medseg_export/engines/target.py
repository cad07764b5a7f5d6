"""Turn the options of `medseg-export` into build targets: library, GPU, compute capabilities, profiles and flags."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from medseg_export.engines.to_tensorrt import Target, capability_members
from medseg_runtime.backends.gpu.tensorrt.engine_files import Flags, Library, Profile
from medseg_runtime.errors import EngineError, ParameterError
from medseg_runtime.machine.gpu import find_gpu
from medseg_runtime.model.bundle import MAX_BATCH

EXTRA: dict[Library, str] = {"tensorrt": "trt", "tensorrt_rtx": "trt-rtx"}
"""Library -> the extra of medseglatdiff that installs it."""
RTX_DEFAULT = "86,89,120"
"""Ampere, Ada and Blackwell: GeForce 30, 40 and 50, and the RTX workstation GPUs of these generations."""


def targets(*, trt: bool, trt_rtx: bool, sm: str | None, samples: list[str], flags: Flags) -> list[Target]:
    """Return the targets to build for; empty without `trt` and `trt_rtx`.

    sm: compute capabilities for `trt_rtx`, as 86,89,120; None: these three.
    samples: the text of each profile, see `profile_from`.

    Raises:
        ParameterError: an option cannot be read.
        EngineError: a library, or the GPU it needs, is missing.
    """
    if sm is not None and not trt_rtx:
        raise ParameterError(
            "--sm is given without --trt-rtx", "Leave it out: --trt builds for the GPU in this machine."
        )
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
    """Return the target of RTX GPUs that need not be in this machine.

    Raises:
        EngineError: TensorRT-RTX is not installed, or does not support one of the compute capabilities.
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
    """Parse `MIN,OPT,MAX`, or `N` for an engine that accepts exactly N samples.

    Raises:
        ParameterError: the text is neither, or not in rising order from 1 to 64.
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
    """Parse a list such as `86,89,120`, which stands for 8.6, 8.9 and 12.0. Sort it and drop duplicates.

    Raises:
        ParameterError: the text is not such a list.
    """
    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise ParameterError(f"--sm {text!r} is no list of compute capabilities", "Give them as 86,89,120.")
    return tuple(sorted({int(part) for part in parts}))
