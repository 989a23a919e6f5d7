"""Files are there whole or not at all."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from model.errors import CheckpointError
from model.store.checkpoint import (
    find,
    save_checkpoint,
)
from model.store.files import write_atomically
from tests.model import tiny


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """The kernel refuses to write more, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_when_writing_fails_the_old_file_stays_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")
    with files_of_at_most(1000), pytest.raises(OSError, match="too large"):
        write_atomically(path, b"x" * 5000)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_written_file_replaces_the_old_one_and_others_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [path]


def test_a_checkpoint_whose_saving_failed_half_way_is_not_taken_for_one(tmp_path: Path) -> None:
    clip = tiny.random_clip()
    network = tiny.random_network(clip=clip)
    with files_of_at_most(10_000), pytest.raises(OSError, match="too large"):
        save_checkpoint(tmp_path, tiny.config_of(), network, card="", metrics={}, backbone=clip)
    with pytest.raises(CheckpointError, match="no checkpoint"):
        find(tmp_path)
