"""An answer's head goes out with what follows it, and never later than that."""

import asyncio
from typing import Any

import pytest

from app.http.limits.whole import WholeAnswers

_HEAD = b"HTTP/1.1 429 Too Many Requests\r\n\r\n"


class _Written(asyncio.Transport):
    """Keeps each write by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.ends: list[str] = []

    def write(self, data: Any) -> None:
        self.writes.append(bytes(data))

    def close(self) -> None:
        self.ends.append("close")

    def abort(self) -> None:
        self.ends.append("abort")

    def get_write_buffer_size(self) -> int:
        return 0


@pytest.fixture
def below() -> _Written:
    return _Written()


@pytest.fixture
def answers(below: _Written) -> WholeAnswers:
    return WholeAnswers(below)


def test_head_and_body_are_one_write(below: _Written, answers: WholeAnswers) -> None:
    answers.begin()
    answers.write(_HEAD)
    assert below.writes == []
    assert answers.get_write_buffer_size() == len(_HEAD)
    answers.write(b"busy")
    answers.write(b"more")
    assert below.writes == [_HEAD + b"busy", b"more"]


def test_each_answer_of_a_connection_has_its_own_head(
    below: _Written, answers: WholeAnswers
) -> None:
    for body in (b"one", b"two"):
        answers.begin()
        answers.write(_HEAD)
        answers.write(body)
    assert below.writes == [_HEAD + b"one", _HEAD + b"two"]


def test_who_waits_to_be_asked_for_its_body_is_asked_at_once(
    below: _Written, answers: WholeAnswers
) -> None:
    answers.begin()
    answers.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert below.writes == [b"HTTP/1.1 100 Continue\r\n\r\n"]
    answers.write(_HEAD)
    answers.write(b"ok")
    assert below.writes[1:] == [_HEAD + b"ok"]


def test_what_is_no_answer_of_the_application_goes_out_as_it_comes(
    below: _Written, answers: WholeAnswers
) -> None:
    answers.write(_HEAD)
    assert below.writes == [_HEAD]


def test_a_head_without_a_body_is_sent_at_the_end(below: _Written, answers: WholeAnswers) -> None:
    answers.begin()
    answers.write(_HEAD)
    answers.flush()
    answers.flush()
    assert below.writes == [_HEAD]


def test_closing_sends_what_there_is_and_aborting_does_not(
    below: _Written, answers: WholeAnswers
) -> None:
    answers.begin()
    answers.write(_HEAD)
    answers.close()
    answers.begin()
    answers.write(_HEAD)
    answers.abort()
    answers.flush()
    assert (below.writes, below.ends) == ([_HEAD], ["close", "abort"])
