"""The experiments by name: which variants of a recipe each one runs, as the papers' tables do.

rounds           the recipe itself on ten splits; on generated images also without each generator
ablation         MP-IQE's Table 4; CLIP-AGIQA's own switches and the weight of its auxiliary loss
prompt-length    MP-IQE's Table 6; the same lengths for the other methods
data-efficiency  MP-IQE's Table 5: less to train on, the same test part
cross-dataset    MP-IQE's Table 3: trained on one set, tested on others
"""

from collections.abc import Callable, Mapping, Sequence

from training.data.samples import Sample
from training.errors import RecipeError
from training.experiments.grid import Variant
from training.recipe import MethodRecipe
from training.tuning.clip_agiqa import ClipAgiqaWeights

VISUAL_ONLY = "visual prompts alone"
FULL = Variant("full model", setting="full", table="4")
_ABLATIONS: Mapping[str, Sequence[Variant]] = {
    "mp-iqe": (
        FULL,
        Variant(
            "without scene prompts", {"options": {"scene_prompts": False}}, "w/o Scene prompts", "4"
        ),
        Variant(
            "without distortion prompts",
            {"options": {"distortion_prompts": False}},
            "w/o Distortion prompts",
            "4",
        ),
        Variant(
            "without visual prompts",
            {"options": {"visual_prompts": "none"}},
            "w/o Deep visual prompts",
            "4",
        ),
        Variant(
            "shallow visual prompts",
            {"options": {"visual_prompts": "shallow"}},
            "Shallow visual prompts",
            "4",
        ),
        Variant(
            VISUAL_ONLY,
            {"options": {"scene_prompts": False, "distortion_prompts": False}},
        ),
    ),
    "clip-agiqa": (
        Variant("full model"),
        Variant("without auxiliary task", {"options": {"auxiliary_task": False}}),
        Variant("without deep text prompts", {"options": {"deep_text_prompts": False}}),
        Variant("without visual prompts", {"options": {"visual_prompts": False}}),
    ),
    "clip-iqa-plus": (
        Variant("full model"),
        Variant("two context vectors", {"options": {"context_length": 2}}),
    ),
}
_AUXILIARY = (0.01, 0.1, 0.5, 1.0)  # weights of the auxiliary loss; the paper's is 0.1
_TEXT_LENGTHS = (2, 4, 8, 16)
_VISUAL_LENGTHS = {"mp-iqe": (1, 2, 4, 8), "clip-agiqa": (2, 4, 8, 16)}
_SHARES = (0.2, 0.4, 0.6)


def variants_of(
    kind: str, recipe: MethodRecipe, samples: Mapping[str, Sequence[Sample]]
) -> list[Variant]:
    """The rows of an experiment's table.

    Raises:
        RecipeError: the method has nothing of the kind.
    """
    makers: Mapping[str, Callable[[], list[Variant]]] = {
        "rounds": lambda: _rounds(samples),
        "ablation": lambda: _ablation(recipe),
        "prompt-length": lambda: _prompt_lengths(recipe),
        "data-efficiency": lambda: _data_efficiency(recipe),
        "cross-dataset": lambda: [Variant("full model")],
    }
    return makers[kind]()


def _rounds(samples: Mapping[str, Sequence[Sample]]) -> list[Variant]:
    """The recipe itself, and leave-one-generator-out in one round."""
    generators = {s.generator for several in samples.values() for s in several if s.generator}
    left_out = [
        Variant(
            f"without {generator}", {"split": {"leave_out": generator}}, rounds=1, group="left out"
        )
        for generator in sorted(generators)
    ]
    return [Variant("full model"), *(left_out if len(left_out) > 1 else [])]


def _ablation(recipe: MethodRecipe) -> list[Variant]:
    if recipe.method not in _ABLATIONS:
        raise RecipeError(
            f"{recipe.method} has no parts to leave out; choose a recipe of {', '.join(_ABLATIONS)}"
        )
    variants = list(_ABLATIONS[recipe.method])
    if recipe.method == "clip-agiqa":
        own = recipe.weights.get("alignment", ClipAgiqaWeights().alignment)
        variants[0] = Variant(f"full model (auxiliary loss x {own:g})")
        variants += [
            Variant(f"auxiliary loss x {weight:g}", {"weights": {"alignment": weight}})
            for weight in _AUXILIARY
            if weight != own
        ]
    return variants


def _prompt_lengths(recipe: MethodRecipe) -> list[Variant]:
    if recipe.method == "liqe":
        raise RecipeError("liqe learns no prompts; choose a recipe of another method")
    text = [
        Variant(
            f"{length} text vectors",
            {"options": {"context_length": length}},
            f"text prompt length {length}",
            "6",
        )
        for length in _TEXT_LENGTHS
    ]
    visual = [
        Variant(
            f"{length} visual prompts",
            {"options": {"visual_length": length}},
            f"visual prompt length {length}",
            "6",
        )
        for length in _VISUAL_LENGTHS.get(recipe.method, ())
    ]
    return text + visual


def _data_efficiency(recipe: MethodRecipe) -> list[Variant]:
    """Shares of the whole set; the test part is drawn first, so that it is the same for all."""
    test = recipe.split.shares["test"]
    most = 1 - test
    shares = [*(s for s in _SHARES if s < most - 1e-9), most]
    return [
        Variant(
            f"{share:.0%} to train on",
            {"split": {"shares": _shares(share, test)}},
            f"train {share:.0%}",
            "5",
        )
        for share in shares
    ]


def _shares(train: float, test: float) -> dict[str, float]:
    unused = round(1 - test - train, 6)
    shares = {"test": test, "train": round(train, 6)}
    return shares | {"unused": unused} if unused > 0 else shares
