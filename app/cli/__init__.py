"""The command ``agiqa``."""
