"""Free memory as the system states it, and decoders that share it."""

import resource
import subprocess
import sys
import threading
import time

import pytest

from medseg_runtime import ImageError
from medseg_runtime.machine import memory
from medseg_runtime.machine.memory import DECODING_BYTES, available_bytes, memory_to_decode

MEGAPIXEL = DECODING_BYTES << 20


def group(folder, limit, used, *, version=2, reclaimable=0):
    """Write the files of a control group."""
    limit_file, used_file, name = {
        1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        2: ("memory.max", "memory.current", "inactive_file"),
    }[version]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / limit_file).write_text(f"{limit}\n")
    (folder / used_file).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 200\nfile 400\nactive_file 50\n{name} {reclaimable}\n")


@pytest.fixture
def machine(tmp_path):
    """A machine of 1000 kB; `place(lines)` says which control groups this process is in."""
    proc, cgroup = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text("MemTotal:  99 kB\nMemAvailable:   1000 kB\n")

    def free(*lines):
        (proc / "self" / "cgroup").write_text("".join(f"{line}\n" for line in lines))
        return available_bytes(proc, cgroup)

    return cgroup, free


def test_without_any_statement_nothing_is_known(tmp_path):
    assert available_bytes(tmp_path / "proc", tmp_path / "cgroup") is None
    assert available_bytes() > 0


def test_the_machines_memory_counts_without_a_limit(machine):
    cgroup, free = machine
    assert free() == 1000 * 1024
    group(cgroup, "max", 600)
    assert free("0::/") == 1000 * 1024
    group(cgroup / "memory", 9223372036854771712, 600, version=1)
    assert free("4:memory:/", "0::/") == 1000 * 1024


@pytest.mark.parametrize("version", [1, 2])
def test_the_tightest_of_all_groups_above_counts(machine, version):
    cgroup, free = machine
    top = cgroup / "memory" if version == 1 else cgroup
    line = "4:cpu,memory:/a/b/c" if version == 1 else "0::/a/b/c"
    group(top / "a/b/c", 10_000, 1000, version=version)
    assert free(line) == 9000
    group(top / "a", 8000, 1000, version=version)
    assert free(line) == 7000
    group(top / "a/b", 6000, 5000, version=version)
    assert free(line) == 1000
    group(top / "a/b", 6000, 5000, version=version, reclaimable=3000)
    assert free(line) == 4000  # the system gives up files that it keeps
    group(top / "a/b", 6000, 7000, version=version)
    assert free(line) == 0


def test_version_2_beside_version_1(machine):
    cgroup, free = machine
    group(cgroup / "unified" / "a", 5000, 1000)
    assert free("4:memory:/", "0::/a") == 4000


@pytest.mark.parametrize("path", ["/docker/0123", "/../../other"])
def test_a_container_whose_path_is_the_hosts(machine, path):
    cgroup, free = machine
    group(cgroup, 5000, 1000)
    assert free(f"0::{path}") == 4000


def test_the_address_space_counts():
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\n"
        "from medseg_runtime.machine.memory import available_bytes; print(available_bytes())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0 < int(done.stdout) < 1 << 30
    assert resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY or available_bytes() is not None


def test_an_image_that_does_not_fit_is_refused(monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: MEGAPIXEL)
    with memory_to_decode() as promise:
        promise(1024, 1024)
    with memory_to_decode() as promise, pytest.raises(ImageError, match="decoding this image needs"):
        promise(1024, 1025)
    with memory_to_decode() as promise:
        promise(1024, 1024)  # nothing is kept of the one before


def test_images_at_once_wait_for_each_other(monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: 2 * MEGAPIXEL)
    at_work, most, lock = [], [], threading.Lock()

    def decode():
        with memory_to_decode() as promise:
            promise(1024, 1024)
            with lock:
                at_work.append(1)
                most.append(len(at_work))
            time.sleep(0.02)
            with lock:
                at_work.pop()

    threads = [threading.Thread(target=decode) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 8
    assert max(most) <= 2


def test_a_child_does_not_wait_for_the_parents_decoders():
    code = """
import os
from medseg_runtime.machine import memory
memory.available_bytes = lambda: memory.DECODING_BYTES
with memory.memory_to_decode() as promise:
    promise(1, 1)
    child = os.fork()
    if not child:
        with memory.memory_to_decode() as promise:
            promise(1, 1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=200)
