"""Slots for those who wait for one."""

import asyncio
from collections.abc import Iterator

import pytest

from app.device.arena import Arena, Slot
from app.device.slots import Slots

SIZE = 4096


@pytest.fixture
def slots() -> Iterator[Slots]:
    slots = Slots(Arena(4 * SIZE))
    yield slots
    slots.close()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_a_large_image_is_not_put_off_by_small_ones_that_come_later(slots: Slots) -> None:
    async def test() -> None:
        first = [await slots.take(SIZE // 2) for _ in range(7)]
        order: list[str] = []

        async def take(name: str, size: int) -> Slot:
            slot = await slots.take(size)
            order.append(name)
            return slot

        large = asyncio.create_task(take("large", 2 * SIZE))
        await settle()
        small = asyncio.create_task(take("small", SIZE // 4))
        await settle()
        assert order == []  # though the small one would fit
        for slot in first[::2]:
            slots.release(slot)
        await settle()
        assert order == []  # free, but in pieces
        for slot in first[1::2]:
            slots.release(slot)
        await settle()
        assert order == ["large", "small"]
        for task in (large, small):
            slots.release(await task)
        assert slots.in_use == 0

    asyncio.run(test())


def test_who_gives_up_waiting_lets_the_next_one_in(slots: Slots) -> None:
    async def test() -> None:
        held = await slots.take(3 * SIZE)
        large = asyncio.create_task(slots.take(3 * SIZE))
        await settle()
        small = asyncio.create_task(slots.take(SIZE // 2))
        await settle()
        assert not small.done()
        large.cancel()
        await settle()
        assert small.done()
        slots.release(held)
        slots.release(small.result())
        assert slots.in_use == 0

    asyncio.run(test())


def test_who_is_cancelled_just_as_it_gets_a_slot_gives_it_back(slots: Slots) -> None:
    async def test() -> None:
        held = await slots.take(3 * SIZE)
        waiting = asyncio.create_task(slots.take(3 * SIZE))
        await settle()
        slots.release(held)  # the slot is assigned, and its owner not yet woken
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert slots.in_use == 0

    asyncio.run(test())
