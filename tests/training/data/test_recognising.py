from collections.abc import Callable
from pathlib import Path

import pytest

from tests.training import photograph_sets
from tests.training.miniature import write_agiqa3k, write_live_challenge
from training.data.datasets import DATA_SETS, recognise

WRITERS: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "AGIQA-3K": ("AGIQA-3K", lambda folder: write_agiqa3k(folder, prompts=1)),
    "LIVE-Challenge with labels": (
        "LIVE-Challenge",
        lambda folder: write_live_challenge(folder, images=1),
    ),
    "LIVE-Challenge as released": (
        "LIVE-Challenge",
        lambda folder: photograph_sets.write_live_challenge_release(folder, images=1),
    ),
    "LIVE": ("LIVE", lambda folder: photograph_sets.write_live(folder, images=1)),
    "CSIQ": ("CSIQ", lambda folder: photograph_sets.write_csiq(folder, images=1)),
    "KADID-10k": ("KADID-10k", lambda folder: photograph_sets.write_kadid10k(folder, images=1)),
    "BID": ("BID", lambda folder: photograph_sets.write_bid(folder, images=1)),
    "KonIQ-10k with the split": (
        "KonIQ-10k",
        lambda folder: photograph_sets.write_koniq10k(folder, images=1),
    ),
    "KonIQ-10k of five": (
        "KonIQ-10k",
        lambda folder: photograph_sets.write_koniq10k(folder, images=1, sets=False),
    ),
}


@pytest.mark.parametrize("layout", WRITERS)
def test_a_folder_is_one_set_and_no_other(tmp_path: Path, layout: str) -> None:
    name, write = WRITERS[layout]
    folder = write(tmp_path)
    assert recognise(folder).name == name
    assert [data.name for data in DATA_SETS.values() if data.is_in(folder)] == [name]
