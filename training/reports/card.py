"""The model card: what a checkpoint was trained on, what was measured, and what it can't do."""

import textwrap
from collections.abc import Mapping, Sequence

from model.config import CheckpointConfig, Head
from reporting.document import Figure, Table
from reporting.markdown import markdown_table
from training.evaluation.degradation import STRENGTHS, Falls
from training.evaluation.results import (
    OWN_PROMPT,
    OWN_PROMPT_ALIGNED,
    PUBLISHED_PROTOCOL,
    HeadResult,
    Report,
    Share,
    opinion,
)
from training.recipe import MethodRecipe


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
    low, high = config.score_range.low, config.score_range.high
    scale = f"mos = {low:g} + quality x {high - low:g}"
    if any(data.lower_better for data in recipe.sets.values()):
        scale += f", where the data tells DMOS = {low + high:g} - mos, low = better"
    about = "\n".join(fill(data.about) for data in recipe.sets.values())
    limits = "\n".join(fill(f"- {limit}", subsequent_indent="  ") for limit in recipe.limits)
    measured = "\n".join(
        _measured(recipe, name, report, one_of_many=len(reports) > 1)
        for name, report in reports.items()
    )
    commands = "\n".join(_measuring(config, recipe, name) for name in reports)
    return f"""---
license: apache-2.0
library_name: agiqa
pipeline_tag: image-classification
tags: [image-quality-assessment, {config.method}, prompt-tuning]
datasets: [{", ".join(recipe.data)}]
---

# {config.name}

{fill(recipe.about)}

Scores lie in [0, 1], high = better; {scale}.{_served(config)}

## Data and split

{about}
{_divided(recipe)}
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


def _served(config: CheckpointConfig) -> str:
    """What serves it, where its figures are of other crops."""
    measured, serving = config.measured_policy, config.crop_policy
    if measured is None:
        return ""
    sentence = fill(
        f"It serves the crops of the policy `{serving.kind}`; the figures here are of "
        f"`{measured.kind}` (`--crop-policy {measured.kind}`), those of `{serving.kind}` stand in "
        "metrics.json under `served`."
    )
    return f"\n\n{sentence}"


def _measured(recipe: MethodRecipe, name: str, report: Report, *, one_of_many: bool) -> str:
    """The figures on one data set's test part."""
    unseen = f"{report.groups} unseen {recipe.sets[name].split_by}s"
    if report.groups < report.images:
        unseen = f"{report.images} images, {unseen}"
    where = f" of {name}" if one_of_many else ""
    return f"""## Measured on the {report.part} part{where} ({unseen})

{markdown_table(_agreement(report))}

{fill(_about_figures(recipe.sets[name].split_by))}
{_beside(report)}"""


def _about_figures(split_by: str) -> str:
    return (
        f"Intervals are bootstrapped over the {split_by}s, each with all of its images. PLCC and "
        "RMSE are of the raw scores; metrics.json has them after the VQEG logistic too."
    )


def _measuring(config: CheckpointConfig, recipe: MethodRecipe, name: str) -> str:
    """The command that measures the checkpoint on a set again."""
    words = [f"agiqa evaluate --checkpoint {config.name} --data {name}"]
    if table := recipe.tables.get(name):
        words.append(f"--range {table.low:g} {table.high:g}")
        words += ["--lower-better"] * table.lower_better
    words += ["--labels IQA_Database"] * (name in recipe.labels)
    words += ["--part validation"] * (not recipe.split.tests)
    return " ".join(words)


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
    rows = [
        (kind, *(f"{n:.3f}" for n in (value, qualities[0] - qualities[-1], *qualities)))
        for kind, value in fallen.srcc.items()
        for qualities in [fallen.quality[kind]]
    ]
    header = ("degradation", "SRCC with strength", "falls by", "quality as it is", *steps)
    table = markdown_table(Table(header, tuple(rows)))
    about = fill(
        f"The {fallen.images} best-rated images of the test part, made worse at their own size "
        "(`training.sampling.degradations` says what the strengths are). The rank correlation of "
        "strength and quality is the mean over the images; -1 is a perfect fall, however small: "
        "how far the mean quality falls stands beside it."
    )
    return f"\n## Degraded images\n\n{about}\n\n{table}\n"


def _divided(recipe: MethodRecipe) -> str:
    """How the data was split."""
    split = recipe.split
    groups = " or ".join(dict.fromkeys(data.split_by for data in recipe.sets.values()))
    if split.kind == "official":
        return "Split as the set itself states."
    if split.kind == "paper":
        return f"Split by {groups} as CLIP-AGIQA was published, round {split.round}."
    shares = ", ".join(f"{part} {share:.0%}" for part, share in split.shares.items())
    text = f"Split by {groups} with seed {split.seed}: {shares}."
    if split.states_validation or not split.inner:
        return text
    return f"{text} {split.inner:.0%} of the training part are left to validation."


def _chosen(recipe: MethodRecipe) -> str:
    if recipe.judged_by == "test":
        return fill(f"**Published protocol**: {PUBLISHED_PROTOCOL}")
    if recipe.schedule.select == "best":
        return "The epoch was chosen on the validation part."
    return "The last epoch is kept; none was chosen by its score."


def fill(text: str, **options: str) -> str:
    """Prose wrapped to the width of the rest; its own line breaks don't count."""
    return textwrap.fill(" ".join(text.split()), 100, break_on_hyphens=False, **options)  # type: ignore[arg-type]


def _backbone(config: CheckpointConfig) -> str:
    sets = " and ".join(config.provenance.backbone_trained_on)
    if not sets:
        return ""
    return f"\nIts backbone was pre-trained on the training parts of {sets}."


def _agreement(report: Report) -> Table:
    header = ("head", "against", "SRCC (95 % interval)", "PLCC", "KRCC", "RMSE")
    with_baseline = any(result.baseline is not None for result in report.heads.values())
    rows = []
    for head, result in report.heads.items():
        low, high = result.srcc_interval
        srcc = f"{result.srcc:.3f} ({low:.3f} to {high:.3f})"
        numbers = [result.plcc, result.krcc, result.rmse]
        if result.baseline is not None:
            numbers.append(result.baseline)
        rows.append((head, f"opinion of {opinion(head)}", srcc, *(f"{n:.3f}" for n in numbers)))
    return Table((*header, *["no-image floor SRCC"] * with_baseline), tuple(rows))


def _beside(report: Report) -> str:
    """What else was measured: the baseline, permuted and other prompts, generators, scenes and
    distortions.
    """
    parts = []
    inside = {head: r.within_generator for head, r in report.heads.items() if r.within_generator}
    if inside:
        about = 'The no-image floor predicts "generator-and-mode mean" from the training part'
        parts.append(f"{about}, without a pixel.")
    parts += [_permuted(r) for r in report.heads.values() if r.permuted_srcc is not None]
    if report.own_prompt:
        parts.append(_own_prompt(report.own_prompt))
    if inside:
        about = "SRCC within each generator, where the generator itself tells nothing"
        parts.append(f"{about}:\n\n{markdown_table(_within(inside))}")
    accuracies = [
        f"the likeliest {kind} is right for {found.share:.0%} of the images "
        f"(always naming the commonest: {found.baseline:.0%})"
        for kind, found in report.accuracies.items()
    ]
    if accuracies:
        sentence = "; ".join(accuracies)
        parts.append(fill(f"{sentence[0].upper()}{sentence[1:]}."))
    return "".join(f"\n{part}\n" for part in parts)


def _permuted(consistency: HeadResult) -> str:
    """What permuting the prompts does to the consistency's SRCC, and what that means."""
    own, permuted = consistency.srcc, consistency.permuted_srcc
    fact = f"With the prompts permuted among the images,\nthe consistency SRCC is {permuted:.3f}"
    if consistency.rests_on_prompt:
        return f"{fact} instead of {own:.3f}: the prompt counts."
    return (
        f"{fact}, against {own:.3f} with the right ones: another\nprompt changes the score, but on "
        "unseen prompts not for the better. What this head knows, it knows\nfrom the image."
    )


def _own_prompt(shares: Mapping[str, Share]) -> str:
    """How often the image's own prompt beats another one."""

    def shown(share: Share) -> str:
        low, high = share.interval
        return f"{share.value:.1%} ({low:.1%} to {high:.1%})"

    text = (
        "Of an image's own prompt and another one of the part, the own one has the higher "
        f"consistency in {shown(shares[OWN_PROMPT])} of the pairs; chance is 50%"
    )
    if aligned := shares.get(OWN_PROMPT_ALIGNED):
        text += f". Among images whose alignment people rated over 3 of 5: {shown(aligned)}"
    return fill(f"{text}.")


def _within(inside: Mapping[Head, Mapping[str, float]]) -> Table:
    generators = sorted({name for figures in inside.values() for name in figures})
    rows = [(head, *(f"{srcc[name]:.3f}" for name in generators)) for head, srcc in inside.items()]
    return Table(("head", *generators), tuple(rows))
