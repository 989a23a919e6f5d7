"""Reports of an evaluation and of a training run, beside published figures and rivals."""
