"""Both clients behind one face, with a clock that only sleeping moves on and a service that only
answers.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx

from agiqa_client import AsyncClient, Client, Clock

Kind = Literal["sync", "async"]
Answer = httpx.Response | Exception

ANSWER = {
    "quality": 0.75,
    "mos": 3.75,
    "mos_range": [0, 5],
    "crops": 9,
    "scaled": False,
    "model": {"name": "tiny", "revision": "abc"},
}


def problem(status: int, code: str = "overloaded", **headers: str) -> httpx.Response:
    """A problem answer as the service gives it."""
    body = {"detail": f"Sentence of {code}.", "code": code, "status": status, "request_id": "r1"}
    return httpx.Response(status, json=body, headers=headers)


@dataclass
class Scene:
    """What a test's service answered, and what its clock was asked for."""

    answers: list[Answer]
    requests: list[httpx.Request] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)
    time: float = 1000.0
    seconds_per_answer: float = 0.0

    def handle(self, request: httpx.Request) -> httpx.Response:
        """The next answer; the last one for ever."""
        self.requests.append(request)
        self.time += self.seconds_per_answer
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        # A fresh one, for a response that was read by one kind of client is no use to the other.
        return httpx.Response(
            answer.status_code, headers=answer.headers, content=answer.content, request=request
        )

    def sleep(self, seconds: float) -> None:
        """Moves the clock on."""
        self.slept.append(seconds)
        self.time += seconds

    async def sleep_async(self, seconds: float) -> None:
        """Moves the clock on."""
        self.sleep(seconds)

    def clock(self) -> Clock:
        """The clock; chance always gives the most."""
        return Clock(lambda: self.time, self.sleep, self.sleep_async, lambda _, most: most)

    def given(self, **more: Any) -> dict[str, Any]:
        """Arguments of a client that asks here."""
        transport = httpx.MockTransport(self.handle)
        return {"transport": transport, "clock": self.clock(), "api_key": "", **more}


def call(kind: Kind, work: Callable[[Any], Any], *where: Any, **given: Any) -> Any:
    """What ``work(client)`` gives, with the client that waits or with the other one."""
    if kind == "sync":
        with Client(*where, **given) as client:
            return work(client)

    async def asked() -> Any:
        async with AsyncClient(*where, **given) as client:
            return await work(client)

    return asyncio.run(asked())
