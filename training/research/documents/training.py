"""A training as a report: how it went, and what it reached."""

from collections.abc import Mapping

from model.config import CheckpointConfig
from reporting.document import Document, Section
from training.engine.state import Progress
from training.evaluation.results import PUBLISHED_PROTOCOL, Report
from training.manifest import device_in_words, git_revision, package_versions
from training.recipe import MethodRecipe
from training.reports import plots
from training.research.documents.evaluation import evaluation_sections


def training_document(
    recipe: MethodRecipe,
    config: CheckpointConfig,
    reports: Mapping[str, Report],
    progress: Progress,
    command: str,
) -> Document:
    """Learning curves and the evaluation on every data set's test part."""
    history = progress.history
    keys = [key for key in history[-1] if key.startswith(("quality", "score"))][:4]
    curves = plots.learning_curves({recipe.name: history}, keys)
    kept = progress.best_epoch if recipe.schedule.select == "best" else len(history)
    text = f"{len(history)} epochs; epoch {kept} is kept."
    sections = [Section("How it went", text, (), (curves,))]
    for data_set, report in reports.items():
        title = data_set if len(reports) > 1 else ""
        sections += evaluation_sections(report, title, data_set=data_set)
    return Document(recipe.name, _summary(recipe, config), tuple(sections), _facts(recipe, command))


def _summary(recipe: MethodRecipe, config: CheckpointConfig) -> str:
    sets = " and ".join(recipe.data)
    summary = f"{config.method}, revision {config.revision}, trained on {sets}."
    if recipe.judged_by == "test":
        summary += f" PUBLISHED PROTOCOL: {PUBLISHED_PROTOCOL}"
    return summary


def _facts(recipe: MethodRecipe, command: str) -> dict[str, str]:
    versions = ", ".join(f"{name} {version}" for name, version in package_versions().items())
    return {
        "command": command,
        "seeds": f"{recipe.seed}; split {recipe.split.seed}",
        "git revision": git_revision(),
        "device": device_in_words(recipe.device),
        "versions": versions,
    }
