"""CLIP-AGIQA's network: what trains, what the ablations remove, and what folding must keep."""

import math
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.config import Head
from model.methods.clip_agiqa import ClipAgiqa, ClipAgiqaOptions
from model.methods.consistency import pool_views
from model.methods.network import Views, mix_views
from model.preprocess.crops import ALIGNMENT_PASS, PASSES, QUALITY_PASS
from model.scorer import Scorer
from tests.model import tiny

PROMPTS = ["a red cube, oil painting", "two dogs on a beach"]


def pixels(count: int) -> Tensor:
    return torch.randn(count, 3, 224, 224, generator=torch.Generator().manual_seed(2))


def features(network: ClipAgiqa, x: Tensor, pass_: int) -> Tensor:
    prompts = network.visual_prompts()[torch.full((len(x),), pass_)]
    return F.normalize(network.vision.encode(network.vision.patchify(x), prompts), dim=-1)


def loss_of_every_part(network: ClipAgiqa, x: Tensor) -> Tensor:
    """Both tasks, the consistency, and the global view's weights."""
    texts = network.text_features()
    quality = network.probability(features(network, x, QUALITY_PASS), texts.quality)
    loss = quality.square().mean()
    weights = torch.sigmoid(network.global_logit)
    loss = loss + mix_views(quality[0], quality[1], weights[QUALITY_PASS])
    if texts.alignment is None or network.consistency is None:
        return loss
    z = features(network, x, ALIGNMENT_PASS)
    alignment = network.probability(z, texts.alignment)
    t_user = network.user_features(PROMPTS)
    loss = loss + alignment.square().mean() + network.consistency(z, t_user, texts.alignment).sum()
    return loss + mix_views(alignment[0], alignment[1], weights[ALIGNMENT_PASS])


ABLATIONS: dict[str, ClipAgiqaOptions] = {
    "paper": tiny.OPTIONS,
    "no-auxiliary-task": tiny.OPTIONS.model_copy(update={"auxiliary_task": False}),
    "no-deep-text": tiny.OPTIONS.model_copy(update={"deep_text_prompts": False}),
    "no-visual": tiny.OPTIONS.model_copy(update={"visual_prompts": False}),
    "nothing-but-a-context": tiny.OPTIONS.model_copy(
        update={"auxiliary_task": False, "deep_text_prompts": False, "visual_prompts": False}
    ),
}
every_ablation = pytest.mark.parametrize("options", ABLATIONS.values(), ids=ABLATIONS.keys())


@every_ablation
def test_what_is_declared_as_learned_is_exactly_what_gets_a_gradient(
    options: ClipAgiqaOptions,
) -> None:
    network = tiny.random_network(options)
    loss_of_every_part(network, pixels(2)).backward()
    moved = {n for n, p in network.named_parameters() if p.grad is not None and p.grad.any()}
    assert moved == {name for name, p in network.trainable_parameters().items() if p.numel()}


def test_the_backbone_gets_no_gradient() -> None:
    clip = tiny.random_clip()
    network = tiny.random_network(clip=clip)
    loss_of_every_part(network, pixels(2)).backward()
    assert not any(p.requires_grad or p.grad is not None for p in clip.parameters())
    ours = {id(p) for p in network.trainable_parameters().values()}
    assert not ours & {id(p) for p in clip.parameters()}


def test_the_quality_loss_flows_into_the_auxiliary_visual_prompts_only() -> None:
    network = tiny.random_network()
    texts = network.text_features()
    network.probability(features(network, pixels(2), QUALITY_PASS), texts.quality).sum().backward()
    reached = {name for name, p in network.trainable_parameters().items() if p.grad is not None}
    assert "alignment.visual" in reached
    assert not {"alignment.context", "alignment.text"} & reached


@pytest.mark.parametrize(
    ("ablation", "gone"),
    [
        ("no-auxiliary-task", ["alignment.", "condition.", "consistency."]),
        ("no-deep-text", ["quality.text", "alignment.text"]),
        ("no-visual", ["quality.visual", "alignment.visual", "condition."]),
    ],
)
def test_an_ablation_removes_the_numbers_that_it_names(ablation: str, gone: list[str]) -> None:
    def names(options: ClipAgiqaOptions) -> set[str]:
        learned = tiny.fresh_network(options).trainable_parameters()
        return {name for name, p in learned.items() if p.numel()}

    full, left = names(ABLATIONS["paper"]), names(ABLATIONS[ablation])
    assert full - left == {name for name in full if name.startswith(tuple(gone))}
    assert left <= full


def without(network: ClipAgiqa, part: str) -> Tensor:
    """Quality of two images after the parameter ``part`` was overwritten with noise."""
    parameter = network.trainable_parameters().get(part)
    if parameter is not None:
        with torch.no_grad():
            parameter.add_(torch.randn(parameter.shape))
    with torch.no_grad():
        z = features(network, pixels(2), QUALITY_PASS)
        return network.probability(z, network.text_features().quality)


@pytest.mark.parametrize(
    ("ablation", "part"),
    [
        ("no-auxiliary-task", "alignment.visual"),
        ("no-deep-text", "quality.text"),
        ("no-visual", "quality.visual"),
    ],
)
def test_an_ablated_part_has_no_say_in_the_quality(ablation: str, part: str) -> None:
    for options, matters in ((ABLATIONS["paper"], True), (ABLATIONS[ablation], False)):
        network = tiny.random_network(options)
        before = without(network, "")
        assert torch.allclose(before, without(network, part), atol=1e-6) is not matters


def test_without_the_auxiliary_task_there_is_one_unconditioned_pass() -> None:
    network = tiny.random_network(ABLATIONS["no-auxiliary-task"])
    torch.testing.assert_close(network.visual_prompts(), network.quality.visual[None])
    assert network.text_features().alignment is None


def test_without_visual_prompts_the_image_is_seen_by_plain_clip() -> None:
    clip = tiny.random_clip()
    network = tiny.random_network(ABLATIONS["no-visual"], clip)
    with torch.no_grad():
        plain = F.normalize(clip.visual(pixels(2)), dim=-1)
        for pass_ in (QUALITY_PASS, ALIGNMENT_PASS):
            torch.testing.assert_close(features(network, pixels(2), pass_), plain)


@pytest.mark.parametrize("first", [True, False], ids=["main", "auxiliary"])
def test_the_condition_reads_the_main_prompt_first_and_the_auxiliary_second(first: bool) -> None:
    network = tiny.random_network()
    width = network.vision.width
    with torch.no_grad():
        for linear in network.condition:
            linear.bias.zero_()
            linear.weight.zero_()
            half = slice(0, width) if first else slice(width, 2 * width)
            linear.weight[:, half] = torch.eye(width)
    quality, alignment = network.visual_prompts()
    read = network.quality.visual if first else network.alignment.visual
    torch.testing.assert_close(quality, read)
    torch.testing.assert_close(alignment, network.alignment.visual)


def test_each_layer_is_conditioned_by_its_own_linear() -> None:
    network = tiny.random_network()
    for layer, linear in enumerate(network.condition):
        pair = torch.cat([network.quality.visual[layer], network.alignment.visual[layer]], dim=-1)
        torch.testing.assert_close(network.visual_prompts()[QUALITY_PASS, layer], linear(pair))


@pytest.mark.parametrize("position", ["pre_ln", "post_ln"])
@every_ablation
def test_folding_changes_no_score(options: ClipAgiqaOptions, position: Any) -> None:
    network = tiny.random_network(options.model_copy(update={"prompt_position": position}))
    heads: tuple[Head, ...] = ("quality", "alignment") if options.auxiliary_task else ("quality",)
    x = pixels(3)
    with torch.no_grad():
        texts = network.text_features()
        unfolded = {PASSES[head]: features(network, x, PASSES[head]) for head in heads}
        folded = network.fold()
        views = {}
        for head in heads:
            z = folded(x, torch.arange(3), torch.full((3,), PASSES[head]))
            torch.testing.assert_close(z, unfolded[PASSES[head]], atol=1e-5, rtol=1e-5)
            views[head] = Views(z, None)
        score = folded.read(views)
        quality = network.probability(unfolded[QUALITY_PASS], texts.quality)
    assert score.quality == pytest.approx(float(quality.mean()), abs=1e-5)
    assert score.crop_quality == pytest.approx(quality.tolist(), abs=1e-5)
    if texts.alignment is None:
        assert score.alignment is None
    else:
        alignment = network.probability(unfolded[ALIGNMENT_PASS], texts.alignment)
        assert score.alignment == pytest.approx(float(alignment.mean()), abs=1e-5)


def test_folding_changes_no_user_prompt(network: ClipAgiqa) -> None:
    with torch.no_grad():
        torch.testing.assert_close(network.fold().embed(PROMPTS), network.user_features(PROMPTS))


def test_a_folded_network_does_not_follow_later_training(network: ClipAgiqa) -> None:
    folded = network.fold()
    args = (pixels(1), torch.tensor([0]), torch.tensor([QUALITY_PASS]))
    with torch.no_grad():
        before = folded(*args)
        for parameter in network.trainable_parameters().values():
            parameter.add_(1)
        torch.testing.assert_close(folded(*args), before)


def test_the_global_view_is_mixed_in_with_its_own_learned_weight_per_task(
    network: ClipAgiqa,
) -> None:
    with torch.no_grad():
        network.global_logit.copy_(torch.tensor([1.0, -2.0]))
        texts: Any = network.text_features()
        x = pixels(3)
        views: dict[Head, Views] = {}
        wanted = []
        tasks: dict[Head, Any] = {"quality": texts.quality, "alignment": texts.alignment}
        for head, classes in tasks.items():
            p = PASSES[head]
            z = features(network, x, p)
            views[head] = Views(z[:2], z[2])
            each = network.probability(z, classes)
            weight = 1 / (1 + math.exp([-1.0, 2.0][p]))
            wanted.append(float((1 - weight) * each[:2].mean() + weight * each[2]))
        folded = network.fold()
        mixed = folded.read(views)
        windows = views["quality"].windows
        plain = folded.read({"quality": Views(windows, None)})
        each = network.probability(windows, texts.quality)
    assert [mixed.quality, mixed.alignment] == pytest.approx(wanted, abs=1e-6)
    assert plain.quality == pytest.approx(float(each.mean()), abs=1e-6)


def test_the_parameter_count_at_vit_b_32_widths_is_the_papers(vit_b_32: nn.Module) -> None:
    before = [p.requires_grad for p in vit_b_32.parameters()]
    learned = ClipAgiqa(vit_b_32, ClipAgiqaOptions()).trainable_parameters()
    for parameter, flag in zip(vit_b_32.parameters(), before, strict=True):
        parameter.requires_grad_(flag)
    sizes = {
        name: p.numel()
        for name, p in learned.items()
        if not name.startswith("consistency.") and name != "global_logit"
    }
    assert sum(sizes.values()) == 14_410_752  # "14.41 M"
    linears = sum(size for name, size in sizes.items() if name.startswith("condition."))
    assert linears / sum(sizes.values()) > 0.98
    extra = sum(p.numel() for p in learned.values()) - sum(sizes.values())
    assert extra < 5_000  # "about 4 k" for the consistency


def test_consistency_starts_as_a_calibrated_clip_score() -> None:
    network = tiny.fresh_network()
    head: Any = network.consistency
    scale = float(network.logit_scale.exp())
    with torch.no_grad():
        z = F.normalize(torch.randn(2, 16), dim=-1)
        t_user = network.user_features(PROMPTS)
        ours = head(z, t_user, network.text_features().alignment)
    assert head.alpha.item() == pytest.approx(scale)
    cosines = F.cosine_similarity(z, t_user)
    torch.testing.assert_close(ours, torch.sigmoid(scale * cosines + head.bias.detach()))


def test_the_users_context_starts_as_the_words_a_photo_that_depicts() -> None:
    clip = tiny.random_clip().double()
    network = tiny.fresh_network(clip=clip)
    ids = open_clip.SimpleTokenizer()([f"a photo that depicts {p}" for p in PROMPTS])
    with torch.no_grad():
        plain = F.normalize(clip.encode_text(ids), dim=-1)
        torch.testing.assert_close(network.user_features(PROMPTS), plain)


def test_the_consistency_is_the_formula_of_the_bilinear_head(network: ClipAgiqa) -> None:
    head: Any = network.consistency
    state = np.random.RandomState(0)
    z, t = (v / np.linalg.norm(v) for v in state.standard_normal((2, 16)))
    classes = state.standard_normal((2, 16))
    with torch.no_grad():
        ours = head(*(torch.tensor(v[None]).float() for v in (z, t)), torch.tensor(classes).float())
    alpha, delta, beta, gamma, kappa, bias = (
        getattr(head, name).detach().double().numpy()
        for name in ("alpha", "delta", "beta", "gamma", "kappa", "bias")
    )
    logit = alpha * sum((1 + delta[d]) * z[d] * t[d] for d in range(16))
    logit += beta @ t + gamma @ z + kappa * (z @ classes[0] - z @ classes[1]) + bias
    assert float(ours[0]) == pytest.approx(1 / (1 + math.exp(-logit)), abs=1e-6)


def only_kappa(network: ClipAgiqa) -> None:
    head = network.consistency
    with torch.no_grad():
        for name in ("alpha", "delta", "beta", "gamma", "bias"):
            getattr(head, name).zero_()
        head.kappa.copy_(network.logit_scale.exp())


def test_with_kappa_alone_consistency_is_fus_alignment_for_one_crop(network: Any) -> None:
    only_kappa(network)
    with torch.no_grad():
        classes = network.text_features().alignment
        z = features(network, pixels(3), ALIGNMENT_PASS)
        theirs = network.probability(z, classes)
        pooled = pool_views(z[:, None])  # one view each
        ours = network.consistency(pooled, network.user_features([*PROMPTS, "x"]), classes)
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)


def test_with_kappa_alone_a_one_window_image_scores_its_alignment(network: ClipAgiqa) -> None:
    only_kappa(network)
    scorer = Scorer(tiny.config_of(), network, device="cpu", dtype="float32")
    score = scorer.score(tiny.picture(224, 224), prompt="a red cube")
    assert score.crops == 1  # its global view is the window itself
    assert score.consistency == pytest.approx(score.alignment, abs=1e-6)


def test_a_score_may_compare_the_whole_image_alone_with_the_prompt() -> None:
    network = tiny.fresh_network(ClipAgiqaOptions(consistency_views="whole"))
    tiny.shake(network)
    folded = network.eval().fold()
    torch.manual_seed(0)
    rows = F.normalize(torch.randn(4, tiny.ARCHITECTURE.embed_dim), dim=-1)
    with torch.inference_mode():
        t_user = folded.embed(["a cat"])[0]
        reading = folded.reading("consistency", t_user).value
        found = reading(Views(rows[:3], rows[3]))
        assert torch.equal(found, reading(Views(rows[:1], rows[3])))
        assert not torch.equal(found, reading(Views(rows[:3], rows[0])))
        assert torch.isfinite(reading(Views(rows[:3], None)))
