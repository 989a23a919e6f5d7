"""The scorer's five verbs, and ``score``, which runs them one after another."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

import model
from model.config import CropPolicy, Head
from model.errors import BadAspect, ImageError
from model.methods.network import normalise
from model.preprocess.crops import ALIGNMENT_PASS, QUALITY_PASS, gather
from model.scorer import Scorer
from model.scores import Score
from tests.model import tiny

ALL: tuple[Head, ...] = ("quality", "alignment", "consistency")
# Largest difference of a row computed among others and alone: rounding of the dtype's sums, for
# features of norm 1 (bfloat16 keeps 8 bits).
TOLERANCE = {"float32": 1e-5, "bfloat16": 2e-2}
every_dtype = pytest.mark.parametrize("dtype", TOLERANCE)


@pytest.fixture(scope="module")
def scorers(tiny_checkpoint: Path) -> dict[str, Scorer]:
    return {d: model.load(str(tiny_checkpoint), device="cpu", dtype=d) for d in TOLERANCE}


@every_dtype
def test_a_row_is_the_same_alone_and_among_rows_of_other_images(
    dtype: str, scorers: dict[str, Scorer]
) -> None:
    scorer = scorers[dtype]
    pictures = [tiny.picture(224, 224, 1), tiny.picture(400, 300, 2), tiny.picture(90, 260, 3)]
    crops = np.concatenate([scorer.crops(p, ALL) for p in pictures])
    order = np.random.RandomState(0).permutation(2 * len(crops))
    row_crop, row_pass = (order // 2).tolist(), (order % 2).tolist()
    together = scorer.forward(crops, row_crop, row_pass)
    alone = np.concatenate(
        [
            scorer.forward(crops[c : c + 1], [0], [p])
            for c, p in zip(row_crop, row_pass, strict=True)
        ]
    )
    assert together.dtype == np.float32
    assert np.abs(together - alone).max() <= TOLERANCE[dtype]
    apart = np.abs(alone[row_pass.index(0)] - alone[row_pass.index(1)]).max()
    assert apart > 2 * TOLERANCE[dtype]  # so that equality means something


@every_dtype
def test_scores_from_a_shared_batch_are_the_scores_of_each_image_alone(
    dtype: str, scorers: dict[str, Scorer]
) -> None:
    scorer = scorers[dtype]
    pictures = [tiny.picture(300, 300, seed) for seed in range(3)]
    prompts = ["a cat", "a dog, at night", "x"]
    layouts = [scorer.planner.layout(*p.size, ALL) for p in pictures]
    crops = [scorer.crops(p, ALL) for p in pictures]
    whole = [slice(None)] * len(pictures)
    rows = scorer.forward(*gather(zip(layouts, crops, whole, strict=True)))
    parts = np.split(rows, np.cumsum([layout.rows for layout in layouts])[:-1])
    for part, layout, picture, prompt in zip(parts, layouts, pictures, prompts, strict=True):
        batched, single = scorer.reduce(part, layout, prompt), scorer.score(picture, prompt)
        for head in ALL:
            wanted = pytest.approx(getattr(single, head), abs=2 * TOLERANCE[dtype])
            assert getattr(batched, head) == wanted


def test_bfloat16_scores_lie_near_float32_scores(scorers: dict[str, Scorer]) -> None:
    picture = tiny.picture(500, 400)
    exact, rounded = (scorers[d].score(picture, "a cat") for d in ("float32", "bfloat16"))
    for head in ALL:
        assert getattr(rounded, head) == pytest.approx(getattr(exact, head), abs=0.03)


def test_scoring_in_float32_leaves_the_weights_as_they_are() -> None:
    """A training measures its network before it writes it."""
    network = tiny.random_network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    scorer = Scorer(tiny.config_of(), network, device="cpu", dtype="float32")
    scorer.score(tiny.picture(224, 224), "a cat")
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_pixels_of_any_type_stay_as_they_are_when_they_are_normalised() -> None:
    pixels = torch.rand(1, 3, 8, 8) * 255
    before = pixels.clone()
    assert not torch.equal(normalise(pixels, tiny.config_of().normalisation), before)
    assert torch.equal(pixels, before)


def test_rows_are_normalised_features(scorer: Scorer) -> None:
    rows = scorer.forward(scorer.crops(tiny.picture(224, 224), ("quality",)), [0, 0], [0, 1])
    assert rows.shape == (2, 16)
    assert np.linalg.norm(rows, axis=1) == pytest.approx([1, 1], abs=1e-5)


def test_pixels_are_normalised_as_the_checkpoint_says() -> None:
    network = tiny.random_network()
    scorer = Scorer(tiny.config_of(), network, device="cpu", dtype="float32")
    crops = scorer.crops(tiny.picture(224, 224), ("quality",))
    mean, std = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    pixels = (crops[0].transpose(1, 2, 0) / 255 - mean) / std
    pixels = torch.tensor(pixels.transpose(2, 0, 1)[None]).float()
    with torch.no_grad():
        tokens, prompts = network.vision.patchify(pixels), network.visual_prompts()[:1]
        z = F.normalize(network.vision.encode(tokens, prompts), dim=-1)
    assert scorer.forward(crops, [0], [0]) == pytest.approx(z.numpy(), abs=1e-5)


def test_an_image_scores_alike_from_every_kind_of_source(scorer: Scorer, tmp_path: Path) -> None:
    image = tiny.picture(300, 250)
    out = io.BytesIO()
    image.save(out, "PNG")
    path = tmp_path / "image.png"
    path.write_bytes(out.getvalue())
    wanted = scorer.score(image)
    for source in (np.asarray(image), out.getvalue(), path, str(path)):
        assert scorer.score(source) == wanted


def test_a_list_is_scored_in_its_order(scorer: Scorer) -> None:
    pictures = [tiny.picture(224, 224, seed) for seed in range(3)]
    scores = scorer.score(list(pictures), ["a cat", None, ""])
    assert scores == [
        scorer.score(pictures[0], "a cat"),
        scorer.score(pictures[1]),
        scorer.score(pictures[2]),
    ]
    assert len({score.quality for score in scores}) == 3
    assert [score.consistency is None for score in scores] == [False, True, True]


def test_one_prompt_serves_a_whole_list_and_an_empty_one(scorer: Scorer) -> None:
    pictures = [tiny.picture(224, 224, seed) for seed in range(2)]
    wanted = [scorer.score(p, "a cat") for p in pictures]
    assert scorer.score(list(pictures), "a cat") == wanted
    assert scorer.score([], "a cat") == []


def test_unfitting_numbers_of_images_and_prompts_are_refused(scorer: Scorer) -> None:
    with pytest.raises(ValueError, match="2 images, but 1 prompts"):
        scorer.score([tiny.picture(9, 9), tiny.picture(9, 9)], ["a cat"])
    with pytest.raises(ValueError, match="one image takes one prompt"):
        scorer.score(tiny.picture(9, 9), ["a cat", "a dog"])  # type: ignore[call-overload]


def test_what_is_no_image_is_an_image_error(scorer: Scorer) -> None:
    with pytest.raises(ImageError):
        scorer.score(b"no image")


HEADS: dict[str, tuple[Head, ...]] = {
    "quality": ("quality",),
    "alignment": ("alignment",),
    "consistency": ("consistency",),
    "two": ("consistency", "quality"),
    "all": ALL,
}


@pytest.mark.parametrize("heads", HEADS.values(), ids=HEADS.keys())
@pytest.mark.parametrize("global_view", [False, True], ids=["windows-only", "global-view"])
def test_heads_are_the_same_asked_for_alone_and_together(
    global_view: bool, heads: tuple[Head, ...], tiny_checkpoint: Path
) -> None:
    scorer = model.load(
        str(tiny_checkpoint),
        device="cpu",
        dtype="float32",
        crop_policy=CropPolicy(global_view=global_view),
    )
    picture = tiny.picture(400, 300)
    every, some = scorer.score(picture, "a cat"), scorer.score(picture, "a cat", heads)
    for head in ALL:
        value = getattr(some, head)
        assert (value is not None) is (head in heads)
        if value is not None:
            assert value == pytest.approx(getattr(every, head), abs=1e-6)
    assert some.crops == every.crops == 6
    assert (some.crop_quality is not None) is ("quality" in heads)


def test_without_a_prompt_there_is_no_consistency(scorer: Scorer) -> None:
    score = scorer.score(tiny.picture(224, 224))
    assert score.consistency is None
    assert None not in (score.quality, score.alignment)
    with pytest.raises(ValueError, match="consistency needs the prompt"):
        scorer.score(tiny.picture(224, 224), heads=["consistency"])


def test_an_unknown_head_is_refused(scorer: Scorer) -> None:
    with pytest.raises(ValueError, match="no head 'beauty'"):
        scorer.score(tiny.picture(224, 224), heads=["beauty"])  # type: ignore[list-item]


def test_another_prompt_changes_the_consistency_and_nothing_else(scorer: Scorer) -> None:
    picture = tiny.picture(300, 300)
    cat, dog = (scorer.score(picture, prompt) for prompt in ("a cat", "a dog in the rain"))
    assert cat.consistency != pytest.approx(dog.consistency, abs=1e-4)
    assert (cat.quality, cat.alignment) == (dog.quality, dog.alignment)


def test_every_score_lies_between_0_and_1(scorer: Scorer) -> None:
    score = scorer.score(tiny.picture(300, 400), "a cat")
    assert score.crop_quality is not None
    values = [score.quality, score.alignment, score.consistency, *score.crop_quality]
    assert all(value is not None and 0 < value < 1 for value in values)


def test_without_a_global_view_quality_is_the_mean_over_windows(scorer: Scorer) -> None:
    score = scorer.score(tiny.picture(600, 400))
    assert score.crop_quality is not None
    assert len(score.crop_quality) == score.crops == 12
    assert score.quality == pytest.approx(np.mean(score.crop_quality), abs=1e-6)
    assert len(set(score.crop_quality)) > 1


@pytest.mark.parametrize(
    ("policy", "crops"),
    [
        (None, 9),
        ("grid", 9),
        ("official", 25),
        (CropPolicy(stride=72), 25),
        (CropPolicy(max_windows=4, max_side=400), 4),
    ],
    ids=["own", "grid", "official", "finer", "few"],
)
def test_the_crop_policy_can_be_replaced(
    policy: CropPolicy | str | None, crops: int, tiny_checkpoint: Path
) -> None:
    scorer = model.load(str(tiny_checkpoint), device="cpu", dtype="float32", crop_policy=policy)
    assert scorer.plan(512, 512, ("quality",)).cost == crops
    assert scorer.score(tiny.picture(512, 512), heads=["quality"]).crops == crops


def test_grid_by_name_is_the_checkpoints_own_grid(tiny_checkpoint: Path) -> None:
    by_name = model.load(str(tiny_checkpoint), device="cpu", crop_policy="grid")
    assert by_name.plan(2048, 2048, ("quality",)).cost == 49  # with its max_side of 1024


@pytest.mark.parametrize(("option", "value"), [("crop_policy", "spiral"), ("dtype", "float16")])
def test_an_unknown_option_is_refused(option: str, value: str, tiny_checkpoint: Path) -> None:
    with pytest.raises(ValueError, match=f"{value}'.*choose"):
        model.load(str(tiny_checkpoint), **{option: value})


@pytest.mark.parametrize("heads", HEADS.values(), ids=HEADS.keys())
def test_rows_of_another_layout_are_refused(heads: tuple[Head, ...], scorer: Scorer) -> None:
    layout = scorer.plan(400, 300, heads, "a cat")
    for wrong in (0, layout.rows - 1, layout.rows + 1):
        with pytest.raises(ValueError, match=f"^{wrong} rows, but .* has {layout.rows}$"):
            scorer.reduce(np.zeros((wrong, 16), np.float32), layout, "a cat")


def test_consistency_is_not_reduced_without_a_prompt(scorer: Scorer) -> None:
    layout = scorer.plan(224, 224, ("consistency",), "a cat")
    with pytest.raises(ValueError, match="needs the prompt"):
        scorer.reduce(np.zeros((layout.rows, 16), np.float32), layout)


@pytest.mark.parametrize("heads", HEADS.values(), ids=HEADS.keys())
def test_the_verbs_apart_give_what_score_gives(heads: tuple[Head, ...], scorer: Scorer) -> None:
    prompt = "a cat"
    picture = tiny.picture(400, 300)
    layout = scorer.plan(400, 300, heads, prompt)
    crops = scorer.crops(picture, heads)
    rows = scorer.forward(crops, layout.row_crop, layout.row_pass)
    assert scorer.reduce(rows, layout, prompt) == scorer.score(picture, prompt, heads)


def test_reduce_reads_each_pass_from_its_own_rows(scorer: Scorer) -> None:
    layout = scorer.plan(400, 300, ("quality", "alignment"))
    rows = scorer.rows(tiny.picture(400, 300), layout)
    before = scorer.reduce(rows, layout)
    for pass_, moved, kept in (
        (QUALITY_PASS, "quality", "alignment"),
        (ALIGNMENT_PASS, "alignment", "quality"),
    ):
        turned = rows.copy()
        turned[np.array(layout.row_pass) == pass_] *= -1
        after = scorer.reduce(turned, layout)
        assert getattr(after, kept) == getattr(before, kept)
        assert getattr(after, moved) != pytest.approx(getattr(before, moved), abs=1e-3)


def test_embed_gives_normalised_float32_features_on_the_cpu(scorers: dict[str, Scorer]) -> None:
    for scorer in scorers.values():
        features = scorer.embed(["a cat", ""])
        assert (features.dtype, features.device.type) == (torch.float32, "cpu")
        torch.testing.assert_close(features.norm(dim=-1), torch.ones(2), atol=1e-2, rtol=0)


def test_a_score_of_a_prompted_image_fills_the_cache(scorer: Scorer) -> None:
    prompt = "a prompt of this test alone"
    assert not scorer.knows(prompt)
    scorer.score(tiny.picture(224, 224), prompt)
    assert scorer.knows(prompt)


def test_a_score_is_a_plain_value() -> None:
    assert Score(crops=1, quality=0.5) == Score(crops=1, quality=0.5)
    with pytest.raises(AttributeError):
        Score(crops=1).quality = 1.0  # type: ignore[misc]


def test_an_extreme_aspect_is_refused_whatever_the_image_comes_as(scorer: Scorer) -> None:
    with pytest.raises(BadAspect):
        scorer.score(Image.new("RGB", (20_000, 1)))
