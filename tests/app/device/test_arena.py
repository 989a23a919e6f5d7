import random

import numpy as np
import pytest

from app.device import arena
from app.device.arena import Arena, ArenaError


@pytest.fixture
def house() -> Arena:
    return Arena(64 * 100)


def test_slots_are_handed_out_until_nothing_is_left(house: Arena) -> None:
    offsets = [house.allocate(64 * 25) for _ in range(4)]
    assert offsets == [0, 1600, 3200, 4800]
    assert house.allocate(1) is None


def test_freed_neighbours_join(house: Arena) -> None:
    a, b, c = (house.allocate(64 * 30) for _ in range(3))
    assert a is not None
    assert b is not None
    assert c is not None
    house.release(a, 64 * 30)
    house.release(c, 64 * 30)
    assert house.allocate(64 * 60) is None
    house.release(b, 64 * 30)
    assert house.allocate(64 * 100) == 0


def test_random_use_never_overlaps_and_gives_everything_back(house: Arena) -> None:
    rng = random.Random(1)
    allocated: dict[int, int] = {}
    for i in range(2000):
        if allocated and rng.random() < 0.5:
            offset = rng.choice(list(allocated))
            size = allocated.pop(offset)
            assert (house.view(offset, (size,)) == offset % 251).all()
            house.release(offset, size)
        else:
            size = rng.randint(1, 900)
            new = house.allocate(size)
            if new is not None:
                house.view(new, (size,))[:] = new % 251
                allocated[new] = size
        assert i >= 0
    for offset, size in allocated.items():
        house.release(offset, size)
    assert house.allocate(house.size) == 0


def test_both_sides_see_the_same_bytes(house: Arena) -> None:
    import os

    offset = house.allocate(12) or 0
    house.view(offset, (3, 4))[:] = np.arange(12, dtype=np.uint8).reshape(3, 4)
    with arena.attach(os.dup(house.fd), house.size) as segment:
        assert arena.view(segment, offset, (3, 4)).sum() == 66


def test_a_segment_that_the_machine_cannot_hold_names_the_remedy() -> None:
    with pytest.raises(ArenaError, match=r"shm_size.*AGIQA_MAX_CROP_MIB"):
        Arena(1 << 50)
