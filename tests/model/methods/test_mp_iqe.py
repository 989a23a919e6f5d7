"""MP-IQE's network: its equations, what trains, what ablations remove, and what folding keeps."""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from model.clip.weights import load_strictly
from model.config import CropPolicy
from model.errors import CheckpointError
from model.methods.mp_iqe import MpIqeOptions
from model.methods.network import Views
from model.scorer import Scorer
from model.store.checkpoint import (
    PARAMETERS,
    load_network,
    read_config,
    without_digests,
    write_config,
)
from tests.model import tiny
from tests.model.methods import mp_iqe_reference as reference
from tests.model.methods.mp_iqe_reference import (
    ABLATIONS,
    DISTORTIONS,
    SCENES,
    assert_equations,
    changed,
    outputs,
    pixels,
    shaken,
)

every_ablation = pytest.mark.parametrize("options", ABLATIONS.values(), ids=ABLATIONS.keys())


# The equations.


@every_ablation
def test_everything_is_the_papers_equations_written_out(options: MpIqeOptions) -> None:
    assert_equations(shaken(options).double(), pixels(1))


def test_the_equations_hold_for_every_crop_of_a_batch_and_with_a_true_gelu() -> None:
    architecture = tiny.variant({"layers": 3}, stem=(), quick_gelu=False)
    network = shaken(clip=tiny.random_clip(architecture)).double()
    assert_equations(network, pixels(2))
    assert (outputs(network, pixels(2))["scene"].diff(dim=0).abs() > 1e-4).any()


@pytest.mark.parametrize(
    ("side", "temperature"), [(1, 0.05), (2, 0.05), (3, 0.05), (7, 0.05), (14, 0.05), (4, 1.0)]
)
def test_regions_of_any_side_are_max_pooled_out_of_the_square_of_patches(
    side: int, temperature: float
) -> None:
    options = changed(region_side=side, region_temperature=temperature)
    network = shaken(options).double()
    with torch.no_grad():
        tokens, texts = network.tokens(pixels(1))[0].numpy(), network.texts().distortion.numpy()
    ours = outputs(network, pixels(1))["distortion"][0].numpy()
    slow = reference.distortion_probabilities(network, tokens, texts, side, temperature)
    assert ours == pytest.approx(slow, abs=1e-10)


def test_the_defaults_are_the_papers() -> None:
    o = MpIqeOptions()
    assert (o.context_length, o.visual_length, o.decoder_layers, o.decoder_heads) == (8, 4, 3, 8)
    assert (o.region_side, o.region_temperature, o.init_std) == (7, 1 / 20, 0.02)
    assert (o.scene_prompts, o.distortion_prompts) == (True, True)
    assert (o.visual_prompts, o.prompt_position) == ("deep", "post_ln")


def test_a_text_feature_depends_on_its_own_context_and_name_alone() -> None:
    network = shaken()
    with torch.no_grad():
        before: Any = network.texts()
        network.scene_context.add_(torch.randn(3, 16))
        after: Any = network.texts()
    assert torch.equal(before.distortion, after.distortion)
    assert ((before.scene - after.scene).abs().amax(-1) > 1e-3).all()
    assert F.pdist(after.scene).min() > 1e-4  # nine names, nine features
    torch.testing.assert_close(after.queries.norm(dim=-1), torch.ones(20))
    assert torch.equal(after.queries, torch.cat([after.scene, after.distortion]))


# What trains.


@every_ablation
def test_what_is_declared_as_learned_is_exactly_what_gets_a_gradient(
    options: MpIqeOptions,
) -> None:
    """Every single number of it; but a lone query has nobody to choose from in self-attention."""
    clip = tiny.random_clip(reference.ARCHITECTURE)
    network = shaken(options, clip).double()
    reference.loss_of_every_output(network, pixels(2)).backward()
    learned = {n for n, p in network.trainable_parameters().items() if p.numel()}
    reached = {n: p.grad.abs() for n, p in network.named_parameters() if p.grad is not None}
    assert {n for n, grad in reached.items() if grad.numel()} == learned
    choosing = {n for n in learned if re.search(r"self_attention\.[qk]\.", n)}
    unreached = {n for n in learned if not (reached[n] > 1e-12).all()}
    assert unreached == (choosing if options.visual_only else set())
    assert not any(p.requires_grad or p.grad is not None for p in clip.parameters())


# The ablations.


@pytest.mark.parametrize(
    ("ablation", "gone"),
    [
        ("no-scene", {"scene_context"}),
        ("no-distortion", {"distortion_context"}),
        ("visual-only", {"scene_context", "distortion_context"}),
        ("no-visual", {"visual_prompts"}),
        ("shallow", set()),
        ("pre-ln", set()),
    ],
)
def test_an_ablation_removes_the_numbers_that_it_names(ablation: str, gone: set[str]) -> None:
    full, left = reference.sizes(ABLATIONS["paper"]), reference.sizes(ABLATIONS[ablation])
    assert full.keys() - left.keys() == gone
    assert left.keys() - full.keys() == ({"query"} if ablation == "visual-only" else set())
    smaller = {name for name in left.keys() & full.keys() if left[name] != full[name]}
    assert smaller == ({"visual_prompts"} if ablation == "shallow" else set())
    assert left.get("visual_prompts", 0) == {"shallow": 1, "no-visual": 0}.get(ablation, 3) * 2 * 32


@pytest.mark.parametrize(
    ("ablation", "kind", "queries"),
    [("no-scene", "scene", 11), ("no-distortion", "distortion", 9)],
)
def test_without_its_prompts_a_kind_is_in_no_query_row_or_score(
    ablation: str, kind: str, queries: int
) -> None:
    network = shaken(ABLATIONS[ablation])
    out = network(pixels(1, torch.float32))
    assert getattr(out, kind) is None
    assert getattr(network, f"{kind}_context") is None
    with torch.no_grad():
        assert len(network.texts().queries) == len(network.fold().attended) == queries
    scorer = reference.scorer_of(network)
    picture = tiny.picture(224, 224)
    assert scorer.rows(picture, scorer.plan(*picture.size)).shape == (1, 1 + queries)
    score, full = scorer.score(picture), reference.scorer_of(shaken()).score(picture)
    assert getattr(score, kind) is None
    assert getattr(full, kind) is not None


def test_without_visual_prompts_the_tokens_are_plain_clips() -> None:
    clip = tiny.random_clip(reference.ARCHITECTURE).double()
    network = shaken(ABLATIONS["no-visual"], clip).double()
    clip.visual.output_tokens = True
    with torch.no_grad():
        _, patches = clip.visual(pixels(2))  # open_clip's own forward
        clip.visual.output_tokens = False
        tokens = network.tokens(pixels(2))
        torch.testing.assert_close(tokens[:, 1:], patches, atol=1e-10, rtol=1e-10)
        cls = tokens[:, 0] @ clip.visual.proj
        torch.testing.assert_close(cls, clip.visual(pixels(2)), atol=1e-10, rtol=1e-10)


def test_the_visual_only_variant_asks_with_one_learned_query() -> None:
    network, x = shaken(ABLATIONS["visual-only"]), pixels(2, torch.float32)
    before = outputs(network, x)
    with torch.no_grad():
        network.query.mul_(-1)
    assert before.keys() == outputs(network, x).keys() == {"score"}
    assert ((outputs(network, x)["score"] - before["score"]).abs() > 1e-3).all()


def test_a_context_that_leaves_no_room_for_a_name_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="context"):
        reference.fresh(changed(context_length=76))


@pytest.mark.parametrize(
    ("text", "visual"), [(2, 4), (4, 4), (8, 4), (16, 4), (8, 1), (8, 2), (8, 8)]
)
def test_the_prompt_lengths_of_table_6_can_be_had(text: int, visual: int) -> None:
    network = shaken(changed(context_length=text, visual_length=visual))
    assert network.scene_context.shape == network.distortion_context.shape == (text, 16)
    assert network.visual_prompts.shape == (3, visual, 32)
    with torch.no_grad():
        assert network.tokens(pixels(1, torch.float32)).shape == (1, 50, 32)
        assert network.texts().queries.shape == (20, 16)
    out = outputs(network, pixels(1, torch.float32))
    assert [tuple(value.shape) for value in out.values()] == [(1,), (1, 9), (1, 11)]
    assert all(torch.isfinite(value).all() for value in out.values())


# The projections.


def test_the_projection_of_patches_starts_as_clips_own() -> None:
    clip = tiny.random_clip(reference.ARCHITECTURE).double()
    network = reference.fresh(clip=clip).double()
    tokens = torch.randn(4, 32, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(network.projection(tokens), tokens @ clip.visual.proj)


@pytest.mark.parametrize("own", [True, False], ids=["learned", "frozen"])
def test_the_class_token_alone_is_read_through_the_frozen_projection(own: bool) -> None:
    network = shaken()
    x = pixels(2, torch.float32)
    before = outputs(network, x)
    part = network.projection.weight if own else network.vision.visual.proj
    with torch.no_grad():
        part += torch.randn(part.shape)
    after = outputs(network, x)
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert same == ({"scene"} if own else {"score", "distortion"})
    assert all(not torch.allclose(before[n], after[n], atol=1e-3) for n in before.keys() - same)


# Folding.


@every_ablation
def test_folding_changes_no_score(options: MpIqeOptions) -> None:
    picture = tiny.picture(400, 224)
    each = reference.views_of(shaken(options), picture, CropPolicy())
    score = reference.scorer_of(shaken(options), crop_policy=CropPolicy()).score(picture)
    assert score.crops == len(each["score"]) == 3
    assert score.crop_quality == pytest.approx(each["score"].clip(0, 1).tolist(), abs=1e-5)
    assert score.quality == pytest.approx(float(each["score"].mean().clip(0, 1)), abs=1e-5)
    for kind, names in (("scene", SCENES), ("distortion", DISTORTIONS)):
        assert (getattr(score, kind) is not None) is (kind in each)
        if kind in each:
            wanted = dict(zip(names, each[kind].mean(0).tolist(), strict=True))
            assert getattr(score, kind) == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("logit", [0.5, 3.0])
def test_the_global_view_is_mixed_in_with_its_learned_weight(logit: float) -> None:
    network, picture, policy = shaken(), tiny.picture(400, 224), CropPolicy(global_view=True)
    with torch.no_grad():
        network.global_logit.fill_(logit)
        network.decoder.head[2].weight.mul_(0.1)  # scores well inside of 0 and 1
    each = reference.views_of(network, picture, policy)
    assert len(each["score"]) == 4
    weight = 1 / (1 + math.exp(-logit))
    mixed = {n: (1 - weight) * v[:3].mean(0) + weight * v[3] for n, v in each.items()}
    score = reference.scorer_of(network, crop_policy=policy).score(picture)
    assert score.crops == len(score.crop_quality or ()) == 3
    assert 0 < score.quality < 1
    assert score.quality == pytest.approx(float(mixed["score"]), abs=1e-5)
    assert abs(score.quality - each["score"].mean()) > 1e-4  # no plain mean over four views
    assert list(score.scene.values()) == pytest.approx(mixed["scene"].tolist(), abs=1e-5)
    assert list(score.distortion.values()) == pytest.approx(mixed["distortion"].tolist(), abs=1e-5)


def test_features_and_first_queries_are_constants_once_folded() -> None:
    network = shaken()
    args = (pixels(2, torch.float32), torch.tensor([1, 0]), torch.tensor([0, 0]))
    with torch.no_grad():
        folded = network.fold()
        before = folded(*args)
        first = network.decoder.layers[0]
        constant = [network.scene_context, network.distortion_context, network.global_logit]
        constant += [*first.norm_self.parameters(), *first.self_attention.parameters()]
        constant += network.text.text.transformer.parameters()
        weight = folded.global_weight.clone()
        for parameter in constant:
            parameter.add_(torch.randn(parameter.shape))
        assert torch.equal(folded(*args), before)
        assert torch.equal(folded.global_weight, weight)
        assert not torch.allclose(network.fold()(*args), before, atol=1e-3)


def test_one_image_is_read_from_its_rows_clipped_at_the_very_end() -> None:
    folded = shaken(ABLATIONS["no-scene"]).fold()
    folded.global_weight = torch.tensor(0.25)
    rows = torch.rand(3, 12)
    rows[:, 0] = torch.tensor([1.5, -0.3, 0.6])
    score = folded.read({"quality": Views(rows[:2], rows[2])})
    assert score.quality == pytest.approx(0.75 * 0.6 + 0.25 * 0.6)  # not of clipped windows
    assert score.crop_quality == (1, 0)
    mixed = 0.75 * rows[:2, 1:].mean(0) + 0.25 * rows[2, 1:]
    assert list(score.distortion.values()) == pytest.approx(mixed.tolist(), abs=1e-6)


@pytest.mark.parametrize(("bias", "quality"), [(9.0, 1.0), (-9.0, 0.0)])
def test_a_score_out_of_range_is_clipped(bias: float, quality: float) -> None:
    network = shaken()
    with torch.no_grad():
        network.decoder.head[2].bias.fill_(bias)
    scorer = reference.scorer_of(network)
    assert np.abs(scorer.rows(tiny.picture(224, 224), scorer.plan(224, 224))[0, 0]) > 1
    score = scorer.score(tiny.picture(224, 224))
    assert (score.quality, score.crop_quality) == (quality, (quality,))


# Rows and odd images. The largest difference that a dtype's rounding makes in a row.
TOLERANCE = {"float32": 1e-5, "bfloat16": 3e-2}
every_dtype = pytest.mark.parametrize("dtype", TOLERANCE)


@every_dtype
@every_ablation
def test_a_row_is_the_same_alone_and_among_rows_of_other_images(
    options: MpIqeOptions, dtype: str
) -> None:
    scorer = reference.scorer_of(shaken(options), dtype)
    pictures = [tiny.picture(224, 224, 1), tiny.picture(300, 224, 2), tiny.picture(90, 260, 3)]
    crops = np.concatenate([scorer.crops(p) for p in pictures])
    order = np.random.RandomState(0).permutation(len(crops)).tolist()
    together = scorer.forward(crops, order, [0] * len(order))
    alone = np.concatenate([scorer.forward(crops[c : c + 1], [0], [0]) for c in order])
    assert together.dtype == np.float32
    assert np.abs(together - alone).max() <= TOLERANCE[dtype]
    assert np.abs(together - np.roll(together, 1, axis=0)).max() > 2 * TOLERANCE[dtype]


def test_bfloat16_rows_lie_near_float32_rows() -> None:
    picture = tiny.picture(500, 400)
    both = [reference.scorer_of(shaken(), d) for d in TOLERANCE]
    exact, rounded = (s.rows(picture, s.plan(*picture.size)) for s in both)
    assert 0 < np.abs(exact - rounded).max() < 0.1


@pytest.fixture(scope="module")
def scorers() -> dict[str, Scorer]:
    """The same network in both dtypes, one of them with a global view."""
    views = {"float32": CropPolicy(global_view=True), "bfloat16": CropPolicy(max_side=1024)}
    return {d: reference.scorer_of(shaken(), d, crop_policy=p) for d, p in views.items()}


@every_dtype
@pytest.mark.parametrize("picture", reference.ODD.values(), ids=reference.ODD.keys())
def test_scores_and_probabilities_of_any_image_are_in_range(
    picture: Image.Image, dtype: str, scorers: dict[str, Scorer]
) -> None:
    score: Any = scorers[dtype].score(picture)
    assert all(0 <= value <= 1 for value in (score.quality, *score.crop_quality))
    assert (tuple(score.scene), tuple(score.distortion)) == (tuple(SCENES), tuple(DISTORTIONS))
    for kind in (score.scene, score.distortion):
        assert all(0 <= p <= 1 for p in kind.values())
        assert sum(kind.values()) == pytest.approx(1, abs=1e-5)
        assert max(kind.values()) - min(kind.values()) > 1e-3
    assert score.alignment is score.consistency is None


# Checkpoints.


@every_ablation
def test_what_is_saved_comes_back_exactly(options: MpIqeOptions, tmp_path: Path) -> None:
    clip = tiny.random_clip(reference.ARCHITECTURE)
    network = shaken(options, clip)
    saved = {name: p.detach().clone() for name, p in network.trainable_parameters().items()}
    x = pixels(1, torch.float32)
    scores = outputs(network, x)
    reference.save(network, clip, tmp_path)
    reference.perturb(network, seed=7)
    assert not torch.equal(outputs(network, x)["score"], scores["score"])
    _, loaded = load_network(tmp_path)
    load_strictly(network.stored(), load_file(tmp_path / PARAMETERS))
    for again in (loaded, network):
        assert again.trainable_parameters().keys() == saved.keys()
        assert all(
            torch.equal(again.trainable_parameters()[name], value) for name, value in saved.items()
        )
        now = outputs(again, x)
        assert all(torch.equal(now[name], value) for name, value in scores.items())


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda t: t.pop("scene_context"), r"scene_context \[3, 16\] is missing"),
        (lambda t: t.update(surplus=torch.zeros(2)), r"surplus \[2\] belongs to another network"),
        (
            lambda t: t.update(visual_prompts=torch.zeros(1, 2, 32)),
            r"visual_prompts is \[1, 2, 32\], wanted \[3, 2, 32\]",
        ),
    ],
    ids=["missing", "extra", "misshapen"],
)
def test_a_tensor_that_does_not_fit_is_named(edit: Any, message: str, tmp_path: Path) -> None:
    clip = tiny.random_clip(reference.ARCHITECTURE)
    reference.save(shaken(clip=clip), clip, tmp_path)
    tensors = load_file(tmp_path / PARAMETERS)
    edit(tensors)
    save_file(tensors, tmp_path / PARAMETERS)
    write_config(tmp_path, without_digests(read_config(tmp_path)))
    with pytest.raises(CheckpointError, match=message):
        load_network(tmp_path)
