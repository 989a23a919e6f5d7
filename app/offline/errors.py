"""What keeps ``agiqa score`` from starting or going on; each message is a sentence for its user."""


class CannotScore(Exception):
    """The run can't start: images, prompts, options or OUT don't fit."""


class Stopped(Exception):
    """The run can't go on; the rows so far are written."""
