"""What the papers' recipes cost, counted on one training step of each with random weights:

    python -m benchmarks.recipes          prints the table of docs/reproduce.md

Nothing is timed: the figures are those of ``agiqa reproduce TABLE --plan``. Memory is what a run is
checked for before it starts. Images are taken as 512 x 512, which tells how many windows validation
looks at; minutes are FLOPs over --tflops sustained.
"""

import argparse
from collections.abc import Mapping
from typing import Any

from training.recipe import MethodRecipe, built_in_names, load_recipe, read_content
from training.research.reproduce.cost import Cost, Counts, Size, images_of

HEADER = (
    "| recipe | images | most epochs | batch x windows | PFLOP a round | minutes at 100 TFLOP/s "
    "| GiB of memory |"
)


def line(recipe: MethodRecipe, cost: Cost, tflops: float = 100) -> str:
    """A row of the table, as Markdown."""
    flops, s = Size.of(recipe).flops(cost), recipe.schedule
    cells = [
        recipe.name,
        f"{images_of(recipe):,}",
        str(s.epochs),
        f"{s.batch} x {s.windows}",
        f"{flops / 1e15:.3g}",
        f"{flops / tflops / 1e12 / 60:.2g}",
        f"{cost.memory / 2**30:.1f}",
    ]
    return f"| {' | '.join(cells)} |"


def paper_recipes() -> list[MethodRecipe]:
    """The built-in recipes on published backbones, their folders made up."""
    recipes = []
    for name in built_in_names():
        if "/" in name:
            recipe = load_recipe(name, [*_made_up(name), "device=cpu"])
            assert isinstance(recipe, MethodRecipe)
            recipes.append(recipe)
    return recipes


def _made_up(name: str) -> list[str]:
    content, _ = read_content(name)
    labels: Mapping[str, Any] = content.get("labels", {})
    return [
        *(f"data.{data}=somewhere" for data in content["data"]),
        *(f"labels.{data}=somewhere" for data in labels),
    ]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tflops", type=float, default=100, help="sustained, in 10^12 a second")
    tflops, counts = parser.parse_args().tflops, Counts()
    print(HEADER.replace("100 TFLOP/s", f"{tflops:g} TFLOP/s"))
    print("|---" * HEADER.count("|", 1) + "|")
    for recipe in paper_recipes():
        print(line(recipe, counts(recipe), tflops), flush=True)


if __name__ == "__main__":
    main()
