"""The experiments by name: which variants of a recipe each one runs, as the papers' tables do.

rounds           the recipe itself on ten splits; on generated images also without each generator
ablation         what the method's own file takes away, as MP-IQE's Table 4 does
prompt-length    MP-IQE's Table 6; CLIP-AGIQA's text and visual prompts together, as its code has it
data-efficiency  MP-IQE's Table 5: less to train on, the same test part
cross-dataset    MP-IQE's Table 3: trained on one set, tested on others
"""

from collections.abc import Callable, Mapping, Sequence

from training.data.samples import Sample
from training.errors import RecipeError
from training.methods.base import OBJECTIVES, objective_type
from training.methods.variant import Variant
from training.recipe import MethodRecipe
from training.splits.split import Split, draw

# Options of a method that get one length -> what they count, and what MP-IQE's Table 6 calls it.
_LENGTHS = {
    ("context_length",): ("text vectors", "text prompt length"),
    ("visual_length",): ("visual prompts", "visual prompt length"),
    ("context_length", "visual_length"): ("text vectors and visual prompts", "prompt length"),
}
_SHARES = (0.2, 0.4, 0.6)
# All but an inner validation part trains: other sets are the test.
_WHOLE = {"kind": "content", "shares": {"train": 1.0, "test": 0.0}}


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
        "data-efficiency": lambda: _data_efficiency(recipe, samples),
        "cross-dataset": lambda: [Variant("full model", {"split": _WHOLE})],
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
    variants = objective_type(recipe.method).ablations(recipe.weights)
    if not variants:
        names = [name for name in OBJECTIVES if objective_type(name).ablations({})]
        raise RecipeError(
            f"{recipe.method} has no parts to leave out; choose a recipe of {', '.join(names)}"
        )
    return list(variants)


def _prompt_lengths(recipe: MethodRecipe) -> list[Variant]:
    lengths = objective_type(recipe.method).prompt_lengths
    if not lengths:
        raise RecipeError(f"{recipe.method} learns no prompts; choose a recipe of another method")
    return [
        Variant(
            f"{length} {counted}",
            {"options": dict.fromkeys(options, length)},
            f"{setting} {length}",
            "6",
        )
        for options, (counted, setting) in _LENGTHS.items()
        for length in lengths.get(options, ())
    ]


def _data_efficiency(
    recipe: MethodRecipe, samples: Mapping[str, Sequence[Sample]]
) -> list[Variant]:
    """Shares of the whole set; the test part is drawn first, so that it is the same for all.

    Where an inner validation part is taken from the share, the row tells what is left to train on.
    """
    test = recipe.split.shares["test"]
    most = 1 - test
    shares = [*(s for s in _SHARES if s < most - 1e-9), most]
    variants = []
    for share in shares:
        split = {"kind": "content", "shares": _shares(share, test)}
        left = _trained(recipe.split.model_copy(update=split), samples) if samples else share
        note = f"{left:.0%} without its validation part" if recipe.split.inner else ""
        named, setting = f"{share:.0%} to train on", f"train {share:.0%}"
        variants.append(Variant(named, {"split": split}, setting, "5", note=note))
    return variants


def _trained(split: Split, samples: Mapping[str, Sequence[Sample]]) -> float:
    """The share of all groups that trains."""
    trained = all_groups = 0
    for several in samples.values():
        trained += len({sample.group for sample in draw(split, several)["train"]})
        all_groups += len({sample.group for sample in several})
    return trained / all_groups


def _shares(train: float, test: float) -> dict[str, float]:
    unused = round(1 - test - train, 6)
    shares = {"test": test, "train": round(train, 6)}
    return shares | {"unused": unused} if unused > 0 else shares
