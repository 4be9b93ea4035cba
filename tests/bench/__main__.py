"""`python -m tests.bench [--compare FILE] [NAME...]`: a table on stderr, JSON on stdout."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from pathlib import Path

from tests.bench.measures import ALL


def main() -> int:
    """Measure; exit 0 whatever the figures are: a bench judges nothing."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument("--compare", metavar="FILE", help="JSON of an earlier run to show the change against")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(measure.__name__ for measure in ALL))
    args = parser.parse_args()
    earlier = json.loads(Path(args.compare).read_text())["figures"] if args.compare else {}
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"{machine}\n{'':55}{'value':>10} {'unit':12}{'aim':>8}{'before':>10}", file=sys.stderr)
    figures = {}
    for measure in ALL:
        for row in measure() if not args.names or measure.__name__ in args.names else ():
            figures[row.name] = round(row.value, 4)
            aim = f"{row.aim:.3g}" if row.aim is not None else ""
            before = f"{earlier[row.name]:.3g}" if row.name in earlier else ""
            print(f"{row.name:55}{row.value:>10.3g} {row.unit:12}{aim:>8}{before:>10}", file=sys.stderr, flush=True)
    print(json.dumps({"machine": machine, "figures": figures}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
