"""Training, validation and test parts: groups, parts, and what must not leak between them."""
