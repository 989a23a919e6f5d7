import os
import random

import numpy as np
import pytest

from app.device import arena
from app.device.arena import Arena, ArenaError, Slot, slot_bytes
from model.decoding.slots import STAMP_BYTES, StaleSlot, crops_of


@pytest.fixture
def house() -> Arena:
    return Arena(64 * 100)


def taken(house: Arena, lines: int) -> Slot:
    """A slot of so many times 64 bytes, its stamp among them."""
    slot = house.allocate(64 * lines - STAMP_BYTES)
    assert slot
    assert slot.size == 64 * lines
    return slot


def test_slots_are_handed_out_until_nothing_is_left(house: Arena) -> None:
    assert [taken(house, 25).offset for _ in range(4)] == [0, 1600, 3200, 4800]
    assert house.allocate(1) is None
    assert house.in_use == house.size


def test_freed_neighbours_join(house: Arena) -> None:
    a, b, c = (taken(house, 30) for _ in range(3))
    house.release(a)
    house.release(c)
    assert house.allocate(64 * 59) is None
    house.release(b)
    assert taken(house, 100).offset == 0


def test_random_use_never_overlaps_and_gives_everything_back(house: Arena) -> None:
    rng = random.Random(1)
    allocated: dict[Slot, int] = {}
    for _ in range(2000):
        if allocated and rng.random() < 0.5:
            slot = rng.choice(list(allocated))
            size = allocated.pop(slot)
            assert (house.crops(slot, (size,)) == slot.stamp % 251).all()
            house.release(slot)
        else:
            size = rng.randint(1, 900)
            new = house.allocate(size)
            if new is not None:
                house.crops(new, (size,))[:] = new.stamp % 251
                allocated[new] = size
        assert house.in_use == sum(map(slot_bytes, allocated.values()))
    for slot in allocated:
        house.release(slot)
    assert house.in_use == 0
    assert taken(house, 100).offset == 0


def test_both_sides_see_the_same_bytes(house: Arena) -> None:
    slot = house.allocate(12)
    assert slot
    house.crops(slot, (3, 4))[:] = np.arange(12, dtype=np.uint8).reshape(3, 4)
    with arena.attach(os.dup(house.fd), house.size) as segment:
        assert crops_of(segment, slot.offset, slot.stamp, (3, 4)).sum() == 66


def test_who_comes_too_late_to_a_slot_can_neither_read_nor_write_it(house: Arena) -> None:
    first = taken(house, 2)
    house.release(first)
    with pytest.raises(StaleSlot):
        house.crops(first, (64,))
    second = taken(house, 2)
    assert second.offset == first.offset
    with pytest.raises(StaleSlot):
        house.crops(first, (64,))
    assert house.crops(second, (64,)).shape == (64,)


def test_a_slot_is_released_once(house: Arena) -> None:
    slot = taken(house, 2)
    house.release(slot)
    with pytest.raises(KeyError):
        house.release(slot)


def test_a_segment_that_the_machine_cannot_hold_names_the_remedy() -> None:
    with pytest.raises(ArenaError, match=r"shm_size.*AGIQA_MAX_CROP_MIB"):
        Arena(1 << 50)
