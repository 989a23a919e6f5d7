"""What can go wrong in reporting, with a sentence that says what to do."""


class ReportingError(Exception):
    """A report can't be written here."""
