"""Limits of control groups, written into a folder."""

import mmap
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from model import resources
from model.resources import Tidying, own_memory, usable_cores, usable_memory

GIB = 2**30


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty tree of control groups on a machine of 64 cores and 256 GiB."""
    monkeypatch.setattr(resources, "_GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(resources, "_OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 256 * GIB, "SC_PAGE_SIZE": 1}.get)
    return tmp_path


def write(groups: Path, own: str, **files: str) -> None:
    (groups / "own").write_text(own)
    for name, text in files.items():
        file = groups / "cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def test_without_limits_the_machine_counts(groups: Path) -> None:
    assert (usable_cores(), usable_memory()) == (64, 256 * GIB)
    write(groups, "0::/\n", **{"cpu.max": "max 100000\n", "memory.max": "max\n"})
    assert (usable_cores(), usable_memory()) == (64, 256 * GIB)


def test_in_a_container_its_own_limits_count(groups: Path) -> None:
    write(groups, "0::/\n", **{"cpu.max": "200000 100000\n", "memory.max": f"{3 * GIB}\n"})
    assert (usable_cores(), usable_memory()) == (2, 3 * GIB)


def test_a_limit_of_a_group_above_holds_too(groups: Path) -> None:
    write(
        groups,
        "0::/system.slice/agiqa.service\n",
        **{
            "system.slice/agiqa.service/cpu.max": "800000 100000",
            "system.slice/cpu.max": "300000 100000",
            "system.slice/memory.max": f"{GIB}",
        },
    )
    assert (usable_cores(), usable_memory()) == (3, GIB)


def test_groups_of_the_first_version_are_known(groups: Path) -> None:
    write(
        groups,
        "9:pids:/\n5:cpu,cpuacct:/docker/0a1b\n4:memory:/docker/0a1b\n0::/\n",
        **{
            # A container sees its own group as the root, and the host's path in /proc.
            "cpu,cpuacct/cpu.cfs_quota_us": "150000",
            "cpu,cpuacct/cpu.cfs_period_us": "100000",
            "memory/memory.limit_in_bytes": f"{2 * GIB}",
        },
    )
    assert (usable_cores(), usable_memory()) == (2, 2 * GIB)


def test_no_quota_of_the_first_version_is_no_limit(groups: Path) -> None:
    write(
        groups,
        "5:cpu:/\n4:memory:/\n",
        **{
            "cpu/cpu.cfs_quota_us": "-1",
            "cpu/cpu.cfs_period_us": "100000",
            "memory/memory.limit_in_bytes": "9223372036854771712",
        },
    )
    assert (usable_cores(), usable_memory()) == (64, 256 * GIB)


def test_a_small_quota_leaves_one_core_and_a_narrow_affinity_outranks_a_wide_quota(
    groups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(groups, "0::/\n", **{"cpu.max": "20000 100000"})
    assert usable_cores() == 1
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 5, 7})
    write(groups, "0::/\n", **{"cpu.max": "800000 100000"})
    assert usable_cores() == 3


_FREED_AND_TAKEN = """
import ctypes, resource
from model.resources import keep_freed_memory
{first}
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = (ctypes.c_void_p,)
def once():
    block = libc.malloc(24 * 2**20)
    ctypes.memset(block, 1, 24 * 2**20)
    libc.free(block)
for _ in range(3):
    once()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    once()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left alone")
def test_freed_memory_is_not_cleared_anew() -> None:
    program = _FREED_AND_TAKEN.format(first="assert keep_freed_memory()")
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert int(found.stdout) < 6144  # pages of one block: of ten none, or few, are new


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere files count, and what was once had")
def test_own_memory_counts_what_is_allocated_and_no_files(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(64 * 2**20))
    before = own_memory()
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        assert mapped.find(b"\1") == -1
        assert own_memory() - before < 32 * 2**20
    taken = bytearray(b"\1") * (64 * 2**20)
    assert own_memory() - before > 48 * 2**20
    del taken


class _Heap:
    """What a process has for itself: what it needs, and what it has freed and keeps."""

    def __init__(self) -> None:
        self.needed, self.freed, self.given_back = 100, 0, 0
        self.now = 0.0
        self.tidying = Tidying(
            50, 5.0, clock=lambda: self.now, own=self.own, give_back=self.give_back
        )

    def own(self) -> int:
        return self.needed + self.freed

    def give_back(self) -> None:
        self.freed = 0
        self.given_back += 1

    def looks(self, freed: int) -> int:
        self.freed = freed
        self.tidying.look()
        return self.given_back


def test_what_is_kept_of_freed_memory_has_a_bound() -> None:
    heap = _Heap()
    assert heap.looks(50) == 0
    assert heap.looks(51) == 1
    assert heap.freed == 0


def test_memory_is_not_given_back_behind_each_piece_of_work_that_takes_much() -> None:
    heap = _Heap()
    assert heap.looks(60) == 1
    heap.now = 4.9
    assert heap.looks(70) == 1
    heap.now = 5.0
    assert heap.looks(70) == 2


def test_memory_that_is_needed_from_now_on_is_no_reason_to_give_back_again_and_again() -> None:
    heap = _Heap()
    heap.needed = 200  # another model, say
    assert heap.looks(0) == 1
    heap.now = 10.0
    assert heap.looks(50) == 1
    assert heap.looks(51) == 2


_HOLES = """
from model.resources import Tidying, keep_freed_memory, own_memory

assert keep_freed_memory()
tidying = Tidying(32 * 2**20)
before = own_memory()
blocks = [bytearray(b"x") * 2**20 for _ in range(128)]
kept = blocks[::2], [bytearray(b"x") * 1000 for _ in range(100)]
del blocks  # every other one is a hole now
assert own_memory() - before > 120 * 2**20
tidying.look()
print(own_memory() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left alone")
def test_what_lies_between_blocks_that_are_in_use_is_given_back() -> None:
    found = subprocess.run(
        [sys.executable, "-c", _HOLES], capture_output=True, text=True, check=True
    )
    assert 60 * 2**20 < int(found.stdout) < 80 * 2**20
