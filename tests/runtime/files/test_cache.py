"""The cache folder: damage, absence and other processes cost time, never an error and never a wrong byte."""

import hashlib
import hmac
import os
import subprocess
import sys
import threading

import pytest

from medseg_runtime.files import cache


def held(name):
    return cache.load(name).content


def test_what_is_stored_is_loaded(cache_home):
    assert cache.load("kind/name") is None
    assert cache.store("kind/name", b"content")
    assert held("kind/name") == b"content"
    assert cache.load("kind/name").sha256 == hashlib.sha256(b"content").hexdigest()
    assert list(cache.stored()) == ["kind/name"]
    assert cache.cache_folder() == cache_home
    cache.remove("kind/name")
    assert cache.load("kind/name") is None
    cache.remove("kind/name")


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[:-1] + bytes([whole[-1] ^ 1]),
        lambda whole: whole[:-1],
        lambda whole: whole[: cache.DIGITS],
        lambda _: b"",
    ],
    ids=["a flipped bit", "cut short", "no content", "empty"],
)
def test_a_damaged_file_is_as_good_as_none(cache_home, damage):
    cache.store("name", b"content")
    path = cache_home / "name"
    path.write_bytes(damage(path.read_bytes()))
    assert cache.load("name") is None
    assert cache.store("name", b"content")
    assert held("name") == b"content"


def test_without_a_folder_nothing_is_kept_and_nothing_fails(monkeypatch, tmp_path):
    (tmp_path / "a file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a file"))
    assert not cache.store("kind/name", b"content")
    assert cache.load("kind/name") is None
    assert cache.stored() == {}
    cache.remove("kind/name")


def test_a_user_without_a_home_has_no_folder():
    """As in a container that runs under a number of its own: nothing is written into the working folder."""
    code = (
        "import os, pwd\n"
        "def nobody(uid): raise KeyError(uid)\n"
        "pwd.getpwuid = nobody\n"
        "os.environ.pop('HOME', None), os.environ.pop('XDG_CACHE_HOME', None)\n"
        "from medseg_runtime.files import cache\n"
        "print(cache.cache_folder(), cache.store('name', b'content'), cache.load('name'), cache.stored())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "None False None {}\n", done.stderr


def test_a_failed_write_leaves_nothing(cache_home, monkeypatch):
    cache.store("name", b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.Path, "replace", full)
    assert not cache.store("name", b"new")
    assert [path.name for path in cache_home.iterdir()] == ["name"]
    assert held("name") == b"old"


def test_what_was_not_used_for_longest_goes_first(cache_home, monkeypatch):
    monkeypatch.setattr(cache, "LIMIT_BYTES", 3 * (cache.DIGITS + 1 + 100))
    for age, name in enumerate(("first", "second", "third")):
        cache.store(name, bytes(100))
        os.utime(cache_home / name, (1000 + age, 1000 + age))
    assert held("first") == bytes(100)  # used now
    cache.store("fourth", bytes(100))
    assert set(cache.stored()) == {"first", "third", "fourth"}


def test_what_a_killed_process_left_is_removed_once_it_is_old(cache_home):
    cache.store("kind/one", b"1")
    old, new = (cache_home / "kind" / f".partial-{name}" for name in ("old", "new"))
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    cache.store("kind/two", b"2")
    assert not old.exists()
    assert new.exists()


def test_two_processes_write_and_read_whole_files(cache_home):
    """Each stores its own long content again and again; whatever is read is one of the two."""
    code = (
        "import sys\n"
        "from medseg_runtime.files import cache\n"
        "own = sys.argv[1].encode() * 300_000\n"
        "for _ in range(60):\n"
        "    assert cache.store('name', own)\n"
        "    assert cache.load('name').content in (b'a' * 300_000, b'b' * 300_000)\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, letter]) for letter in "ab"]
    assert [process.wait() for process in running] == [0, 0]
    assert [path.name for path in cache_home.iterdir()] == ["name"]


@pytest.mark.usefixtures("cache_home")
def test_a_folder_that_is_read_only_still_gives_what_it_holds(monkeypatch):
    """As in a container whose cache was filled when it was built."""
    cache.store("name", b"content")

    def refused(*_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(cache.os, "utime", refused)
    assert held("name") == b"content"


@pytest.mark.usefixtures("cache_home")
def test_one_at_a_time_is_in_the_block():
    order = []

    def come_too():
        with cache.locked("lock"):
            order.append("second")

    thread = threading.Thread(target=come_too)
    with cache.locked("lock"):
        thread.start()
        thread.join(0.05)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_where_nothing_can_be_written_nobody_waits(monkeypatch, tmp_path):
    (tmp_path / "a file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a file"))
    with cache.locked("lock"), cache.locked("lock"):
        pass


# --- others who write here ---------------------------------------------------------------------------------------------


def key_of(cache_home):
    return cache_home.with_name("medseglatdiff.key")


def test_the_key_is_this_users_alone(cache_home):
    cache.store("name", b"content")
    status = key_of(cache_home).stat()
    assert (status.st_mode & 0o777, status.st_size, status.st_uid) == (0o600, 32, os.geteuid())
    assert {path.name for path in cache_home.parent.iterdir()} == {"medseglatdiff", "medseglatdiff.key"}


@pytest.mark.parametrize("key", [b"", bytes(32)], ids=["none", "another"])
def test_content_that_others_sealed_is_not_taken(cache_home, key):
    cache.store("name", b"content")
    sha256 = hashlib.sha256(b"others").hexdigest()
    forged = hmac.new(key, f"name\0{sha256}".encode(), hashlib.sha256).hexdigest() if key else sha256
    (cache_home / "name").write_bytes(forged.encode() + b"\nothers")
    assert cache.load("name") is None


def test_content_of_another_name_is_not_taken(cache_home):
    cache.store("one", b"content of one")
    cache.store("other", b"content of the other")
    (cache_home / "one").write_bytes((cache_home / "other").read_bytes())
    assert cache.load("one") is None


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702], ids=oct)
@pytest.mark.parametrize("which", [".", "kind"])
def test_a_folder_that_others_can_write_to_is_not_used(cache_home, which, mode):
    cache.store("kind/name", b"content")
    assert cache.problem() is None
    (cache_home / which).chmod(mode)
    assert cache.load("kind/name") is None
    assert not cache.store("kind/name", b"again")
    assert f"can be written by others (mode {mode:o})" in cache.problem()
    with cache.locked("kind/lock"):
        assert not (cache_home / "kind" / "lock").exists()


@pytest.mark.parametrize("which", [".", "kind", "kind/name"])
def test_a_link_is_not_followed(cache_home, tmp_path, which):
    cache.store("kind/name", b"content")
    elsewhere = (cache_home / which).rename(tmp_path / "elsewhere")
    (cache_home / which).symlink_to(elsewhere)
    assert cache.load("kind/name") is None
    if which != "kind/name":
        assert "is a link" in cache.problem()
        assert not cache.store("kind/name", b"again")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
@pytest.mark.parametrize("which", [".", "kind", "kind/name", "../medseglatdiff.key"])
def test_what_belongs_to_somebody_else_is_not_used(cache_home, which):
    cache.store("kind/name", b"content")
    os.chown(cache_home / which, 12345, -1)
    assert cache.load("kind/name") is None
    if which != "kind/name":
        assert not cache.store("kind/name", b"again")
        assert "belongs to user 12345" in cache.problem() or "that others could have" in cache.problem()


def test_a_key_that_others_may_read_is_none(cache_home):
    cache.store("name", b"content")
    key_of(cache_home).chmod(0o640)
    assert cache.load("name") is None
    assert "medseglatdiff.key, that others could have read" in cache.problem()


def test_folders_are_made_for_this_user_alone(cache_home):
    before = os.umask(0)
    try:
        assert cache.store("kind/name", b"content")
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (cache_home, cache_home / "kind")} == {0o700}
