"""What an evaluation says, in words: what is beaten, what is not, and what is left open."""

from collections.abc import Iterable, Sequence

from model.config import Head
from training.evaluation.results import OWN_PROMPT, HeadResult, Report, opinion
from training.research.published import Published, decimals, paper_name, rivals


def findings(report: Report) -> tuple[str, ...]:
    """Sentences about the evaluation as a whole: what it was measured on, every head against the
    no-image baseline, and whether the prompt counts.
    """
    sentences = list(_of_part(report.part))
    for head, result in report.heads.items():
        sentences += _of_baseline(head, result)
    for result in report.heads.values():
        sentences += _of_prompts(result)
    if share := report.own_prompt.get(OWN_PROMPT):
        low, high = share.interval
        sentences.append(
            f"An image's own prompt has a higher consistency than another one in {share.value:.1%} "
            f"of pairs ({low:.1%} to {high:.1%}); chance is 50%."
        )
    return tuple(sentences)


def head_findings(
    report: Report, head: Head, data_set: str = "", trained_on: str = ""
) -> tuple[str, ...]:
    """Sentences about one head's SRCC: within the generators, and against what was published.

    Args:
        report: what was measured.
        head: a head that was measured.
        data_set: what it was measured on, by our name; without it nothing published is named.
        trained_on: the data set of the training, if another: then only figures published for
            that pair are compared.
    """
    sentences = list(_of_generators(head, report.heads[head]))
    if data_set:
        sentences += _of_rivals(report, head, data_set, trained_on)
    return tuple(sentences)


def same_protocol(data_set: str, target: str, trained_on: str = "") -> list[Published]:
    """Published SRCCs of models trained on the same set as ours, each method and setting once."""
    place = paper_name(trained_on)
    wanted = "" if place in {"", paper_name(data_set)} else place
    apart = {
        (row.method, row.setting): row
        for row in rivals(data_set, target)
        if row.metric == "SRCC" and row.trained_on == wanted
    }
    return sorted(apart.values(), key=lambda row: -row.value)


def _of_part(part: str) -> Iterable[str]:
    if part == "all":
        yield "Measured on all images of the set: a model knows those that it was trained on."
    elif part != "test":
        yield f"Measured on the part {part!r}, not on the test part: nothing here is a result."


def _of_baseline(head: Head, result: HeadResult) -> Iterable[str]:
    own, baseline = result.srcc, result.baseline
    low, high = result.srcc_interval
    fact = f"{head.capitalize()}: SRCC {own:.3f} ({low:.3f} to {high:.3f})"
    if own != own:
        yield f"{head.capitalize()}: no SRCC is defined, for all predictions are the same."
    elif baseline is None:
        yield f"{fact}."
    elif own <= baseline:
        yield (
            f"{fact} is NOT above the no-image floor of {baseline:.3f}: generator and prompt "
            "alone, without a pixel, tell at least as much as this model."
        )
    elif low <= baseline:
        yield (
            f"{fact} is above the no-image floor of {baseline:.3f}, but the floor lies within the "
            "interval: that the model sees more than the generator is not shown."
        )
    else:
        yield f"{fact} beats the no-image floor of {baseline:.3f}."


def _of_rivals(report: Report, head: Head, data_set: str, trained_on: str) -> Iterable[str]:
    name = head.capitalize()
    low, high = report.heads[head].srcc_interval
    elsewhere = paper_name(trained_on) not in {"", paper_name(data_set)}
    if report.part != "test" and not elsewhere:
        yield f"{name} isn't compared with published figures: these images are no test part."
        return
    if low != low:
        return
    theirs = same_protocol(data_set, opinion(head), trained_on)
    beaten = [row for row in theirs if row.value < low]
    ahead = [row for row in theirs if row.value > high]
    between = [row for row in theirs if low <= row.value <= high]
    if beaten:
        yield f"{name} beats the published SRCC of {_named(beaten)}."
    if ahead:
        yield f"{name} does not reach the published SRCC of {_named(ahead)}."
    if between:
        yield (
            f"{name} can't be told from the published SRCC of {_named(between)}: inside its "
            "interval."
        )
    if theirs:
        yield (
            "Published figures are mostly means or medians of ten splits; the one here is of one "
            "split, and its interval covers the choice of what is tested, not of the split."
        )
    else:
        pair = f"{data_set}, trained on {trained_on}" if trained_on else data_set
        yield f"{name}: nothing published to compare with is known here for {pair}."


def _of_generators(head: Head, result: HeadResult) -> Iterable[str]:
    inside = {name: v for name, v in result.within_generator.items() if v == v}
    if len(inside) < 2:
        return
    worst, best = min(inside, key=inside.__getitem__), max(inside, key=inside.__getitem__)
    yield (
        f"{head.capitalize()} within single generators: SRCC from {inside[worst]:.3f} ({worst}) to "
        f"{inside[best]:.3f} ({best}). There the generator's name tells nothing."
    )


def _of_prompts(result: HeadResult) -> Iterable[str]:
    if (permuted := result.permuted_srcc) is None:
        return
    fact = f"With the prompts permuted among the images the consistency SRCC is {permuted:.3f}"
    if result.rests_on_prompt:
        yield f"{fact} instead of {result.srcc:.3f}: the prompt counts."
    else:
        yield (
            f"{fact}, against {result.srcc:.3f} with the right ones: it does NOT rest on the "
            "prompt."
        )


def _named(theirs: Sequence[Published]) -> str:
    places = decimals(row.value for row in theirs)
    return ", ".join(f"{row.method} {row.value:.{places}f}{_setting(row)}" for row in theirs)


def _setting(row: Published) -> str:
    setting = row.setting.partition(";")[2].strip() if ";" in row.setting else row.setting
    return f" ({setting})" if setting else ""
