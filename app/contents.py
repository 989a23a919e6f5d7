"""The content of an upload, by its digest, which is computed once, whoever asks for it."""

import asyncio
import hashlib

# A thread costs more than a digest of so few bytes, which takes the event loop some 40 us.
_AT_ONCE_BYTES = 64 * 1024


class Content:
    """Bytes, and what they are recognized by when they come again: never a name."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._digest: bytes | None = None

    async def digest(self, *texts: str) -> bytes:
        """32 bytes that stand for the content together with these texts; in a thread, if it takes
        long.
        """
        if self._digest is None:
            is_small = len(self._data) <= _AT_ONCE_BYTES
            self._digest = (
                _sha256(self._data) if is_small else await asyncio.to_thread(_sha256, self._data)
            )
        # Each with its length: no two lists of texts are one.
        parts = [text.encode("utf-8", "surrogatepass") for text in texts]
        return _sha256(b"".join(len(p).to_bytes(8, "big") + p for p in parts) + self._digest)


def _sha256(data: bytes) -> bytes:
    # Not for its strength alone: processors have instructions for it, by which it takes less than
    # half of the time of BLAKE2.
    return hashlib.sha256(data).digest()
