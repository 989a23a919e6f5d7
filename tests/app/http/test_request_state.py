"""Whom a request is laid to."""

import asyncio

import pytest
from starlette.types import Receive, Scope, Send

from app.batching.admission import Admission
from app.batching.ledger import Ceilings
from app.http.keys import Keys
from app.http.middleware import Gate, RequestContext
from app.http.request_state import RequestState, state_of
from app.metrics import Metrics
from app.settings import Settings
from tests.app.batching.known_device import KnownDevice
from tests.app.http.test_middleware import ask


@pytest.mark.parametrize(
    ("client", "owner"),
    [
        (("192.0.2.7", 4711), "192.0.2.7"),
        (("::ffff:192.0.2.7", 4711), "192.0.2.7"),
        (("2001:db8:1:2:3:4:5:6", 4711), "2001:db8:1:2::/64"),
        (("localhost", 4711), "localhost"),
        (None, "-"),
    ],
)
def test_without_keys_a_request_belongs_to_its_client_s_address(
    client: tuple[str, int] | None, owner: str
) -> None:
    assert RequestState.of({"type": "http", "path": "/score", "client": client}).owner == owner


@pytest.mark.parametrize(("key", "owner"), [("first", "key-1"), ("second", "key-2")])
def test_with_keys_a_request_belongs_to_the_number_of_its_key(key: str, owner: str) -> None:
    owners = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        owners.append(state_of(scope).owner)
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    admission = Admission(Ceilings(1, 1), KnownDevice({}), lambda: 0.0)
    gate = Gate(app, admission, Settings(), Keys(("first", "second")))
    surrounded = RequestContext(gate, Metrics())
    asyncio.run(ask(surrounded, method="GET", headers={"authorization": f"Bearer {key}"}))
    assert owners == [owner]
