"""Folders that others write to as well: no link is followed, and nothing of others or of a living run is touched."""

import os
import subprocess
import sys

import pytest

from medseg_runtime import OutputError
from medseg_runtime.files import publish
from medseg_runtime.files.publish import PARTIAL, FolderKind, published
from medseg_runtime.files.sweep import STALE_SECONDS, remove_files, remove_folder, remove_stale

KIND = FolderKind("thing", "mark", frozenset({"mark", "data"}))


@pytest.fixture
def victim(tmp_path):
    """A folder of the user elsewhere, with a sub-folder that only he may read; at the end it must be as it was."""
    folder = tmp_path / "victim"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "file").write_text("kept")
    folder.chmod(0o750)
    (folder / "inner").chmod(0o550)
    yield folder
    assert [path.stat().st_mode & 0o777 for path in (folder, folder / "inner")] == [0o750, 0o550]
    assert (folder / "inner" / "file").read_text() == "kept"


@pytest.fixture
def parent(tmp_path):
    publish._remove_stale.cache_clear()
    (tmp_path / "parent").mkdir()
    return tmp_path / "parent"


def write(out, *, force=False):
    with published(out, KIND, force=force) as folder:
        (folder / "mark").write_text("new")


def stale(parent, name="old"):
    folder = parent / f"{PARTIAL}{name}"
    folder.mkdir()
    (folder / "mark").write_text("left")
    os.utime(folder, (0, 0))
    return folder


def test_a_planted_link_is_not_followed(parent, victim):
    (parent / f"{PARTIAL}x").symlink_to(victim)
    os.utime(victim, (0, 0))
    write(parent / "out")
    assert (parent / f"{PARTIAL}x").is_symlink()


def test_a_link_in_what_was_left_is_not_followed(parent, victim):
    folder = stale(parent)
    (folder / "data").symlink_to(victim)
    os.utime(folder, (0, 0))
    write(parent / "out")
    assert not folder.exists()


def test_a_link_that_leads_to_itself_fails_no_run(parent):
    (parent / f"{PARTIAL}x").symlink_to(f"{PARTIAL}x")
    write(parent / "out")


def test_what_is_no_folder_is_left_alone(parent):
    (parent / f"{PARTIAL}file").write_text("")
    os.mkfifo(parent / f"{PARTIAL}pipe")
    for path in parent.iterdir():
        os.utime(path, (0, 0))
    write(parent / "out")
    assert len(list(parent.iterdir())) == 3


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_what_belongs_to_somebody_else_is_left_alone(parent):
    folder = stale(parent)
    os.chown(folder, 12345, -1)
    write(parent / "out")
    assert (folder / "mark").exists()


WRITER = """
import os, sys
from pathlib import Path
from medseg_runtime.files.publish import FolderKind, published
with published(Path(sys.argv[1]), FolderKind("thing", "mark", frozenset({"mark"})), force=False) as folder:
    (folder / "mark").write_text("slow")
    os.utime(folder, (0, 0))  # the clock has jumped
    print(folder, flush=True)
    sys.stdin.readline()
"""


def test_the_folder_of_a_living_run_is_left_alone_whatever_the_clock_says(parent):
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, parent / "slow"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as running:
        folder = running.stdout.readline().strip()
        write(parent / "out")
        assert os.path.exists(folder)  # noqa: PTH110 - as printed
        running.communicate("\n")
    assert running.returncode == 0
    assert (parent / "slow" / "mark").read_text() == "slow"


def test_the_folder_of_a_killed_run_is_removed(parent):
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, parent / "slow"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as running:
        running.stdout.readline()
        running.kill()
    assert len(list(parent.iterdir())) == 1
    write(parent / "out")
    assert [path.name for path in parent.iterdir()] == ["out"]


def test_read_only_folders_are_removed_too(parent):
    folder = stale(parent)
    (folder / "data" / "deep").mkdir(parents=True)
    (folder / "data").chmod(0o500)
    remove_folder(folder)
    assert not folder.exists()
    remove_folder(folder)
    remove_stale(parent / "missing", PARTIAL)


def test_a_hidden_folder_that_somebody_exchanges_is_not_published(parent, victim):
    def exchanged():
        with published(parent / "out", KIND, force=False) as folder:
            (folder / "mark").write_text("new")
            folder.rename(parent / "aside")
            folder.symlink_to(victim)

    with pytest.raises(OutputError, match=r"its hidden folder was exchanged\. Run it again, or choose"):
        exchanged()
    assert not (parent / "out").exists()


def test_too_few_descriptors_are_not_called_a_full_disk(parent):
    code = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from medseg_runtime.files.publish import FolderKind, published\n"
        "with published(Path(sys.argv[1]), FolderKind('thing', 'mark', frozenset({'mark'})), force=False) as folder:\n"
        "    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
        "    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))\n"
        "    (folder / 'mark').write_text('new')\n"
    )
    done = subprocess.run([sys.executable, "-c", code, parent / "out"], capture_output=True, text=True, check=False)
    assert "Too many open files. Raise the limit of open files" in done.stderr


def test_old_files_of_a_prefix_are_removed_and_nothing_else(parent):
    for name in (".part-old", ".part-new", "other"):
        (parent / name).write_text("")
    (parent / ".part-folder").mkdir()
    (parent / ".part-link").symlink_to(parent / "other")
    for name in (".part-old", "other", ".part-folder"):
        os.utime(parent / name, (0, 0))
    remove_files(parent, ".part-", older_seconds=STALE_SECONDS)
    assert {path.name for path in parent.iterdir()} == {".part-folder", ".part-link", ".part-new", "other"}
    remove_files(parent, ".part-", older_seconds=0)
    assert {path.name for path in parent.iterdir()} == {".part-folder", ".part-link", "other"}


def test_files_are_not_removed_through_a_link(parent, victim):
    (victim / ".part-x").write_text("")
    (parent / "state").symlink_to(victim)
    remove_files(parent / "state", ".part-", older_seconds=0)
    assert (victim / ".part-x").exists()
