"""`auto`: the fastest engine and precision of this CPU that draw the masks of the reference.

The reference is the first engine of `BACKENDS` that is installed, in float32. Every other pair of engine and precision is held
against it once for a bundle on a machine: masks first, then time. What is found is kept in the user's cache folder, so that later
runs start at once and take the same. Where nothing can be kept the reference is taken, for a choice that is measured anew by every
run could be another each time, and with it the masks.

Engines are compared on all threads and the choice holds for any number of them, so that one image and a folder of images are
drawn alike.

The same command draws the same masks as long as it takes the same engine in the same precision: both stand in result.json, and
`--backend` and `--precision` name them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from medseg_runtime.backends.auto.trials import SAMPLES, Trial, run_trials
from medseg_runtime.backends.base import Backend, PrecisionName
from medseg_runtime.backends.registry import BACKENDS, installed, open_backend
from medseg_runtime.errors import BackendError, ParameterError
from medseg_runtime.files import cache
from medseg_runtime.files.typed_json import typed
from medseg_runtime.machine.processor import processor
from medseg_runtime.model.bundle import Bundle, Precision

COMPARISON = 2
"""Of which kind it is; another number where other things are compared, tolerances change, or an engine of ours became faster."""
WORTH = 1.1
"""How many times faster than the reference another must be; below that, timings on a busy machine say nothing."""
ALONE = "nothing else that is installed here could take its place"
UNKEPT = "there is no cache folder that could keep a comparison of the engines"
COMPARISON_UNFINISHED = "an earlier comparison of the engines did not finish; medseg-doctor says how to repeat it"
"""Stands in the cache while engines are compared: should one of them end the process, the next run does not try it again."""

Candidate = tuple[str, Precision]


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """What `auto` takes."""

    backend: str
    precision: Precision
    why: str


def open_fastest(bundle: Bundle, *, precision: PrecisionName = "auto", threads: int | None = None) -> Backend:
    """Start what is known to be the fastest engine, or find out.

    Raises:
        ParameterError: no engine here multiplies in that precision.
        BackendError: no engine is installed, or it refuses the graphs.
    """
    choice = known_choice(bundle, precision=precision)
    if choice is None or choice.why == COMPARISON_UNFINISHED:
        with cache.locked(f"{_cache_name(bundle, precision)}.lock"):  # another process may be comparing them
            choice = known_choice(bundle, precision=precision) or _compared(bundle, precision)
    return _start(choice, bundle, threads)


def known_choice(bundle: Bundle, *, precision: PrecisionName = "auto") -> Choice | None:
    """Return what `auto` will take, as far as that is known without trying: None until engines were compared.

    An engine that is not taken is not imported.

    Raises:
        ParameterError, BackendError: as `open_fastest`.
    """
    kept = cache.load(_cache_name(bundle, precision))
    try:
        choice: Choice | None = None if kept is None else typed(Choice, json.loads(kept), "choice")
    except (ValueError, TypeError):
        choice = None
    if choice is not None and choice.backend in BACKENDS and installed(choice.backend) is not None:
        return choice
    candidates = _candidates(precision)
    return _first(candidates, ALONE) if len(candidates) == 1 else None


def _compared(bundle: Bundle, precision: PrecisionName) -> Choice:
    """Compare what there is, and keep what was found."""
    candidates, name = _candidates(precision), _cache_name(bundle, precision)
    if not cache.store(name, _to_json(_first(candidates, COMPARISON_UNFINISHED))):
        return _first(candidates, UNKEPT)
    try:
        choice = decide(_tried(candidates, bundle))
    except BaseException:
        cache.remove(name)
        raise
    cache.store(name, _to_json(choice))
    return choice


def _tried(candidates: Sequence[Candidate], bundle: Bundle) -> list[Trial]:
    backends: list[Backend] = []
    try:
        for name, precision in candidates:
            try:
                backends.append(open_backend(name, bundle, precision=precision))
            except BackendError:
                if not backends:
                    raise  # without the reference there is nothing to hold the others against
        return run_trials(backends, bundle.manifest)
    finally:
        for backend in backends:
            backend.close()


def decide(trials: Sequence[Trial]) -> Choice:
    """Take the fastest that passes, and the reference unless that is worth it.

    trials: the reference first.
    """
    reference, *others = trials
    faster = [other for other in others if other.passes() and other.milliseconds * WORTH <= reference.milliseconds]
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
        return "no other engine could be started"
    rejected = ", ".join(f"{other.backend} in {other.precision} {_rejected(other)}" for other in others)
    return f"{reference.milliseconds:.0f} ms for {SAMPLES} samples, and nothing else was better: {rejected}"


def _rejected(trial: Trial) -> str:
    if trial.passes():
        return f"{trial.milliseconds:.0f} ms"
    return f"other masks (Dice {trial.dice:.4f}, mean probability off by {trial.probability:.2g})"


def _candidates(precision: PrecisionName) -> list[Candidate]:
    """Engines of the CPU and their precisions, the reference first.

    Raises:
        ParameterError, BackendError: there is none.
    """
    found = {name: cls for name in BACKENDS if BACKENDS[name].device == "cpu" and (cls := installed(name)) is not None}
    if not found:
        extra = next(iter(BACKENDS.values())).extra
        raise BackendError("no inference engine is installed", f"Run `pip install 'medseglatdiff[{extra}]'`.")
    candidates: list[Candidate] = [
        (name, each) for name, cls in found.items() for each in cls.precisions() if precision in ("auto", each)
    ]
    if not candidates:
        raise ParameterError(
            f"none of {', '.join(found)} multiplies in {precision} on this machine", "Use --precision auto."
        )
    return sorted(candidates, key=lambda pair: pair[1] != "float32")  # stable: the order of the table otherwise


def _first(candidates: Sequence[Candidate], why: str) -> Choice:
    return Choice(backend=candidates[0][0], precision=candidates[0][1], why=why)


def _start(choice: Choice, bundle: Bundle, threads: int | None) -> Backend:
    backend = open_backend(choice.backend, bundle, precision=choice.precision, threads=threads)
    backend.why = choice.why
    return backend


def _cache_name(bundle: Bundle, precision: PrecisionName) -> str:
    """Name everything that the choice depends on."""
    engines = {name: _installation(engine.library) for name, engine in BACKENDS.items() if engine.device == "cpu"}
    made_of = [COMPARISON, bundle.sha256, precision, engines, str(processor())]
    return f"choice/{hashlib.sha256(json.dumps(made_of).encode()).hexdigest()}.json"


def _installation(library: str) -> list[str | int] | None:
    """Where and when a package was installed: another version changes that, and asking for its version would import it."""
    spec = find_spec(library)
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        return None
    return [spec.origin, Path(spec.origin).stat().st_mtime_ns]


def _to_json(choice: Choice) -> bytes:
    return json.dumps(dataclasses.asdict(choice), indent=2).encode()
