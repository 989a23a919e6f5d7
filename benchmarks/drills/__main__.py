"""The command: see the package."""

import argparse
import json
import sys
import time
from pathlib import Path

from benchmarks import drills
from benchmarks.drills.frame import drills_of, run_all, table


def main() -> int:
    """Runs the drills of a part; 1 where a promise was broken."""
    parser = argparse.ArgumentParser(
        description=drills.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", default="trusted")
    parser.add_argument("--only", action="append", metavar="NAME", help="may be repeated")
    parser.add_argument("--short", action="store_true", help="the form for CI: counts alone judge")
    parser.add_argument("--json", type=Path, metavar="OUT")
    arguments = parser.parse_args()
    known = drills_of(arguments.part)
    names = [drill.name for drill in known]
    if unknown := set(arguments.only or ()) - set(names):
        parser.error(f"no drill {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    chosen = [drill for drill in known if not arguments.only or drill.name in arguments.only]
    start = time.monotonic()
    reports = run_all(chosen, short=arguments.short)
    print(f"\n{table(reports)}\n{time.monotonic() - start:.0f} s in all")
    if arguments.json:
        arguments.json.write_text(json.dumps([report.as_json() for report in reports], indent=1))
    return int(any(report.broken for report in reports))


if __name__ == "__main__":
    sys.exit(main())
