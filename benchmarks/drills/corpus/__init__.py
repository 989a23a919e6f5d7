"""Hostile uploads, made from nothing in seconds, the same each time; none is kept as a file."""

from benchmarks.drills.corpus.bombs import bombs
from benchmarks.drills.corpus.metadata import odd_files
from benchmarks.drills.corpus.mutants import mutants
from benchmarks.drills.corpus.sample import Hostile

__all__ = ["Hostile", "bombs", "mutants", "odd_files"]
