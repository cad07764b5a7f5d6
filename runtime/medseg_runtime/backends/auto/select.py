"""`auto`: choose the fastest CPU backend and precision with the reference's masks.

The reference is the first installed backend of `BACKENDS`, in float32. Every other pair of backend and precision is compared with it
once for each bundle and machine: first the masks, then the time. The choice is kept in the user's cache folder, so that later runs
start at once and give the same masks. Where nothing can be kept the reference is taken, because a new measurement in each run could
choose another pair, with other masks.

Backends are compared with all threads. The choice holds for any number of threads, so that one image and a folder of images get the
same masks. result.json names backend and precision, and `--backend` and `--precision` ask for them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from medseg_runtime.backends.auto.termination import cleaning_up
from medseg_runtime.backends.auto.trials import SAMPLES, Trial, run_trials
from medseg_runtime.backends.base import Backend, PrecisionName
from medseg_runtime.backends.registry import BACKENDS, installed, load_backend
from medseg_runtime.errors import BackendError, ParameterError
from medseg_runtime.files import cache
from medseg_runtime.files.typed_json import parse_json, typed
from medseg_runtime.machine.processor import processor
from medseg_runtime.machine.shortage import names_shortage
from medseg_runtime.model.bundle import Bundle, Precision

CACHE_VERSION = 2
"""Raise it when the comparison or its tolerances change, or a backend becomes faster."""
MIN_SPEEDUP = 1.1
"""Least speedup over the reference. Less cannot be told from noise on a busy machine."""
ONLY_CANDIDATE = "no other backend is installed"
NOT_KEPT = "there is no cache folder to keep a comparison of backends in"
COMPARISON_UNFINISHED = "an earlier comparison of backends did not finish; medseg-doctor says how to repeat it"
"""Kept while backends are compared: if one of them crashes the process each time, no later run tries it again. Removed when the process
is told to end."""
MAX_ATTEMPTS = 2
"""Comparisons that are begun. The first may have been killed, or have lost power. A backend that crashes does so again."""
SHORTAGE = "for want of threads, memory or open files the backends could not be compared; the next run does it"

Candidate = tuple[str, Precision]


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """A backend and precision, and why `auto` takes it."""

    backend: str
    precision: Precision
    why: str
    attempts: int = 0
    """Comparisons that did not finish."""


def open_fastest(bundle: Bundle, *, precision: PrecisionName = "auto", threads: int | None = None) -> Backend:
    """Load a bundle into the fastest backend. Compare the backends first if that is not known.

    Raises:
        ParameterError: no backend computes in that precision here.
        BackendError: no backend is installed, or it refuses the graphs.
    """
    choice = known_choice(bundle, precision=precision)
    if choice is None or choice.why == COMPARISON_UNFINISHED:
        with cache.locked(f"{_cache_name(bundle, precision)}.lock"):  # another process may be comparing them
            choice = known_choice(bundle, precision=precision) or _compare(bundle, precision)
    return _start(choice, bundle, threads)


def known_choice(bundle: Bundle, *, precision: PrecisionName = "auto") -> Choice | None:
    """Return what `auto` will take; None if the backends have to be compared first.

    Backends that are not taken are not imported.

    Raises:
        ParameterError, BackendError: as `open_fastest`.
    """
    choice = _kept(_cache_name(bundle, precision))
    if choice is not None and choice.backend in BACKENDS and installed(choice.backend) is not None:
        repeats = choice.why == COMPARISON_UNFINISHED and choice.attempts < MAX_ATTEMPTS
        return None if repeats else choice
    candidates = _candidates(precision)
    return _first(candidates, ONLY_CANDIDATE) if len(candidates) == 1 else None


def _kept(name: str) -> Choice | None:
    kept = cache.load(name)
    try:
        choice: Choice | None = None if kept is None else typed(Choice, parse_json(kept.content.decode()), "choice")
    except (ValueError, TypeError, RecursionError):
        return None
    return choice


def _compare(bundle: Bundle, precision: PrecisionName) -> Choice:
    """Compare the candidates, and keep the choice."""
    candidates, name = _candidates(precision), _cache_name(bundle, precision)
    before = _kept(name)
    unfinished = replace(
        _first(candidates, COMPARISON_UNFINISHED), attempts=1 if before is None else before.attempts + 1
    )
    with cleaning_up():
        try:
            if not cache.store(name, _to_json(unfinished)):
                return _first(candidates, NOT_KEPT)
            choice = decide(_run_trials(candidates, bundle))
        except BaseException as error:  # told to end, too: the comparison is repeated then
            cache.remove(name)
            if isinstance(error, BackendError) and names_shortage(error):
                return _first(candidates, SHORTAGE)
            raise
        cache.store(name, _to_json(choice))
    return choice


def _run_trials(candidates: Sequence[Candidate], bundle: Bundle) -> list[Trial]:
    backends: list[Backend] = []
    try:
        for name, precision in candidates:
            try:
                backends.append(load_backend(name, bundle, precision=precision))
            except BackendError as error:
                if not backends or names_shortage(error):
                    raise  # without the reference there is nothing to compare with
        return run_trials(backends, bundle.manifest)
    finally:
        for backend in backends:
            backend.close()


def decide(trials: Sequence[Trial]) -> Choice:
    """Choose the fastest backend that passes, or the reference if that is not `MIN_SPEEDUP` times faster.

    trials: the reference first.
    """
    reference, *others = trials
    faster = [
        other for other in others if other.passes() and other.milliseconds * MIN_SPEEDUP <= reference.milliseconds
    ]
    best = min(faster, key=lambda trial: trial.milliseconds, default=reference)
    why = _better(best, reference) if best is not reference else _best(reference, others)
    return Choice(backend=best.backend, precision=best.precision, why=why)


def _better(best: Trial, reference: Trial) -> str:
    return (
        f"{best.milliseconds:.0f} ms for {SAMPLES} samples against {reference.milliseconds:.0f} of {reference.backend} in "
        f"{reference.precision}, and the same masks: Dice {best.dice:.4f}, mean probability within {best.probability:.2g}"
    )


def _best(reference: Trial, others: Sequence[Trial]) -> str:
    if not others:
        return "no other backend could be loaded"
    rejected = ", ".join(f"{other.backend} in {other.precision} {_rejected(other)}" for other in others)
    return f"{reference.milliseconds:.0f} ms for {SAMPLES} samples, and no other was better: {rejected}"


def _rejected(trial: Trial) -> str:
    if trial.passes():
        return f"{trial.milliseconds:.0f} ms"
    return f"other masks (Dice {trial.dice:.4f}, mean probability off by {trial.probability:.2g})"


def _candidates(precision: PrecisionName) -> list[Candidate]:
    """Return the CPU backends and their precisions, the reference first.

    Raises:
        ParameterError, BackendError: there is none.
    """
    found = {name: cls for name in BACKENDS if BACKENDS[name].device == "cpu" and (cls := installed(name)) is not None}
    if not found:
        extra = next(iter(BACKENDS.values())).extra
        raise BackendError("no backend is installed", f"Run `pip install 'medseglatdiff[{extra}]'`.")
    candidates: list[Candidate] = [
        (name, each) for name, cls in found.items() for each in cls.precisions() if precision in ("auto", each)
    ]
    if not candidates:
        raise ParameterError(
            f"none of {', '.join(found)} multiplies in {precision} on this machine", "Use --precision auto."
        )
    return sorted(candidates, key=lambda pair: pair[1] != "float32")  # stable: otherwise in the order of the table


def _first(candidates: Sequence[Candidate], why: str) -> Choice:
    return Choice(backend=candidates[0][0], precision=candidates[0][1], why=why)


def _start(choice: Choice, bundle: Bundle, threads: int | None) -> Backend:
    backend = load_backend(choice.backend, bundle, precision=choice.precision, threads=threads)
    backend.why = choice.why
    return backend


def _cache_name(bundle: Bundle, precision: PrecisionName) -> str:
    """Return a name made of everything that the choice depends on."""
    libraries = {name: _installation(spec.library) for name, spec in BACKENDS.items() if spec.device == "cpu"}
    parts = [CACHE_VERSION, bundle.sha256, precision, libraries, str(processor())]
    return f"choice/{hashlib.sha256(json.dumps(parts).encode()).hexdigest()}.json"


def _installation(library: str) -> list[str | int] | None:
    """Return where and when a package was installed, which identifies its version without importing it."""
    spec = find_spec(library)
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        return None
    return [spec.origin, Path(spec.origin).stat().st_mtime_ns]


def _to_json(choice: Choice) -> bytes:
    return json.dumps(dataclasses.asdict(choice), indent=2).encode()
