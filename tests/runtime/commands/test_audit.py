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
from medseg_runtime.commands.audit_check import check_audit
from medseg_runtime.testing import toy_segmenter
from medseg_runtime.writers import audit_line
from medseg_runtime.writers.audit_line import append_record


@pytest.fixture
def infer(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Segmenter, "load", lambda *_, **__: toy_segmenter())

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["medseg-infer", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            infer_command.main()
        lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
        return exit_.value.code, [line for line in lines if line["event"] == "ended"]

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
            append_record(path, {"run_id": "", "who": name, "k": k, "text": "x" * 50_000})

    threads = [threading.Thread(target=write, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    assert sorted((entry["who"], entry["k"]) for entry in entries) == [(a, b) for a in range(4) for b in range(20)]
    assert check_audit(path).broken == []


def test_a_line_that_does_not_fit_is_taken_back(tmp_path, monkeypatch):
    path = tmp_path / "audit.jsonl"
    append_record(path, {"run_id": "first"})
    write = os.write
    monkeypatch.setattr(audit_line.os, "write", lambda descriptor, content: write(descriptor, content[:3]))
    with pytest.raises(OutputError, match="the disk is full"):
        append_record(path, {"run_id": "second"})
    monkeypatch.undo()
    append_record(path, {"run_id": "third"})
    assert [json.loads(line)["run_id"] for line in path.read_text().splitlines()] == ["first", "third"]
    assert check_audit(path).broken == []


# --- before the result, and the chain ----------------------------------------------------------------------------------


def test_a_result_is_announced_before_it_appears(infer, images, tmp_path):
    _, (ended,) = infer(images[0], "--audit", "audit.jsonl")
    announced = json.loads((tmp_path / "audit.jsonl").read_text().splitlines()[0])
    assert announced["event"] == "publishing"
    assert all(announced[key] == ended[key] for key in ("run_id", "outputs", "input_sha256", "bundle", "engine"))


KILLED = """
import os, sys
from medseg_runtime import Segmenter
from medseg_runtime.commands import infer
from medseg_runtime.files import publish
from medseg_runtime.testing import toy_segmenter
Segmenter.load = lambda *_, **__: toy_segmenter()
publish._swap = lambda partial, out, *, force: (partial.rename(out), os._exit(9))
sys.argv = ["medseg-infer", "second.png", "--out", "out", "--audit", "audit.jsonl"]
infer.main()
"""


@pytest.mark.usefixtures("images")
def test_a_run_that_is_killed_once_its_result_stands_has_a_line(tmp_path, run_command):
    from medseg_runtime.commands.doctor import main

    done = subprocess.run([sys.executable, "-c", KILLED], cwd=tmp_path, check=False)
    assert done.returncode == 9
    record = json.loads((tmp_path / "out" / "result.json").read_text())
    (line,) = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert (line["event"], line["run_id"]) == ("publishing", record["run"]["id"])
    assert line["outputs"].items() >= record["outputs"].items()
    code, out, _ = run_command(main, "medseg-doctor", "--audit", tmp_path / "audit.jsonl")
    assert code == 1
    assert f"may have left a result: {record['run']['id']}" in out


def chained(path, count=5):
    for number in range(count):
        append_record(path, {"run_id": str(number), "event": "ended"})
    return path.read_bytes().splitlines(keepends=True)


def test_a_chain_that_is_whole(tmp_path, run_command):
    from medseg_runtime.commands.doctor import main

    path = tmp_path / "audit.jsonl"
    lines = chained(path)
    assert [json.loads(line)["previous_sha256"] for line in lines] == [
        None,
        *(hashlib.sha256(line[:-1]).hexdigest() for line in lines[:-1]),
    ]
    code, out, _ = run_command(main, "medseg-doctor", "--audit", path)
    assert code == 0
    assert "lines          5, of which 0" in out
    assert hashlib.sha256(lines[-1][:-1]).hexdigest() in out


@pytest.mark.parametrize(
    ("damage", "broken"),
    [
        (lambda lines: [lines[0], lines[1].replace(b'"1"', b'"9"'), *lines[2:]], [3]),
        (lambda lines: [lines[0], *lines[2:]], [2]),
        (lambda lines: lines[1:], [1]),
        (lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], [2, 3, 4]),
        (lambda lines: [*lines[:2], b"not JSON\n", *lines[2:]], [3, 4]),
        (lambda lines: [*lines[:2], b'{"run_id": "new"}\n', *lines[2:]], [3, 4]),
        (lambda lines: [*lines, b"[]\n"], [6]),
    ],
    ids=["changed", "removed", "the first removed", "exchanged", "text", "put between", "a list"],
)
def test_a_chain_that_was_changed(tmp_path, run_command, damage, broken):
    from medseg_runtime.commands.doctor import main

    path = tmp_path / "audit.jsonl"
    path.write_bytes(b"".join(damage(chained(path))))
    assert check_audit(path).broken == broken
    code, out, _ = run_command(main, "medseg-doctor", "--audit", path)
    assert code == 1
    assert f"do not continue the line before: {', '.join(map(str, broken))}" in out


def test_lines_of_an_older_version_may_stand_before_the_chain(tmp_path):
    path = tmp_path / "audit.jsonl"
    path.write_text('{"audit_version": 1, "run_id": "a"}\n{"audit_version": 1, "run_id": "b"}\n')
    chained(path, 2)
    check = check_audit(path)
    assert (check.lines, check.unchained, check.broken) == (4, 2, [])


def test_a_line_without_its_end_is_left_as_it_is(tmp_path):
    path = tmp_path / "audit.jsonl"
    path.write_bytes(b"".join(chained(path, 2))[:-5])
    chained(path, 1)
    assert len(path.read_bytes().splitlines()) == 3
    assert check_audit(path).broken == [2]
    assert json.loads(path.read_bytes().splitlines()[2])["run_id"] == "0"


def test_an_audit_file_that_is_not_there(tmp_path, run_command):
    from medseg_runtime.commands.doctor import main

    code, _, err = run_command(main, "medseg-doctor", "--audit", tmp_path / "none")
    assert code == 1
    assert "the audit file cannot be read: No such file" in err


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
