"""Grids of runs that repeat the tables of the papers."""
