"""The audit file: one line an image, failures too, whole lines alone, and nothing that names a patient or a place."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medseg_runtime import OutputError, Segmenter
from medseg_runtime.commands import infer as infer_command
from medseg_runtime.commands import program
from medseg_runtime.testing import toy_segmenter
from medseg_runtime.writers import audit_line
from medseg_runtime.writers.audit_line import append_line


@pytest.fixture
def infer(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Segmenter, "load", lambda *_, **__: toy_segmenter())

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["medseg-infer", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            infer_command.main()
        lines = (tmp_path / "audit.jsonl").read_text().splitlines()
        return exit_.value.code, [json.loads(line) for line in lines]

    return run


@pytest.fixture
def images(tmp_path):
    for k, name in enumerate(("DOE-JANE.png", "second.png")):
        Image.fromarray(np.full((20, 30), 40 * k, np.uint8)).save(tmp_path / name)
    (tmp_path / "bad.png").write_bytes(b"no image")
    return ["DOE-JANE.png", "bad.png", "second.png"]


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_each_image_has_its_line(infer, images, tmp_path):
    code, lines = infer(*images, "--samples", 2, "--seed", 7, "--audit", "audit.jsonl")
    assert code == 1
    assert [line["exit_status"] for line in lines] == [0, 1, 0]
    assert [line["error"] for line in lines] == [None, "ImageError", None]
    assert [line["input_sha256"] for line in lines] == [sha256(tmp_path / name) for name in images]
    assert len({line["run_id"] for line in lines}) == 3
    first = lines[0]
    assert first["parameters"]["samples"] == 2
    assert first["parameters"]["seed"] == 7
    assert first["bundle"] == {"name": "toy", "sha256": "0" * 64}
    assert first["versions"]["fake"] == "0"
    assert first["engine"]["precision"] == "float32"
    out = tmp_path / "results" / "DOE-JANE"
    assert json.loads((out / "result.json").read_text())["run"]["id"] == first["run_id"]
    assert first["outputs"] == {
        path.relative_to(out).as_posix(): sha256(path) for path in out.rglob("*") if path.is_file()
    }
    text = (tmp_path / "audit.jsonl").read_text()
    assert "DOE" not in text
    assert str(tmp_path) not in text
    assert (tmp_path / "audit.jsonl").stat().st_mode & 0o777 == 0o600


def test_lines_are_added_and_a_run_that_never_starts_leaves_one_for_each_image(infer, images):
    assert infer(images[0], "--samples", 2, "--audit", "audit.jsonl")[0] == 0
    code, lines = infer(*images, "--out", "other", "--samples", 0, "--audit", "audit.jsonl")
    assert code == 1
    assert [line["error"] for line in lines] == [None, *["ParameterError"] * 3]
    assert infer("none-at-all", "--audit", "audit.jsonl")[1][-1]["input_sha256"] is None


def test_an_interrupt_has_a_line_and_its_own_exit_status(infer, images, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(Segmenter, "segment", interrupted)
    code, lines = infer(images[0], "--audit", "audit.jsonl")
    assert code == 130
    assert [line["exit_status"] for line in lines] == [130]


def test_lines_of_many_writers_stay_whole(tmp_path):
    path = tmp_path / "audit.jsonl"

    def write(name):
        for k in range(20):
            append_line(path, json.dumps({"who": name, "k": k, "text": "x" * 5000}))

    threads = [threading.Thread(target=write, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    assert sorted((entry["who"], entry["k"]) for entry in entries) == [(a, b) for a in range(4) for b in range(20)]


def test_a_line_that_does_not_fit_is_taken_back(tmp_path, monkeypatch):
    path = tmp_path / "audit.jsonl"
    append_line(path, "first")
    write = os.write
    monkeypatch.setattr(audit_line.os, "write", lambda descriptor, content: write(descriptor, content[:3]))
    with pytest.raises(OutputError, match="the disk is full"):
        append_line(path, "second")
    monkeypatch.undo()
    append_line(path, "third")
    assert path.read_text() == "first\nthird\n"


@pytest.mark.parametrize(
    ("arguments", "module"),
    [
        (["medseg-infer", "--sampels"], "medseg_runtime.commands.infer"),
        (["medseg-doctor", "now"], "medseg_runtime.commands.doctor"),
        (["medseg-train"], "medseg_trainer.cli"),
        (["medseg-train", "fot"], "medseg_trainer.cli"),
        (["medseg-train", "fit", "tiny", "--seed", "x"], "medseg_trainer.cli"),
        (["medseg-export", "--ckpt"], "medseg_export.cli"),
    ],
)
def test_a_mistyped_command_is_one_line_that_ends_with_the_remedy(arguments, module, monkeypatch, capsys):
    main = pytest.importorskip(module).main
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as exit_:
        main()
    out, err = capsys.readouterr()
    assert (exit_.value.code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith(f"{arguments[0]}: error: ")
    assert err.endswith(f". Run `{arguments[0]} --help` to see how it is used.\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_under_stdout_is_one_line():
    code = "from medseg_runtime.commands.doctor import main; main()"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert (
        done.stderr
        == "medseg-doctor: error: stdout is on a full disk. Free some space, or redirect stdout elsewhere.\n"
    )


def test_a_second_interrupt_exits_without_waiting_for_workers():
    code = """
import atexit, threading, typer
from medseg_runtime.commands.program import run_command
atexit.register(print, "wound up")
threading.Thread(target=threading.Event().wait, name="medseg-lane", daemon=True).start()
app = typer.Typer()
@app.command()
def interrupted():
    print("printed", end="")
    raise KeyboardInterrupt
run_command(app, "a command", extras="")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.strip()) == (130, "printed", "")


def test_silenced_libraries_print_again_afterwards(capfd):
    with program.silent_libraries():
        os.write(2, b"from C")
    os.write(2, b"later")
    assert capfd.readouterr().err == "later"


def test_python_still_prints_while_libraries_are_silenced(tmp_path):
    code = (
        "import os, sys\nfrom medseg_runtime.commands.program import silent_libraries\n"
        "with silent_libraries():\n    os.write(2, b'from C')\n    print('from Python', file=sys.stderr)\n"
        "print('later', file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stderr == "from Python\nlater\n"
