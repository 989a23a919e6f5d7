"""How errors on purpose reach the terminal."""

from collections.abc import Iterator
from contextlib import contextmanager

import click

from model.errors import ModelError
from reporting.errors import ReportingError
from training.errors import TrainingError

_OUT_OF_MEMORY = (
    "there was too little memory: leave other work less of it, or train with "
    "schedule.accumulate=2 or more, schedule.checkpoint_activations=true or a smaller "
    "schedule.batch; with the first two a run goes on after its last whole epoch"
)


@contextmanager
def reported_errors() -> Iterator[None]:
    """Errors that this project raises on purpose end the command with their sentence; so do a
    package of the ``train`` extra that is missing, and memory that runs out.
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
    except (RuntimeError, MemoryError) as error:
        from model.device_errors import is_out_of_memory

        if not is_out_of_memory(error):
            raise
        raise click.ClickException(_OUT_OF_MEMORY) from error
