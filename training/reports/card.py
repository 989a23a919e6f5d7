"""The model card: what a checkpoint was trained on, what was measured, and what it can't do."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence

from model.config import CheckpointConfig
from training.evaluation.evaluate import TARGETS, Report
from training.evaluation.monotone import STRENGTHS, Falls
from training.recipe import MethodRecipe
from training.reports.document import Figure


def model_card(
    config: CheckpointConfig,
    reports: Mapping[str, Report],
    recipe: MethodRecipe,
    figures: Sequence[Figure] = (),
    fallen: Falls | None = None,
) -> str:
    """The text of the checkpoint's README.md: the figures of ``reports``, one per data set, the
    plots that lie beside it, and what degrading clean images did to their quality.
    """
    shares = ", ".join(f"{part} {share:.0%}" for part, share in recipe.split.shares.items())
    low, high = config.score_range.low, config.score_range.high
    scale = f"mos = {low:g} + quality x {high - low:g}"
    if any(data.lower_better for data in recipe.sets.values()):
        scale += f", where the data tells DMOS = {low + high:g} - mos, low = better"
    about = "\n".join(fill(data.about) for data in recipe.sets.values())
    kinds = " or ".join(dict.fromkeys(data.split_by for data in recipe.sets.values()))
    limits = "\n".join(fill(f"- {limit}", subsequent_indent="  ") for limit in recipe.limits)
    measured = "\n".join(
        _measured(recipe, name, report, several=len(reports) > 1)
        for name, report in reports.items()
    )
    commands = "\n".join(
        f"agiqa evaluate --checkpoint {config.name} --data {name}" for name in reports
    )
    return f"""---
license: apache-2.0
library_name: agiqa
pipeline_tag: image-classification
tags: [image-quality-assessment, {config.method}, prompt-tuning]
datasets: [{", ".join(recipe.data)}]
---

# {config.name}

{fill(recipe.about)}

Scores lie in [0, 1], high = better; {scale}.

## Data and split

{about}
Split by {kinds} with seed {recipe.split.seed}: {shares}.
{_chosen(recipe)}{_backbone(config)}

{measured}{_drawn(figures)}{_fallen(fallen)}
## Rebuild and measure

```
{config.provenance.command}
{commands}
```

## What it cannot do

{limits}
"""


def _measured(recipe: MethodRecipe, name: str, report: Report, *, several: bool) -> str:
    """The figures on one data set's test part."""
    unseen = f"{report.groups} unseen {recipe.sets[name].split_by}s"
    if report.groups < report.images:
        unseen = f"{report.images} images, {unseen}"
    where = f" of {name}" if several else ""
    return f"""## Measured on the test part{where} ({unseen})

{_table(_rows(report))}

PLCC and RMSE are of the raw scores; metrics.json has them after the VQEG logistic too.
{_beside(report)}"""


def _drawn(figures: Sequence[Figure]) -> str:
    if not figures:
        return ""
    pictures = "\n\n".join(
        f"![{figure.alt}]({figure.name}.{figure.kind})\n\n{fill(figure.caption)}"
        for figure in figures
    )
    return f"\n## Scores beside opinions\n\n{pictures}\n"


def _fallen(fallen: Falls | None) -> str:
    """Does quality fall with the strength of each degradation?"""
    if fallen is None:
        return ""
    steps = [f"strength {strength:g}" for strength in STRENGTHS]
    rows = [["degradation", "SRCC with strength", "quality as it is", *steps]]
    rows += [
        [kind, f"{value:.3f}", *(f"{quality:.3f}" for quality in fallen.quality[kind])]
        for kind, value in fallen.srcc.items()
    ]
    about = fill(
        f"The {fallen.images} best-rated images of the test part, made worse at their own size "
        "(`training.data.degradations` says what the strengths are). The rank correlation of "
        "strength and quality is the mean over the images; -1 is a perfect fall."
    )
    return f"\n## Degraded images\n\n{about}\n\n{_table(rows)}\n"


def _chosen(recipe: MethodRecipe) -> str:
    if recipe.protocol == "paper":
        return fill(
            "**Published protocol**: the epoch was chosen on the test part, as the paper's code "
            "does, so these figures are too good; compare them with published ones only."
        )
    if recipe.schedule.select == "best":
        return "The epoch was chosen on the validation part."
    return "The last epoch is kept; none was chosen by its score."


def fill(text: str, **options: str) -> str:
    """Prose wrapped to the width of the rest; its own line breaks don't count."""
    return textwrap.fill(" ".join(text.split()), 100, break_on_hyphens=False, **options)  # type: ignore[arg-type]


def _backbone(config: CheckpointConfig) -> str:
    if not (seen := config.provenance.backbone_trained_on):
        return ""
    sets = " and ".join(seen)
    return f"\nIts backbone was pre-trained on the training parts of {sets}."


def _rows(report: Report) -> list[list[str]]:
    floors = "floor_quality_srcc" in report.figures
    rows = [["head", "against", "SRCC (95 % interval)", "PLCC", "KRCC", "RMSE"]]
    rows[0] += ["no-image floor SRCC"] * floors
    for key in (f"{head}_srcc" for head in TARGETS if f"{head}_srcc" in report.figures):
        head, (low, high) = key.removesuffix("_srcc"), report.intervals[key]
        quality = TARGETS[head] == "mos"
        numbers = [report.figures[f"{head}_{name}"] for name in ("plcc", "krcc", "rmse")]
        srcc = f"{report.figures[key]:.3f} ({low:.3f} to {high:.3f})"
        against = f"opinion of {'quality' if quality else 'alignment'}"
        row = [head, against, srcc, *(f"{n:.3f}" for n in numbers)]
        if floors:
            floor = report.figures[f"floor_{'quality' if quality else 'consistency'}_srcc"]
            row.append(f"{floor:.3f}")
        rows.append(row)
    return rows


def _beside(report: Report) -> str:
    """What else was measured: the floor, permuted prompts, generators, scenes and distortions."""
    parts = []
    if report.within_generator:
        about = 'The no-image floor predicts "generator-and-mode mean" from the training part'
        parts.append(f"{about}, without a pixel.")
    if "consistency_srcc_permuted_prompts" in report.figures:
        parts.append(_permuted(report))
    if report.within_generator:
        table = _table(_within(report))
        about = "SRCC within each generator, where the generator itself tells nothing"
        parts.append(f"{about}:\n\n{table}")
    told = [
        f"the likeliest {kind} is right for {report.figures[f'{kind}_accuracy']:.0%} of the images "
        f"(always naming the commonest: {report.figures[f'floor_{kind}_accuracy']:.0%})"
        for kind in ("scene", "distortion")
        if f"{kind}_accuracy" in report.figures
    ]
    if told:
        sentence = "; ".join(told)
        parts.append(fill(f"{sentence[0].upper()}{sentence[1:]}."))
    return "".join(f"\n{part}\n" for part in parts)


def _permuted(report: Report) -> str:
    """What permuting the prompts does to the consistency's SRCC, and what that means."""
    own = report.figures["consistency_srcc"]
    permuted = report.figures["consistency_srcc_permuted_prompts"]
    fact = f"With the prompts permuted among the images,\nthe consistency SRCC is {permuted:.3f}"
    if permuted < own - 0.02:
        return f"{fact} instead of {own:.3f}: the prompt counts."
    return (
        f"{fact}, against {own:.3f} with the right ones: another\nprompt changes the score, but on "
        "unseen prompts not for the better. What this head knows, it knows\nfrom the image."
    )


def _within(report: Report) -> list[list[str]]:
    generators = sorted({g for figures in report.within_generator.values() for g in figures})
    rows = [["head", *generators]]
    for head, figures in report.within_generator.items():
        rows.append([head, *(f"{figures[g]:.3f}" for g in generators)])
    return rows


def _table(rows: Iterable[Iterable[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    columns = lines[0].count("|") - 1
    return "\n".join([lines[0], "|" + "---|" * columns, *lines[1:]])
