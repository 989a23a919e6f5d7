"""How errors on purpose reach the terminal."""

from collections.abc import Iterator
from contextlib import contextmanager

import click

from model.errors import ModelError
from reporting.errors import ReportingError
from training.errors import TrainingError


@contextmanager
def reported_errors() -> Iterator[None]:
    """Errors that this project raises on purpose end the command with their sentence; so does a
    package of the ``train`` extra that is missing.
    """
    try:
        yield
    except (TrainingError, ModelError, ReportingError) as error:
        raise click.ClickException(str(error)) from error
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in {"app", "model", "reporting", "training"}:
            raise
        raise click.ClickException(
            f"{error.name} is missing: pip install 'agiqa[train]'"
        ) from error
