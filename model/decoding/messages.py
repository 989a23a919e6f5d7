"""What a decoder's parent writes into its inbox."""

import struct
from dataclasses import dataclass

from model.preprocess.crops import Layout

# A request on the pipe: the bytes of the task and of the image, one behind the other in the inbox.
REQUEST = struct.Struct("<QQ")


@dataclass(frozen=True, slots=True)
class Task:
    """What to make of an image.

    Attributes:
        layout: the crops, for the size that the header told; decoding refuses pixels of another.
        offset: of the slot in the outbox.
        stamp: of the slot's owner; nothing is written into a slot with another.
        outbox_bytes: the size of the outbox.
        cpu_seconds: processor time that it may take.
        memory: bytes that it may take beyond what the process has.
    """

    layout: Layout
    offset: int
    stamp: int
    outbox_bytes: int
    cpu_seconds: float
    memory: int
