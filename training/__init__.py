"""Data sets in, checkpoints and reports out. Knows no HTTP."""
