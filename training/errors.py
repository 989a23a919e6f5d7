"""What can go wrong in training, with a sentence that says what to do.

TrainingError
├── DataError       a data set that isn't laid out as distributed, or files that can't be read
│   └── LeakError   a split that shares content between its parts
├── RecipeError     a recipe with unknown, missing or unfitting settings
└── RivalError      scores of others that can't be had, read or told apart
"""


class TrainingError(Exception):
    """Base of every error that this package raises on purpose."""


class DataError(TrainingError):
    """A data set that isn't laid out as distributed, or files that can't be read."""


class LeakError(DataError):
    """A split whose parts share a prompt (or a reference image)."""


class RecipeError(TrainingError):
    """A recipe with unknown, missing or unfitting settings."""


class RivalError(TrainingError):
    """Scores of others that can't be had, read or told apart."""
