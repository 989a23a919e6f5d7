"""How errors that a user can mend reach the terminal."""

from collections.abc import Iterator
from contextlib import contextmanager

import click

from reporting.text import printable


@contextmanager
def as_messages(*errors: type[Exception]) -> Iterator[None]:
    """These errors end the command with their own sentence and exit code 1, not a traceback."""
    try:
        yield
    except errors as error:
        raise click.ClickException(printable(str(error))) from error
