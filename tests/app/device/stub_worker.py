"""A worker that computes nothing and does as the test wants: it loads as the next line of a file of
orders says, and does with a batch what the batch's model is called.
"""

import argparse
import os
import signal
import struct
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from app.batching.batcher import Outcome
from app.batching.lending import Lending
from app.device.launch import receive_descriptors
from app.device.lifeline import Heartbeat, die_with
from app.device.messages import (
    DEVICE_LOST,
    Done,
    Ready,
    Run,
    Sharing,
    StartFailed,
    WorkerSettings,
)
from tests.app.fake_device import GENERATED

FOR_EVER = 10_000.0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("orders", type=Path)
    for flag in ("--pipe", "--parent", "--arena", "--early", "--template"):
        parser.add_argument(flag, type=int)
    arguments = parser.parse_args()
    die_with(arguments.parent)
    if arguments.early is not None:
        descriptors = receive_descriptors(arguments.early, arguments.template)
        arguments.pipe, arguments.arena = descriptors
    pipe: Connection[Any, Any] = Connection(arguments.pipe)
    settings: WorkerSettings = pipe.recv()
    heartbeat = Heartbeat(pipe)
    heartbeat.start()
    load(next_order(arguments.orders), heartbeat)
    if settings.most_workers > 1:
        heartbeat.send(Sharing(Lending(settings.most_workers, 2, 1.5, 1.25)))
    while isinstance(message := pipe.recv(), Run):
        with heartbeat.computing(message.number):
            act(message.model, arguments.pipe)
        heartbeat.send(Done(message.number, Outcome([os.getpid()] * len(message.pieces), 0.001)))


def next_order(file: Path) -> str:
    """Takes the first line away."""
    first, _, rest = file.read_text().partition("\n")
    file.write_text(rest)
    return first


def load(order: str, heartbeat: Heartbeat) -> None:
    match order:
        case "hang":
            time.sleep(FOR_EVER)
        case "refuse":
            heartbeat.send(StartFailed("no such model"))
            sys.exit()
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
    heartbeat.send(Ready((GENERATED,), {}))


def act(order: str, pipe: int) -> None:
    match order:
        case "hang":
            time.sleep(FOR_EVER)
        case "lose-device":
            os._exit(DEVICE_LOST)
        case "garbage":
            os.write(pipe, struct.pack("!i", 4) + b"junk")
            time.sleep(FOR_EVER)
        case "odd-message":
            heartbeat_free = Connection(os.dup(pipe))
            heartbeat_free.send("hello")
            time.sleep(FOR_EVER)


if __name__ == "__main__":
    main()
