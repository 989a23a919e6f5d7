"""The recipe for the user's prompt: where its head starts, and how far it can go."""

import math
from collections.abc import Iterator
from itertools import repeat
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from model.methods.clip_agiqa import ClipAgiqa, ClipAgiqaOptions
from model.methods.consistency import ConsistencyHead
from tests.model import tiny
from tests.training.methods.test_precision import batch_of
from training.engine.schedule import Schedule
from training.engine.task import Outputs
from training.methods.clip_agiqa import ClipAgiqaObjective, ClipAgiqaWeights, calibration
from training.recipe import read_content
from training.sampling.batches import Batch


def task_of(**options: Any) -> ClipAgiqaObjective:
    network = tiny.fresh_network(ClipAgiqaOptions(**options))
    return ClipAgiqaObjective(network, ClipAgiqaWeights(), whole=False)


def head_of(task: ClipAgiqaObjective) -> ConsistencyHead:
    assert task.network.consistency is not None
    return task.network.consistency


def first(batches: int) -> Iterator[tuple[Outputs, Batch]]:
    for seed in range(batches):
        noise = torch.Generator().manual_seed(seed)
        z = torch.randn(6, 2, 2, tiny.ARCHITECTURE.embed_dim, generator=noise)
        yield {"z": F.normalize(z, dim=-1)}, batch_of(seed, 1)


def mean_consistency(task: ClipAgiqaObjective, batches: int) -> tuple[float, float]:
    """The head's mean over the first batches, and that of their opinions."""
    with torch.no_grad():
        found = [
            (task.heads(outputs, [s.prompt for s in batch.samples])["consistency"], batch.mos_align)
            for outputs, batch in first(batches)
        ]
    ours, theirs = (float(torch.cat(values).mean()) for values in zip(*found, strict=True))
    return ours, theirs


def test_a_clip_score_starts_at_the_mean_opinion_of_the_training_data() -> None:
    task = task_of()
    with torch.no_grad():
        task.start(first(3))
    ours, theirs = mean_consistency(task, 3)
    assert ours == pytest.approx(theirs, abs=1e-5)


def test_a_head_that_starts_as_the_blind_alignment_keeps_saying_that() -> None:
    task = task_of(consistency_start="alignment")
    with torch.no_grad():
        task.start(first(1))
    assert head_of(task).bias == 0


def test_a_head_may_start_as_both_and_at_the_mean_opinion() -> None:
    task = task_of(consistency_start="both")
    head, scale = head_of(task), float(task.network.logit_scale.detach().exp())
    assert float(head.kappa.detach()) == pytest.approx(scale)
    assert 0 < float(head.alpha.detach()) < scale
    with torch.no_grad():
        task.start(first(3))
    ours, theirs = mean_consistency(task, 3)
    assert ours == pytest.approx(theirs, abs=1e-5)


@pytest.mark.parametrize("views", ["all", "whole"])
def test_the_whole_image_alone_may_be_compared_with_the_prompt(views: str) -> None:
    network = tiny.fresh_network(ClipAgiqaOptions(consistency_views=views))
    task = ClipAgiqaObjective(network, ClipAgiqaWeights(), whole=True)
    outputs, batch = next(first(1))
    changed = outputs["z"].clone()
    changed[:, :, 0] = changed[:, :, 0].roll(1, -1)  # the window; the last view is the whole image
    prompts = [sample.prompt for sample in batch.samples]
    with torch.no_grad():
        before, after = (
            task.heads({"z": z}, prompts)["consistency"] for z in (outputs["z"], changed)
        )
    assert torch.equal(before, after) is (views == "whole")


def test_near_prompts_count_as_much_of_the_others_as_the_weights_say() -> None:
    torch.manual_seed(0)
    network = tiny.fresh_network(ClipAgiqaOptions(learn_consistency_context=False))
    task = ClipAgiqaObjective(network, ClipAgiqaWeights(near_prompts=0.7), whole=False)
    words = ("cat", "dog", "tree", "castle", "river", "lamp")
    known = [f"a {one} and a {other}" for one in words for other in words]
    task._user_features(known)
    own = ["a cat", "a lamp"]
    features = task._user_features(own)
    texts, shares = task._others(own, features)
    assert torch.equal(texts[:2], features)
    assert len(texts) == len(own) + len(known)
    assert torch.equal(shares[:, :2].diagonal(), torch.zeros(2))
    assert shares.sum(1).tolist() == pytest.approx([1, 1])
    nearest = shares.topk(16)
    similarity = (features @ texts.T).fill_diagonal_(-1)
    assert (
        similarity.gather(1, nearest.indices).amin(1) >= similarity.topk(16).values[:, -1]
    ).all()
    even = 0.3 / (len(texts) - 1)
    assert nearest.values.flatten().tolist() == pytest.approx([even + 0.7 / 16] * 32)


def test_an_only_prompt_is_compared_with_none() -> None:
    network = tiny.fresh_network(ClipAgiqaOptions(learn_consistency_context=False))
    task = ClipAgiqaObjective(network, ClipAgiqaWeights(near_prompts=0.7), whole=False)
    _, shares = task._others(["a cat"], task._user_features(["a cat"]))
    assert shares.tolist() == [[0]]


def test_opinions_at_an_end_of_the_scale_leave_the_bias_finite() -> None:
    for mean, sign in ((0.0, -1), (1.0, 1)):
        bias = calibration(torch.tensor([-80.0, 3.0, 90.0]).double(), mean)
        assert math.isfinite(bias)
        assert math.copysign(1, bias) == sign


def test_the_recipe_moves_its_head_s_numbers_as_far_as_they_reach() -> None:
    content, _ = read_content("clip-agiqa/agiqa-3k-consistency")
    schedule = Schedule(**content["schedule"])
    network: ClipAgiqa = tiny.fresh_network()
    optimiser = schedule.optimiser_of(network.trainable_parameters())
    head = network.consistency
    assert head is not None
    start = {name: float(p.detach()) for name, p in head.named_parameters() if not p.ndim}
    steps = schedule.epochs * 33  # 2389 images in batches of 64, the last partial one left out
    for _ in repeat(None, steps):
        optimiser.zero_grad()
        (head.alpha + head.kappa + head.bias).backward()
        optimiser.step()
    moved = {k: start[k] - float(p.detach()) for k, p in head.named_parameters() if not p.ndim}
    # The paper's rate alone: .165 of the 100 that lie between CLIPScore and the blind alignment.
    assert all(way > 15 for way in moved.values())
