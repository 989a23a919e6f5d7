"""Where a model looks, and how it sorts what it sees."""
