"""An upload is recognized by its bytes, which are looked at once."""

import asyncio
import threading

import pytest

from app import contents
from app.contents import Content
from tests.app.fake_device import run

LARGE = bytes(200_000)


def digest(data: bytes, *texts: str) -> bytes:
    return asyncio.run(Content(data).digest(*texts))


def test_equal_bytes_with_equal_texts_have_one_digest_and_no_others() -> None:
    assert digest(b"x", "a", "b") == digest(b"x", "a", "b")
    texts = [("ab", ""), ("", "ab"), ("b", "a"), ("a",)]
    found = {digest(b"x", *each) for each in texts} | {digest(b"y", "a", "b")}
    assert len(found | {digest(b"x", "a", "b")}) == 6
    assert all(len(each) == 32 for each in found)


def test_a_prompt_may_hold_half_a_surrogate_pair() -> None:
    assert digest(b"x", "\ud83e") != digest(b"x", "\ud83f")


@pytest.mark.parametrize(("data", "elsewhere"), [(b"small", False), (LARGE, True)])
def test_the_bytes_are_read_once_and_many_of_them_off_the_event_loop(
    monkeypatch: pytest.MonkeyPatch, data: bytes, elsewhere: bool
) -> None:
    threads = []
    sha256 = contents._sha256

    def watched(hashed: bytes) -> bytes:
        if hashed is data:
            threads.append(threading.current_thread())
        return sha256(hashed)

    monkeypatch.setattr(contents, "_sha256", watched)

    async def scenario() -> None:
        content = Content(data)
        assert await content.digest("a") == await content.digest("a")
        assert await content.digest("b") != await content.digest("a")

    run(scenario)
    assert [thread is not threading.main_thread() for thread in threads] == [elsewhere]
