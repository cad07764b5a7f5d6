"""A folder appears whole or not at all: flushed before it is named, killed at any moment, raced by another, on a full disk."""

import hashlib
import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medseg_runtime import OutputError
from medseg_runtime.files import publish
from medseg_runtime.files.publish import PARTIAL, REPLACED, FolderKind, published

KILLS = 30
KIND = FolderKind("thing", "mark", frozenset({"mark", "data"}))
INFER = """
import os, random, signal, sys
from medseg_runtime import Segmenter
from medseg_runtime.commands import infer as infer_command
from medseg_runtime.readers import image as image_reader
from medseg_runtime.figures import overlay
from medseg_runtime.commands import audit
from medseg_runtime.writers import folder as result_folder
from medseg_runtime.readers import target
from medseg_runtime.readers.raster import image as raster
from medseg_runtime.testing import toy_segmenter

Segmenter.load = lambda bundle, **_: toy_segmenter()

def infer(*options):
    "In a process of its own, which forks from this one because starting Python takes ten times as long as the run."
    child = os.fork()
    if child == 0:
        sys.argv = ["medseg-infer", "image.png", "--out", "out", "--samples", "6", *options]
        said = os.open(f"said-{os.getpid()}", os.O_CREAT | os.O_WRONLY, 0o600)
        os.dup2(said, 1)
        os.dup2(said, 2)
        try:
            infer_command.main()
        except SystemExit as error:
            os._exit(error.code)
        finally:
            os._exit(70)
    return child
"""


def script(code, folder):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (96, 96), np.uint8)).save(folder / "image.png")
    return subprocess.run([sys.executable, "-c", INFER + code], cwd=folder, check=True, capture_output=True, text=True)


def assert_whole(out):
    """Every file that result.json names is there and is the one, and there is no other."""
    record = json.loads((out / "result.json").read_text())
    files = [path for path in out.rglob("*") if path.is_file() and path.name != "result.json"]
    found = {path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    assert found == record["outputs"]
    assert len(list((out / "masks").iterdir())) == record["sampling"]["samples"]


def fill(folder, text="new"):
    (folder / "mark").write_text(text)
    (folder / "data").mkdir()
    (folder / "data" / "x").write_text(text)


def publish_(out, text="new", *, force=False):
    with published(out, KIND, force=force) as folder:
        fill(folder, text)


@pytest.fixture
def exchanged(tmp_path):
    one, other = _filled(tmp_path / "one"), tmp_path / "other"
    other.mkdir()
    if not publish._exchange(one, other):
        pytest.skip("this file system has no RENAME_EXCHANGE: a kill between two renames leaves the older one hidden")
    return one, other


# --- kills -------------------------------------------------------------------------------------------------------------

KILL = """
import itertools, mmap, struct

calls, last = mmap.mmap(-1, 8), 0  # the mapping is shared with the children

def count_calls():
    "Count the functions that a run calls once it writes, and kill it at the last-th."
    counter = itertools.count(1)

    def count(frame, event, argument):
        if event in ("call", "c_call"):
            number = next(counter)
            calls[:] = struct.pack("q", number)
            if number == last:
                os.kill(os.getpid(), signal.SIGKILL)

    def begin(event, arguments):
        if event == "os.mkdir" and ".medseg-partial-" in str(arguments[0]):
            sys.setprofile(count)

    sys.addaudithook(begin)

def ended(*options):
    return os.waitstatus_to_exitcode(os.waitpid(infer("--force", *options), 0)[1])

os.register_at_fork(after_in_child=count_calls)
assert ended() == 0
(all_of_them,) = struct.unpack("q", calls)
moments, hit = random.Random(1), 0
for kill in range(KILLS):
    last = moments.randint(1, all_of_them)
    hit += ended("--seed", str(kill)) == -signal.SIGKILL
    if kill % 4 == 3 and os.path.exists("out"):  # the next one finds none
        os.rename("out", f"kept-{kill}")
print(hit)
"""


@pytest.mark.slow
def test_thirty_kills_leave_whole_results_alone(tmp_path):
    done = script(f"KILLS = {KILLS}\n{KILL}", tmp_path)
    assert int(done.stdout.splitlines()[-1]) >= KILLS // 2  # the others called fewer functions
    results = [path for path in tmp_path.iterdir() if path.name == "out" or path.name.startswith("kept-")]
    assert results
    for out in results:
        assert_whole(out)
    assert not list(tmp_path.glob(f"{REPLACED}*"))


CRASH = """
import itertools, os, shutil, sys
from pathlib import Path
from medseg_runtime.files.publish import FolderKind, published

KIND = FolderKind("thing", "mark", frozenset({"mark", "data"}))
out = Path("out")
os.fsync = lambda descriptor: None  # the kernel keeps what a process that dies has written, and there are a thousand of them

def publish(text):
    with published(out, KIND, force=True) as folder:
        (folder / "mark").write_text(text)
        (folder / "data").write_text(text)

def dies_at(line):
    "Publish in a process of its own that ends without a word at its line-th line of Python, in whatever library that is."
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    left = line
    def trace(frame, event, argument):
        nonlocal left
        left -= event == "line"
        if left == 0:
            os._exit(9)
        return trace
    sys.settrace(trace)
    try:
        publish("new")
    finally:
        os._exit(0)

for line in itertools.count(1):
    shutil.rmtree(out, ignore_errors=True)
    publish("old")
    died = dies_at(line)
    print((out / "mark").read_text(), (out / "data").read_text())
    for rest in Path().glob(".medseg-*"):
        shutil.rmtree(rest)
    if not died:
        break
"""


@pytest.mark.slow
@pytest.mark.usefixtures("exchanged")
def test_an_end_at_any_line_leaves_the_older_folder_or_the_new_one(tmp_path):
    """Thirty kills at random may all miss a gap of a microsecond; this one tries every gap between two lines."""
    done = subprocess.run([sys.executable, "-c", CRASH], cwd=tmp_path, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    states = done.stdout.splitlines()
    assert set(states) == {"old old", "new new"}
    assert states == sorted(states, reverse=True)  # once the new one stands, it stays
    assert len(states) > 100


def test_what_kills_leave_is_swept_when_it_is_old(tmp_path):
    stale, fresh = tmp_path / f"{PARTIAL}old", tmp_path / f"{PARTIAL}new"
    for folder in (stale, fresh):
        folder.mkdir()
        fill(folder)
    os.utime(stale, (0, 0))
    publish_(tmp_path / "out")
    assert not stale.exists()
    assert fresh.exists()  # another run may be writing it


def test_a_folder_of_many_results_is_looked_through_once(tmp_path, monkeypatch):
    looked, look = [], publish.remove_stale
    monkeypatch.setattr(publish, "remove_stale", lambda folder, prefix: looked.append(folder) or look(folder, prefix))
    for number in range(3):
        publish_(tmp_path / str(number))
    assert looked == [tmp_path]


def test_a_folder_that_someone_is_in_is_refused_at_once(tmp_path, monkeypatch):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "in")
    for out in (Path(), Path(".."), Path("deep/.."), tmp_path / "in", Path("/proc")):
        with pytest.raises(OutputError, match=r"a new folder in it|other files"), published(out, KIND, force=True):
            pytest.fail("it was begun")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["deep", "in"]


def test_what_stands_is_not_denied_when_its_name_cannot_be_flushed(tmp_path, monkeypatch):
    sync = publish._sync

    def refusing(path):
        if path == tmp_path:
            raise PermissionError(13, "Permission denied")
        sync(path)

    monkeypatch.setattr(publish, "_sync", refusing)
    publish_(tmp_path / "out")
    assert (tmp_path / "out" / "mark").exists()


# --- races -------------------------------------------------------------------------------------------------------------

RACE = """
for name in range(ROUNDS):
    children = [infer(*OPTIONS, "--seed", str(seed)) for seed in range(3)]
    print(*sorted(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
    os.rename("out", f"round-{name}")
"""


def test_of_runs_into_one_folder_one_wins_and_the_others_say_so(tmp_path):
    done = script("OPTIONS, ROUNDS = (), 5\n" + RACE, tmp_path)
    assert done.stdout.splitlines() == ["0 1 1"] * 5
    said = [path.read_text() for path in tmp_path.glob("said-*")]
    assert sum("exists already" in text or "by another run" in text for text in said) == 10
    for out in tmp_path.glob("round-*"):
        assert_whole(out)
    assert not list(tmp_path.glob(".medseg*"))


def test_with_force_the_last_one_wins_whole(tmp_path):
    done = script("OPTIONS, ROUNDS = ('--force',), 5\n" + RACE, tmp_path)
    assert done.stdout.splitlines() == ["0 0 0"] * 5
    for out in tmp_path.glob("round-*"):
        assert_whole(out)
    assert not list(tmp_path.glob(".medseg*"))


def test_whoever_comes_second_is_told(tmp_path):
    with pytest.raises(OutputError, match="by another run meanwhile"):  # between the last look and the rename
        publish._swap(_filled(tmp_path / "second"), _filled(tmp_path / "first"), force=False)
    assert (tmp_path / "first" / "mark").exists()


def _filled(folder):
    folder.mkdir()
    fill(folder)
    return folder


# --- the disk ----------------------------------------------------------------------------------------------------------


def test_every_file_and_folder_is_flushed_before_the_name_and_the_name_after(tmp_path, monkeypatch):
    out, flushed = tmp_path / "deep" / "er" / "out", []
    sync, rename = os.fsync, Path.rename

    def record(descriptor):
        flushed.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        sync(descriptor)

    def renamed(self, target):
        flushed.append("renamed")
        partial.append(str(self))
        return rename(self, target)

    partial = []
    monkeypatch.setattr(os, "fsync", record)
    monkeypatch.setattr(Path, "rename", renamed)
    publish_(out)
    before, after = flushed[: flushed.index("renamed")], flushed[flushed.index("renamed") + 1 :]
    (folder,) = partial
    assert sorted(before) == [folder, f"{folder}/data", f"{folder}/data/x", f"{folder}/mark"]
    assert set(after) == {str(tmp_path / "deep" / "er"), str(tmp_path / "deep"), str(tmp_path)}


@pytest.mark.parametrize("exchange", [True, False], ids=["exchange", "two renames"])
def test_an_older_folder_is_replaced_with_either_means(tmp_path, monkeypatch, exchange):
    if not exchange:
        monkeypatch.setattr(publish, "_exchange", lambda *_: False)
    publish_(tmp_path / "out", "old")
    publish_(tmp_path / "out", "new", force=True)
    assert (tmp_path / "out" / "data" / "x").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_older_folder_comes_back_when_the_second_rename_fails(tmp_path, monkeypatch):
    publish_(tmp_path / "out", "old")
    rename = Path.rename
    failed = []

    def failing(self, target):
        if self.name.startswith(PARTIAL) and target.name == "out":
            failed.append(target)
            raise OSError(39 if len(failed) == 1 else 5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(publish, "_exchange", lambda *_: False)
    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OutputError, match="Input/output error"):
        publish_(tmp_path / "out", force=True)
    assert len(failed) == 2
    assert (tmp_path / "out" / "mark").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_two_folders_exchange_their_names(exchanged):
    one, other = exchanged
    assert (other / "mark").exists()
    assert not (one / "mark").exists()


@pytest.mark.parametrize("room", [0, 3000])
def test_a_full_disk_is_one_line_and_leaves_nothing(room, tmp_path):
    """The largest file that a process may write stands for the room on the disk."""
    Image.fromarray(np.zeros((96, 96), np.uint8)).save(tmp_path / "image.png")
    run = "import sys; sys.argv = ['medseg-infer', 'image.png', '--out', 'out']; infer_command.main()"
    done = subprocess.run(
        [sys.executable, "-c", INFER + run],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room, room)),
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(
        r"medseg-infer: error: image\.png: out cannot be written: .*\. Free some space, or choose another --out\.\n",
        done.stderr,
    )
    assert [path.name for path in tmp_path.iterdir()] == ["image.png"]
