"""The cache of prompts' features."""

import torch

from model.clip.known_prompts import KnownPrompts


def _keep(known: KnownPrompts, *names: str) -> None:
    for name in names:
        known.keep(name, torch.full((3,), float(ord(name[0]))))


def test_each_prompt_has_its_own_features_whatever_went_before_it() -> None:
    known = KnownPrompts(3)
    _keep(known, "a", "b", "c", "d", "e", "b")
    assert len(known) == 3
    found = {name: known.get(name) for name in "abcde"}
    assert found["a"] is None
    assert found["c"] is None
    for name in "bde":
        features = found[name]
        assert features is not None
        assert features.tolist() == [ord(name)] * 3


def test_what_was_given_out_stays_when_its_place_is_taken() -> None:
    known = KnownPrompts(1)
    _keep(known, "a")
    features = known.get("a")
    _keep(known, "b")
    assert features is not None
    assert features.tolist() == [ord("a")] * 3


def test_it_takes_its_memory_at_once_and_no_more_for_long_prompts() -> None:
    known = KnownPrompts(64)
    _keep(known, "a")
    assert known._table is not None
    place = known._table.data_ptr()
    _keep(known, *(f"{i} {'long ' * 800}" for i in range(100)))
    assert known._table.shape == (64, 3)
    assert known._table.data_ptr() == place
    assert {len(name) for name in known._rows} == {16}


def test_a_prompt_that_is_no_utf_8_has_a_place_of_its_own() -> None:
    known = KnownPrompts(4)
    known.keep("a\ud800", torch.zeros(2))
    assert "a\ud800" in known
    assert "a\ud801" not in known
    assert "a" not in known
