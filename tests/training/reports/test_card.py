import pytest

from model.config import BackboneConfig, CheckpointConfig, ScoreRange
from training.evaluation.degradation import Falls
from training.evaluation.results import (
    OWN_PROMPT,
    OWN_PROMPT_ALIGNED,
    HeadResult,
    Report,
    Share,
)
from training.recipe import MethodRecipe, load_recipe
from training.reports.card import model_card
from training.reports.card_figures import card_figures

QUALITY = HeadResult(0.9, 0.8, 0.85, 0.7, 0.1, 0.09, {"srcc": (0.8, 0.95)})


def card(
    name: str,
    score_range: ScoreRange,
    *settings: str,
    own_prompt: dict[str, Share] | None = None,
) -> str:
    folders = [f"{kind}.LIVE=x" for kind in ("data", "labels")] if "live" in name else []
    recipe = load_recipe(name, [*(folders or ["data.AGIQA-3K=x"]), *settings])
    assert isinstance(recipe, MethodRecipe)
    config = CheckpointConfig(
        name=recipe.name,
        method=recipe.method,
        backbone=BackboneConfig(source="open_clip", name="ViT-B-32", pretrained="openai"),
        score_range=score_range,
    )
    report = Report("test", 10, 5, {"quality": QUALITY}, own_prompt=own_prompt or {})
    return model_card(config, dict.fromkeys(recipe.data, report), recipe)


def test_the_scale_of_a_set_where_low_is_better_is_said() -> None:
    text = card("mp-iqe/live", ScoreRange(low=-5, high=115))
    assert "mos = -5 + quality x 120, where the data tells DMOS = 110 - mos, low = better" in text
    assert "DMOS" not in card("clip-agiqa/agiqa-3k", ScoreRange(low=0, high=5))


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("protocol=paper", "**Published protocol**"),
        ("schedule.select=best", "The epoch was chosen on the validation part."),
        ("schedule.select=last", "The last epoch is kept; none was chosen by its score."),
    ],
)
def test_how_the_epoch_was_chosen_is_said(setting: str, sentence: str) -> None:
    text = card("clip-agiqa/agiqa-3k", ScoreRange(low=0, high=5), setting)
    assert sentence in " ".join(text.split())
    assert "0.900 (0.800 to 0.950)" in text


def test_how_often_the_own_prompt_beats_another_stands_in_the_card() -> None:
    shares = {OWN_PROMPT: Share(0.721, (0.7, 0.75)), OWN_PROMPT_ALIGNED: Share(0.8, (0.7, 0.9))}
    text = card("clip-agiqa/agiqa-3k", ScoreRange(low=0, high=5), own_prompt=shares)
    assert "in 72.1% (70.0% to 75.0%) of the pairs; chance is 50%" in " ".join(text.split())
    assert "rated over 3 of 5: 80.0% (70.0% to 90.0%)" in " ".join(text.split())
    assert "chance is 50%" not in card("clip-agiqa/agiqa-3k", ScoreRange(low=0, high=5))


def test_figures_and_falls_stand_in_the_card() -> None:
    recipe = load_recipe("clip-agiqa/agiqa-3k", ["data.AGIQA-3K=x"])
    assert isinstance(recipe, MethodRecipe)
    config = CheckpointConfig(
        name="n",
        method=recipe.method,
        backbone=BackboneConfig(source="open_clip", name="ViT-B-32", pretrained="openai"),
    )
    rows = [
        {"image": f"{i}.jpg", "mos": i / 9, "mos_align": 1 - i / 9, "quality": (i / 9) ** 2}
        | {"alignment": None, "consistency": None, "generator": "a" if i < 5 else "b"}
        for i in range(10)
    ]
    report = Report("test", 10, 5, {"quality": QUALITY}, {}, rows)
    figures = card_figures({"AGIQA-3K": report})
    assert [figure.name for figure in figures] == ["quality", "reliability"]
    fallen = Falls(7, {"blur": -0.95}, {"blur": [0.7, 0.6, 0.5, 0.4, 0.3, 0.2]})
    text = model_card(config, {"AGIQA-3K": report}, recipe, figures, fallen)
    assert "](quality.svg)" in text
    assert "](reliability.svg)" in text
    assert "The 7 best-rated images" in text
    assert "| blur | -0.950 | 0.500 | 0.700 | 0.600 | 0.500 | 0.400 | 0.300 | 0.200 |" in text


def test_several_sets_have_figures_of_their_own_names() -> None:
    rows = [{"mos": i / 4, "mos_align": None, "quality": i / 5, "generator": ""} for i in range(5)]
    report = Report("test", 5, 5, {"quality": QUALITY}, {}, rows)
    names = [figure.name for figure in card_figures({"BID": report, "LIVE": report})]
    assert names == ["quality-BID", "reliability-BID", "quality-LIVE", "reliability-LIVE"]
