from pathlib import Path

import numpy as np
import pytest
import torch

from model.config import CropPolicy
from tests.training.miniature import write_agiqa3k, write_live_challenge
from training.data import datasets
from training.methods.pretrain import drop_patches, drop_words
from training.sampling.batches import Batches
from training.sampling.pictures import Pictures

POLICY = CropPolicy(size=32, stride=24, max_side=64, global_view=True)


def batches(
    folder: Path, zooms: tuple[float, ...] = (1.0, 1.25), windows: int = 1, degraded: int = 0
) -> Batches:
    samples = datasets.read(write_agiqa3k(folder, prompts=4))
    pictures = Pictures(POLICY, zooms)
    return Batches(samples, pictures, size=5, seed=1, windows=windows, degraded=degraded)


def test_an_epoch_is_the_same_at_every_call_and_another_is_not(tmp_path: Path) -> None:
    made = batches(tmp_path)
    one, again, other = ([b.windows for b in made.epoch(n)] for n in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert not torch.equal(one[0], other[0])


def test_every_image_comes_at_most_once_an_epoch_with_its_own_scores(tmp_path: Path) -> None:
    made = batches(tmp_path)
    seen = [(b, i) for b in made.epoch(0) for i in range(len(b.samples))]
    assert len(seen) == len(made) * 5 == 10
    assert len({b.samples[i].path for b, i in seen}) == 10
    for b, i in seen:
        assert b.mos[i] == np.float32(b.samples[i].mos)
        assert b.windows.shape == (5, 1, 3, 32, 32)
        assert b.wholes is not None
        assert b.wholes.shape == (5, 3, 32, 32)


def test_several_windows_of_an_image_lie_beside_each_other(tmp_path: Path) -> None:
    batch = next(batches(tmp_path, windows=3).epoch(0))
    assert batch.windows.shape == (5, 3, 3, 32, 32)
    # An image's shade differs more than its windows do.
    shades = batch.windows.float().mean((2, 3, 4)) / 60
    assert shades.std(1).max() < 0.1 < shades.mean(1).std()


def test_images_of_one_set_are_told_from_others(tmp_path: Path) -> None:
    photographs = datasets.read(write_live_challenge(tmp_path / "photographs", images=6))
    generated = datasets.read(write_agiqa3k(tmp_path / "generated", prompts=2))
    samples = [*photographs, *generated]
    batch = next(Batches(samples, Pictures(POLICY), size=12, seed=0).epoch(0))
    sets = [s.dataset for s in batch.samples]
    for i, row in enumerate(batch.same_set.tolist()):
        assert row == [other == sets[i] for other in sets]
    assert batch.mos_align.isnan().tolist() == [name == "LIVE-Challenge" for name in sets]


def test_larger_global_views_are_cut_and_the_plain_one_is_whole(tmp_path: Path) -> None:
    plain, zoomed = batches(tmp_path / "a", (1.0,)), batches(tmp_path / "b", (1.25,))
    assert zoomed.pictures[zoomed.samples[0].path].wholes[0].shape == (3, 40, 40)
    looks = {b.wholes[0].numpy().tobytes() for n in range(8) for b in plain.epoch(n)}
    flips = 2 * len(plain.samples)
    assert len(looks) <= flips


def test_the_best_rated_images_come_in_two_degraded_versions_too(tmp_path: Path) -> None:
    for batch in batches(tmp_path, windows=3, degraded=2).epoch(0):
        worse = batch.degraded
        assert worse is not None
        assert worse.windows.shape == (4, 3, 3, 32, 32)
        assert worse.wholes is not None
        assert worse.wholes.shape == (4, 3, 32, 32)
        assert sorted(batch.mos[worse.bases]) == sorted(batch.mos)[-2:]
        assert (worse.strengths[:, 1] - worse.strengths[:, 0] >= 0.15 - 1e-6).all()
        assert worse.strengths.min() >= 0
        assert worse.strengths.max() <= 1
        assert len(worse.words) == 4


def test_degraded_versions_are_the_same_at_every_call_and_differ_in_strength(
    tmp_path: Path,
) -> None:
    made = batches(tmp_path, degraded=2)
    one, again, other = ([b.degraded for b in made.epoch(n)] for n in (0, 0, 1))
    for a, b in zip(one, again, strict=True):
        assert a is not None
        assert b is not None
        assert a.plans == b.plans
        assert torch.equal(a.windows, b.windows)
        assert not torch.equal(a.windows[0::2], a.windows[1::2])
    assert one[0] is not None
    assert other[0] is not None
    assert one[0].plans != other[0].plans


def test_weak_degradations_have_no_name(tmp_path: Path) -> None:
    made = batches(tmp_path, degraded=2)
    degraded = [b.degraded for n in range(6) for b in made.epoch(n)]
    rows = [
        (strength, word)
        for d in degraded
        if d is not None
        for strength, word in zip(d.strengths.flatten().tolist(), d.words, strict=True)
    ]
    assert {word == "" for strength, word in rows if strength < 0.15} == {True}
    assert {word == "" for strength, word in rows if strength > 0.15} == {False}


def test_processes_share_the_degraded_images_and_all_know_the_plan(tmp_path: Path) -> None:
    shared = []
    for rank in (0, 1):
        made = batches(tmp_path, degraded=2)
        made.size = 4
        made.share(rank, 2)
        shared.append(next(made.epoch(0)))
    first, second = (batch.degraded for batch in shared)
    assert first is not None
    assert second is not None
    assert first.plans == second.plans
    assert len(first.windows) == len(second.windows) == 2
    whole = batches(tmp_path, degraded=2)
    whole.size = 4
    one = next(whole.epoch(0)).degraded
    assert one is not None
    assert one.plans == first.plans
    assert torch.equal(one.windows, torch.cat([first.windows, second.windows]))
    assert not torch.equal(first.windows, second.windows)


def test_a_kind_can_be_drawn_more_often(tmp_path: Path) -> None:
    def share(often: dict[str, int]) -> float:
        made = batches(tmp_path, degraded=5)
        made.often = often
        degraded = [b.degraded for n in range(20) for b in made.epoch(n)]
        plans = [plan for d in degraded if d is not None for plan in d.plans]
        return sum(plan.kind == "jpeg" for plan in plans) / len(plans)

    assert share({}) < 0.2 < 0.4 < share({"jpeg": 10}) < 0.65


def test_degraded_images_that_can_not_be_shared_evenly_are_refused(tmp_path: Path) -> None:
    made = batches(tmp_path, degraded=3)
    made.size = 4
    with pytest.raises(ValueError, match="3 degraded images"):
        made.share(0, 2)


def test_dropped_patches_are_whole_tokens_and_the_class_token_stays() -> None:
    tokens = torch.arange(2 * 11 * 3.0).view(2, 11, 3)
    kept = drop_patches(tokens, 0.3)
    assert kept.shape == (2, 8, 3)
    assert torch.equal(kept[:, 0], tokens[:, 0])
    for image, whole in zip(kept, tokens, strict=True):
        rows = {tuple(row) for row in whole.tolist()}
        assert {tuple(row) for row in image.tolist()} <= rows
        assert len({tuple(row) for row in image.tolist()}) == 8
    assert drop_patches(tokens, 0.0) is tokens


def test_dropped_words_leave_the_others_in_their_order_and_never_nothing() -> None:
    torch.manual_seed(0)
    words = [f"w{number}" for number in range(200)]
    kept = drop_words(" ".join(words), 0.4).split()
    assert 90 < len(kept) < 150
    assert kept == [word for word in words if word in set(kept)]
    assert drop_words(" ".join(words), 0.0).split() == words
    assert all(drop_words("a b", 0.99) for _ in range(50))
