"""Checkpoints on disk: read, written, imported, assembled, published."""
