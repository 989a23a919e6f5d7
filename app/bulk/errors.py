"""What keeps ``agiqa score`` from starting or going on; each message is a sentence for its user."""

import importlib.util


class CannotScore(Exception):
    """The run can't start: images, prompts, options or OUT don't fit."""


class Stopped(Exception):
    """The run can't go on; the rows so far are written."""


def require(package: str, purpose: str, extra: str = "score") -> None:
    """Looks for a package of an extra before the run needs it.

    Raises:
        CannotScore: it is not installed.
    """
    if importlib.util.find_spec(package) is None:
        raise CannotScore(f"{purpose} needs {package}: pip install 'agiqa[{extra}]'")
