"""Seals a checkpoint: the digests of its tensor files and its self-test go into ``config.json``."""

from pathlib import Path

from model import self_test
from model.config import CheckpointConfig
from model.scorer import Scorer
from model.store.checkpoint import (
    load_network,
    read_config,
    with_digests,
    without_digests,
    write_config,
)


def seal(folder: Path) -> CheckpointConfig:
    """Writes what the checkpoint's files are now, and what they give in float32 on the CPU; what
    was sealed before is replaced.

    Raises:
        CheckpointError: the checkpoint can't be loaded, or gives no scores.
    """
    config = with_digests(without_digests(read_config(folder)), folder)
    _, network = load_network(folder, config=config)
    scorer = Scorer(config, network, device="cpu", dtype="float32")
    sealed = config.model_copy(update={"self_test": self_test.measure(scorer)})
    write_config(folder, sealed)
    return sealed
