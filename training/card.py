"""The model card: what a checkpoint was trained on, what was measured, and what it can't do."""

from collections.abc import Iterable

from model.config import CheckpointConfig
from training.evaluate import Report
from training.recipe import Recipe

_LIMITS = """\
## What it cannot do

- It has not seen the web. Its consistency knows little about prompts unlike the training prompts;
  words that training never showed have random vectors. Use CLIP's own weights where consistency
  matters.
- Its idea of quality is that of the raters of AGIQA-3K, on images of six generators up to 2023.
  Photographs, drawings and newer generators are outside what was measured.
- It is a small network trained from scratch: CLIP-AGIQA on CLIP ViT-B/32 publishes .8747 quality
  SRCC on AGIQA-3K.
"""


def model_card(config: CheckpointConfig, report: Report, recipe: Recipe) -> str:
    """The text of the checkpoint's README.md; all figures are those of ``report``."""
    shares = ", ".join(f"{part} {share:.0%}" for part, share in recipe.split.shares.items())
    low, high = config.score_range.low, config.score_range.high
    scale = f"mos = {low:g} + quality x {high - low:g}"
    return f"""---
license: apache-2.0
library_name: agiqa
pipeline_tag: image-classification
tags: [image-quality-assessment, clip-agiqa, prompt-tuning]
datasets: [AGIQA-3K]
---

# {config.name}

CLIP-AGIQA (Fu et al., IEEE SPL 2024) with a consistency head for the user's prompt, on a small CLIP
of our own that was trained from scratch. Scores lie in [0, 1], high = better; {scale}.

## Data and split

AGIQA-3K (MIT licence): generated images with opinion scores of quality and alignment, and their
prompts. Split by prompt with seed {recipe.split.seed}: {shares}.
The recipe's settings were chosen on the validation part, no epoch by its score; no choice was made
on the test part.

## Measured on the test part ({report.images} images, {report.prompts} unseen prompts)

{_table(_rows(report))}

The no-image floor predicts "generator-and-mode mean" from the training part, without a pixel. PLCC
is of the raw scores. {_permuted(report)}

SRCC within each generator, where the generator itself tells nothing:

{_table(_within(report))}

## Rebuild and measure

```
{config.provenance.command}
agiqa evaluate --checkpoint {config.name} --data AGIQA-3K
```

{_LIMITS}"""


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


def _rows(report: Report) -> list[list[str]]:
    rows = [
        ["head", "against", "SRCC (95 % interval)", "PLCC", "KRCC", "RMSE", "no-image floor SRCC"]
    ]
    for head, against in (
        ("quality", "quality"),
        ("alignment", "alignment"),
        ("consistency", "alignment"),
    ):
        low, high = report.intervals[f"{head}_srcc"]
        floor_of = "quality" if head == "quality" else "consistency"
        numbers = [report.figures[f"{head}_{name}"] for name in ("plcc", "krcc", "rmse")]
        srcc = f"{report.figures[f'{head}_srcc']:.3f} ({low:.3f} to {high:.3f})"
        floor = f"{report.figures[f'floor_{floor_of}_srcc']:.3f}"
        rows.append([head, f"opinion of {against}", srcc, *(f"{n:.3f}" for n in numbers), floor])
    return rows


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
