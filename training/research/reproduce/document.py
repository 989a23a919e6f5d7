"""A reproduced table as a report: the paper's whole table with our rows, how far the rounds spread,
and every run.
"""

from collections.abc import Mapping, Sequence

from reporting.document import Document, Section, Table
from training.evaluation.results import PUBLISHED_PROTOCOL
from training.manifest import device_in_words, git_revision, package_versions
from training.research.experiments.paper_table import measured_rows, paper_method, whole_table
from training.research.experiments.rivals_table import rivals_tables
from training.research.experiments.run import Result
from training.research.experiments.tables import agreement_cells, rounds_table
from training.research.reproduce.jobs import Reproduction
from training.research.reproduce.requirements import Ready
from training.research.rivals.rival import Rival

# What is finished of each job.
Finished = Sequence[tuple[Ready, Sequence[Result]]]


def reproduction_document(
    reproduction: Reproduction, finished: Finished, rivals: Sequence[Rival], command: str
) -> Document:
    """The report of what is finished."""
    table = reproduction.table
    remarks = dict.fromkeys(remark for each, _ in finished for remark in _remarks(each))
    sections = [
        Section(
            "The paper's table, and ours",
            _ABOUT,
            tuple(whole_tables(reproduction, finished)),
            findings=tuple(remarks),
        ),
        Section("Over the rounds", "", (_spread(finished),)),
    ]
    if rivals:
        tables = tuple(_rivals(finished, rivals))
        sections.append(Section("Rivals on the same test images", _RIVALS, tables))
    sections.append(Section("Every run", "", tuple(_runs(finished))))
    runs = sum(len(results) for _, results in finished)
    summary = f"{table.title}. {runs} runs. {_protocol(finished)}"
    return Document(table.name, summary, tuple(sections), _facts(finished, command))


_ABOUT = (
    "Every row that was published, and behind it what was measured here. PLCC here is of the raw "
    "scores, with no curve fitted; papers often fit one first."
)
_RIVALS = (
    "Rivals were not trained here, and one that has seen a set may have learned these very images."
)


def whole_tables(reproduction: Reproduction, finished: Finished) -> list[Table]:
    """The paper's table for each head that it tells."""
    table = reproduction.table
    tables = []
    for head in table.heads:
        cells = table.published(head)
        rows = [
            row
            for each, results in finished
            for row in measured_rows(each.grid, results, table.number, head, each.job.method)
        ]
        about = f"{head.capitalize()}; " if len(table.heads) > 1 else ""
        statistic = "means ± deviation" if table.mean else "medians"
        caption = f"{about}{table.title}; measured here: {statistic} over the rounds"
        tables.append(whole_table(cells, rows, caption, mean=table.mean))
    return tables


def _spread(finished: Finished) -> Table:
    """A row per variant and set: mean, deviation and median."""
    rows = []
    for each, results in finished:
        method = each.job.method or paper_method(each.grid)
        for variant in each.grid.variants:
            own = [result for result in results if result.variant == variant.name]
            for name in _tested(own):
                reports = [(result.reports | result.also)[name] for result in own]
                tested = f"{name}, {reports[0].part}"
                cells = agreement_cells(reports)
                rows.append((method, variant.name, tested, str(len(reports)), *cells))
    header = ("method", "variant", "images", "rounds", "SRCC", "PLCC", "PLCC fitted")
    return Table(header, tuple(rows), "Quality: mean ± deviation over the rounds (median)")


def _tested(results: Sequence[Result]) -> list[str]:
    return list(results[0].reports | results[0].also) if results else []


def _runs(finished: Finished) -> list[Table]:
    return [
        rounds_table(results, name)
        for each, results in finished
        for name in each.grid.base.data
        if results
    ]


def _rivals(finished: Finished, rivals: Sequence[Rival]) -> list[Table]:
    return [
        table
        for each, results in finished
        for name in each.grid.base.data
        if each.job.part.kind == "rounds"
        for table in rivals_tables(
            rivals,
            [r for r in results if r.variant == each.grid.variants[0].name],
            each.samples[name],
            name,
        )
    ]


def _remarks(each: Ready) -> list[str]:
    partial = [
        f"{len(samples):,} of the {data.images:,} images of {name} are here: no figure of it is "
        "the paper's."
        for name, data in each.grid.base.sets.items()
        if len(samples := each.samples[name]) != data.images
    ]
    return [*partial, *each.grid.remarks]


def _protocol(finished: Finished) -> str:
    if any(each.grid.base.judged_by == "test" for each, _ in finished):
        return f"PUBLISHED PROTOCOL: in each run, {PUBLISHED_PROTOCOL}"
    return "Epochs were chosen on an inner validation part; each test part was looked at once."


def _facts(finished: Finished, command: str) -> Mapping[str, str]:
    versions = ", ".join(f"{name} {version}" for name, version in package_versions().items())
    runs = [result for _, results in finished for result in results]
    device = finished[0][0].grid.base.device
    return {
        "command": command,
        "git revision of the runs": ", ".join(dict.fromkeys(r.git_revision for r in runs)),
        "git revision of the report": git_revision(),
        "device": device_in_words(device),
        "minutes": f"{sum(r.seconds for r in runs) / 60:.1f}",
        "versions": versions,
    }
