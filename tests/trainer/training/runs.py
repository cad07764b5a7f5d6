"""Compare run folders in tests."""

import json
from hashlib import sha256

from safetensors import safe_open

TEXT = {".json", ".jsonl"}


def contents(run):
    """Return the content of all files of a run by path; tensors as hashes, so that pytest can print a difference."""
    found = {}
    for path in sorted(p for p in run.rglob("*") if p.is_file()):
        name = path.relative_to(run).as_posix()
        if path.suffix == ".safetensors":
            with safe_open(
                path, "np"
            ) as opened:  # the file's bytes are not comparable: the order of its metadata varies
                tensors = {key: opened.get_tensor(key).tobytes() for key in opened.keys()}  # noqa: SIM118
                found[name] = opened.metadata(), {key: sha256(value).hexdigest() for key, value in tensors.items()}
        else:
            found[name] = path.read_text() if path.suffix in TEXT else sha256(path.read_bytes()).hexdigest()
    return found


def losses(run, stage="denoiser"):
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if line["stage"] == stage and "loss" in line]
