"""The rows of the papers' tables, and the published figures that belong beside them."""

from pathlib import Path

import pytest

from training.data.samples import Sample
from training.errors import RecipeError
from training.methods.variant import VISUAL_ONLY, Variant
from training.recipe import MethodRecipe, load_recipe, read_content
from training.research.experiments.definitions import variants_of
from training.research.experiments.grid import Grid
from training.research.experiments.tables import published_value


def recipe_of(name: str, data_set: str, *settings: str) -> MethodRecipe:
    folders = [f"data.{data_set}=x", *([f"labels.{data_set}=y"] if name.startswith("mp") else [])]
    recipe = load_recipe(name, [*folders, *settings])
    assert isinstance(recipe, MethodRecipe)
    return recipe


def published(kind: str, name: str, data_set: str) -> dict[str, float | None]:
    recipe = recipe_of(name, data_set)
    variants = variants_of(kind, recipe, {})
    grid = Grid(kind, recipe, variants, 1, Path("out"), {})
    return {v.name: published_value(grid, v, data_set, "SRCC") for v in variants}


@pytest.mark.parametrize(
    ("kind", "name", "data_set", "expected"),
    [
        (
            *("ablation", "mp-iqe/csiq", "CSIQ"),
            {
                "full model": 0.961,
                "without scene prompts": 0.956,
                "without distortion prompts": 0.953,
                "without visual prompts": 0.932,
                "shallow visual prompts": 0.947,
                "visual prompts alone": None,
            },
        ),
        (
            *("prompt-length", "mp-iqe/live", "LIVE"),
            {
                "2 text vectors": 0.974,
                "4 text vectors": 0.975,
                "8 text vectors": 0.978,
                "16 text vectors": 0.978,
                "1 visual prompts": 0.974,
                "2 visual prompts": 0.975,
                "4 visual prompts": 0.978,
                "8 visual prompts": 0.974,
            },
        ),
        (
            *("data-efficiency", "mp-iqe/live-challenge", "LIVE-Challenge"),
            {
                "20% to train on": 0.808,
                "40% to train on": 0.856,
                "60% to train on": 0.88,
                "80% to train on": None,
            },
        ),
        ("rounds", "mp-iqe/kadid-10k", "KADID-10k", {"full model": 0.941}),
        ("rounds", "clip-agiqa/agiqa-3k", "AGIQA-3K", {"full model": 0.8747}),
        ("rounds", "clip-iqa-plus/koniq-10k", "KonIQ-10k", {"full model": 0.895}),
    ],
)
def test_the_paper_s_figure_stands_beside_each_row(
    kind: str, name: str, data_set: str, expected: dict[str, float | None]
) -> None:
    assert published(kind, name, data_set) == expected


def test_the_ablation_has_the_switches_of_clip_agiqa_s_code() -> None:
    recipe = recipe_of("clip-agiqa/agiqa-3k", "AGIQA-3K")
    rows = {
        v.name: v.settings["options"]
        for v in variants_of("ablation", recipe, {})
        if "only" in v.name or " and " in v.name
    }
    assert rows == {
        "text prompts only, no auxiliary task": {"auxiliary_task": False, "visual_prompts": False},
        "visual prompts only, no auxiliary task": {
            "auxiliary_task": False,
            "deep_text_prompts": False,
        },
        "text and visual prompts, no auxiliary task": {"auxiliary_task": False},
    }


def test_clip_agiqa_s_prompts_have_one_length() -> None:
    recipe = recipe_of("clip-agiqa/agiqa-3k", "AGIQA-3K")
    lengths = [v.settings["options"] for v in variants_of("prompt-length", recipe, {})]
    assert lengths == [{"context_length": n, "visual_length": n} for n in (2, 4, 8, 16)]


def test_the_visual_only_variant_has_a_decoder_of_one_layer() -> None:
    recipe = recipe_of("mp-iqe/live", "LIVE")
    options = {v.name: v.settings.get("options") for v in variants_of("ablation", recipe, {})}
    assert options[VISUAL_ONLY] == {
        "scene_prompts": False,
        "distortion_prompts": False,
        "decoder_layers": 1,
    }


def test_the_auxiliary_loss_is_varied_around_the_recipe_s_own_weight() -> None:
    def names(*settings: str) -> list[str]:
        recipe = recipe_of("clip-agiqa/agiqa-3k", "AGIQA-3K", *settings)
        return [v.name for v in variants_of("ablation", recipe, {}) if "auxiliary loss" in v.name]

    others = ["auxiliary loss x 0.01", "auxiliary loss x 0.5", "auxiliary loss x 1"]
    assert names() == ["full model (auxiliary loss x 0.1)", *others]
    others.insert(1, "auxiliary loss x 0.1")
    assert names("weights.alignment=5") == ["full model (auxiliary loss x 5)", *others]


def test_shares_of_the_data_leave_the_test_part_first_and_the_same() -> None:
    variants = variants_of("data-efficiency", recipe_of("mp-iqe/live", "LIVE"), {})
    shares = [dict(variant.settings["split"]["shares"]) for variant in variants]
    assert [next(iter(s.items())) for s in shares] == [("test", 0.2)] * 4
    assert all(sum(s.values()) == pytest.approx(1) for s in shares)
    assert [s["train"] for s in shares] == [0.2, 0.4, 0.6, 0.8]


def test_a_row_of_less_data_tells_what_is_left_without_the_validation_part() -> None:
    photographs = [Sample("LIVE", Path(f"{n}"), f"{n % 29}", 0.5) for n in range(58)]
    recipe = recipe_of("mp-iqe/live", "LIVE")
    notes = [v.note for v in variants_of("data-efficiency", recipe, {"LIVE": photographs})]
    assert notes[0] == "17% without its validation part"  # 5 of 29 references, and 1 validates
    paper = recipe_of("mp-iqe/live", "LIVE", "protocol=paper")
    variants = variants_of("data-efficiency", paper, {"LIVE": photographs})
    assert {variant.note for variant in variants} == {""}


def test_all_variants_that_are_refused_are_named_before_anything_runs() -> None:
    recipe = recipe_of("mp-iqe/live", "LIVE")
    broken = [
        Variant("broken", {"options": {"colour": 1}}),
        Variant("too", {"schedule": {"lr": -1}}),
    ]
    content = recipe.model_dump(mode="json", exclude_none=True)
    grid = Grid("ablation", recipe, broken, 1, Path("out"), content)
    with pytest.raises(RecipeError, match=r"(?s)broken, round 0 .*colour.*too, round 0"):
        grid.cells()


def test_every_round_looks_at_the_test_images_in_other_random_places() -> None:
    settings = ["data.LIVE=x", "labels.LIVE=y", "crop_policy.seed=5"]
    content, _ = read_content("mp-iqe/live", settings)
    recipe = load_recipe("mp-iqe/live", settings)
    assert isinstance(recipe, MethodRecipe)
    cells = Grid("rounds", recipe, [Variant("line")], 3, Path("out"), content).cells()
    policies = [cell.recipe.crop_policy for cell in cells]
    assert [policy.seed for policy in policies] == [5, 6, 7]
    assert {policy.seeded_by for policy in policies} == {"file"}
