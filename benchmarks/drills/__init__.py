"""Drills: faults and hostile uploads against the real service, each with the promise that it holds
to.

    python -m benchmarks.drills [--part trusted] [--only NAME] [--short] [--json OUT]

A part is a package below this one; each of its modules holds one ``DRILL``.
"""
