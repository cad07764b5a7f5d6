"""Run folders that somebody tampered with: one typed error, and nothing waits, is cast or is passed over in silence."""

import json
import os
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from medseg_runtime.errors import CheckpointError
from medseg_trainer.models.build import build_networks
from medseg_trainer.training.data_record import read_record
from medseg_trainer.training.ema import Ema
from medseg_trainer.training.run_folder import RunFolder
from medseg_trainer.training.stages import denoiser_stage

STATE, WEIGHTS = "state/denoiser.safetensors", "denoiser.safetensors"
DEEP = "[" * 200_000
CYCLE = '{"a": ' * 100_000


@pytest.fixture
def run(reference, tmp_path):
    return shutil.copytree(reference, tmp_path / "run")


@pytest.fixture
def resume(config):
    """resume(run) loads the state of the denoiser, as a resumed training does."""

    def load(run):
        networks = build_networks(config)
        module = denoiser_stage(config, networks.mask_autoencoder, networks.condition, None).module
        parameters = [p for p in module.parameters() if p.requires_grad]
        return RunFolder(run).load_state("denoiser", module, Ema(module, 0.9), torch.optim.AdamW(parameters))

    return load


def rewritten(path, change=lambda tensors: tensors, metadata=None):
    with safe_open(path, "pt") as opened:
        found = opened.metadata()
    save_file(
        {name: tensor.contiguous() for name, tensor in change(load_file(path)).items()},
        path,
        found if metadata is None else metadata,
    )


def one(change):
    """Change the first tensor of several numbers."""

    def changed(tensors):
        name = next(name for name in sorted(tensors) if tensors[name].numel() > 1)
        return tensors | {name: change(tensors[name])}

    return changed


def moments(change):
    return lambda tensors: {name: change(t) if name.startswith("optimiser.") else t for name, t in tensors.items()}


OTHER_TENSORS = {
    "int64": one(lambda t: t.long()),
    "float64": one(lambda t: t.double()),
    "bool": one(lambda t: t > 0),
    "one number for all": one(lambda t: t.reshape(-1)[:1]),
    "NaN": one(lambda t: t * float("nan")),
    "infinite": one(lambda t: t + float("inf")),
    "another name": lambda tensors: tensors | {"another": torch.zeros(1)},
    "none": lambda _: {"another": torch.zeros(1)},
}
OTHER_STATES = OTHER_TENSORS | {
    "no EMA": lambda tensors: {name: t for name, t in tensors.items() if not name.startswith("ema.")},
    "no moments": lambda tensors: {name: t for name, t in tensors.items() if not name.startswith("optimiser.")},
    "negative moments": moments(lambda t: -t.abs() - 1),
    "moments of another shape": moments(lambda _: torch.zeros(7)),
    "no number": lambda tensors: tensors | {"optimiser.x.step": torch.zeros(())},
    "no such parameter": lambda tensors: tensors | {"optimiser.9999.step": torch.zeros(())},
    "more dots": lambda tensors: tensors | {"optimiser.0.1.2": torch.zeros(())},
}


@pytest.mark.parametrize("change", OTHER_TENSORS.values(), ids=OTHER_TENSORS)
def test_other_weights_are_refused(change, run):
    rewritten(run / WEIGHTS, change)
    with pytest.raises(CheckpointError, match=r"^denoiser\.safetensors (does not fit|holds NaN)"):
        RunFolder(run).networks()


@pytest.mark.parametrize("change", OTHER_STATES.values(), ids=OTHER_STATES)
def test_another_state_is_refused(change, run, resume):
    rewritten(run / STATE, change)
    with pytest.raises(CheckpointError, match=r"^state/denoiser\.safetensors (does not fit|holds)"):
        resume(run)


def test_the_state_as_it_was_written_is_taken(run, resume, config):
    assert resume(run).step == config.denoiser.optimisation.steps


@pytest.mark.parametrize(
    "progress",
    [
        "",
        "x",
        "[]",
        "{}",
        "null",
        DEEP,
        '{"step": "2"}',
        '{"step": 2.5}',
        '{"step": true}',
        '{"step": -1}',
        '{"step": 2, "best": NaN}',
        '{"step": 2, "best": "x"}',
        '{"step": 2, "best": 1' + "0" * 400 + "}",
        '{"step": 2, "more": 1}',
        '{"step": 2, "step": 3}',
        '{"step": ' + "9" * 5000 + "}",
    ],
    ids=lambda text: text[:24],
)
def test_an_impossible_progress_is_refused(progress, run, resume):
    rewritten(run / STATE, metadata={"progress": progress})
    for reads in (resume, lambda run: RunFolder(run).check_finished()):
        with pytest.raises(CheckpointError, match="does not say how far its stage is"):
            reads(run)


@pytest.mark.parametrize("metadata", [{}, {"step": "x"}, {"step": "-1"}, {"step": "1.5"}, {"step": "9" * 5000}])
def test_weights_of_no_step_are_refused(metadata, run):
    rewritten(run / WEIGHTS, metadata=metadata)
    with pytest.raises(CheckpointError, match=r"denoiser\.safetensors does not say of which step it is"):
        RunFolder(run).kept()


@pytest.mark.parametrize("content", ["[]", "3", DEEP, CYCLE, '{"layout": 1, "layout": 2}', '{"layout": 3}', "\xff", ""])
def test_a_data_record_of_another_structure_is_refused(content, run):
    (run / "data.json").write_text(content, encoding="latin-1")
    with pytest.raises(CheckpointError, match=r"^data\.json"):
        read_record(run)


@pytest.mark.parametrize(
    "splits", [None, [], {"val": 3}, {"val": {"images": "x"}}, {"val": {"images": 1, "groups": 1}}]
)
def test_splits_of_another_structure_are_refused(splits, run):
    told = json.loads((run / "data.json").read_text()) | {"splits": splits}
    (run / "data.json").write_text(json.dumps(told))
    with pytest.raises(CheckpointError, match=r"data\.json is not as this version writes it"):
        RunFolder(run).kept()


@pytest.mark.parametrize(
    "line",
    [
        b"[]",
        b"3",
        b"{}",
        b"{x",
        b'{"stage": "denoiser"}',
        b'{"stage": "denoiser", "step": "x"}',
        b"\xff",
        b"",
        b"\x00",
        DEEP.encode(),
        b'{"stage": "denoiser", "step": ' + b"1" * 5000 + b"}",
    ],
    ids=lambda line: repr(line[:24]),
)
def test_a_damaged_log_is_refused_and_kept(line, run):
    content = (run / "metrics.jsonl").read_bytes() + line + b"\n"
    (run / "metrics.jsonl").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl is damaged: .*Remove"):
        RunFolder(run).drop_log_after("denoiser", 2)
    assert (run / "metrics.jsonl").read_bytes() == content


NO_FILES = {
    "pipe": os.mkfifo,
    "folder": os.mkdir,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "link to nowhere": lambda path: path.symlink_to("nowhere"),
    "link to itself": lambda path: path.symlink_to(path.name),
}


@pytest.mark.parametrize("make", NO_FILES.values(), ids=NO_FILES)
@pytest.mark.parametrize("name", ["config.json", "data.json", "metrics.jsonl", STATE, WEIGHTS])
def test_what_is_no_file_is_refused_at_once(name, make, run, resume):
    readers = {
        "config.json": lambda: RunFolder(run).config(),
        "data.json": lambda: read_record(run),
        "metrics.jsonl": lambda: RunFolder(run).drop_log_after("denoiser", 2),
        STATE: lambda: resume(run),
        WEIGHTS: lambda: RunFolder(run).networks(),
    }
    (run / name).unlink()
    make(run / name)
    with pytest.raises(CheckpointError, match=name):
        readers[name]()


@pytest.mark.parametrize("content", [DEEP, CYCLE, '{"name": "a", "name": "b"}', "\xff", ""])
def test_a_configuration_of_another_structure_is_refused(content, run):
    (run / "config.json").write_text(content, encoding="latin-1")
    with pytest.raises(CheckpointError, match=r"^config\.json"):
        RunFolder(run).config()


@pytest.mark.parametrize("value", [0, 60_000, 10**9, 10**30])
def test_networks_larger_than_their_weights_are_never_built(value, run):
    told = json.loads((run / "config.json").read_text())
    told["denoiser"]["widths"][1] = value
    (run / "config.json").write_text(json.dumps(told))
    with pytest.raises(CheckpointError, match=r"out of range|does not fit"):
        RunFolder(run).networks()
