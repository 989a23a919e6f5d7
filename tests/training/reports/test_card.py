import pytest

from model.config import BackboneConfig, CheckpointConfig, ScoreRange
from training.evaluation.evaluate import Report
from training.recipe import MethodRecipe, load_recipe
from training.reports.card import model_card

FIGURES = {"quality_srcc": 0.9, "quality_plcc": 0.8, "quality_krcc": 0.7, "quality_rmse": 0.1}


def card(name: str, score_range: ScoreRange, *settings: str) -> str:
    folders = [f"{kind}.LIVE=x" for kind in ("data", "labels")] if "live" in name else []
    recipe = load_recipe(name, [*(folders or ["data.AGIQA-3K=x"]), *settings])
    assert isinstance(recipe, MethodRecipe)
    config = CheckpointConfig(
        name=recipe.name,
        method=recipe.method,
        backbone=BackboneConfig(source="open_clip", name="ViT-B-32", pretrained="openai"),
        score_range=score_range,
    )
    report = Report("test", 10, 5, FIGURES, {"quality_srcc": (0.8, 0.95)}, {})
    return model_card(config, dict.fromkeys(recipe.data, report), recipe)


def test_the_scale_of_a_set_where_low_is_better_is_said() -> None:
    told = card("mp-iqe/live", ScoreRange(low=-5, high=115))
    assert "mos = -5 + quality x 120, where the data tells DMOS = 110 - mos, low = better" in told
    assert "DMOS" not in card("clip-agiqa/agiqa-3k", ScoreRange(low=0, high=5))


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("protocol=paper", "**Published protocol**"),
        ("schedule.select=best", "the epoch was chosen there too"),
        ("schedule.select=last", "no epoch by its score"),
    ],
)
def test_how_the_epoch_was_chosen_is_said(setting: str, said: str) -> None:
    told = card("clip-agiqa/agiqa-3k", ScoreRange(low=0, high=5), setting)
    assert said in " ".join(told.split())
    assert "0.900 (0.800 to 0.950)" in told
