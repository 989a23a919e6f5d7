"""Other servers around the same scorer, on the same machine, in turns with this one."""
