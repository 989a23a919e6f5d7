"""An answer's head and what follows it in one write: each costs its own way through the kernel."""

import asyncio
from typing import Any

# What is sent before the answer begins, at once: the client waits for it with its body.
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class WholeAnswers(asyncio.Transport):
    """A transport that keeps the head of an answer until there is more to send, or nothing more."""

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self._transport = transport
        self._awaits_head = False
        self._head = b""

    def begin(self) -> None:
        """What is written next is the head of an answer."""
        self._awaits_head = True

    def flush(self) -> None:
        """Sends a head behind which nothing comes."""
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)

    def write(self, data: Any) -> None:
        """Sends a piece, behind the head that was kept; keeps it if it is one."""
        if self._head:
            data, self._head = self._head + bytes(data), b""
        elif self._awaits_head and data != _CONTINUE:
            self._awaits_head = False
            self._head = bytes(data)
            return
        self._transport.write(data)

    def close(self) -> None:
        """Sends what there is, and closes."""
        self.flush()
        self._transport.close()

    def abort(self) -> None:
        self._head = b""
        self._transport.abort()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def is_reading(self) -> bool:
        return self._transport.is_reading()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._transport.set_protocol(protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._transport.get_protocol()

    def get_write_buffer_size(self) -> int:
        return len(self._head) + self._transport.get_write_buffer_size()
