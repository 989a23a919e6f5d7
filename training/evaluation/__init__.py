"""Agreement with opinion scores, beside floors and rivals."""
