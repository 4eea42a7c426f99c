"""kdlab report: a page and a table of one run or many.

kdlab report multirun/quickstart/default
kdlab report multirun/smoke --out report.html
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from kdlab.commands.failures import complain


def main(argv: Sequence[str]) -> int:
    """Returns the exit status: 0 done, 1 failed, 2 mistyped."""
    parser = argparse.ArgumentParser(prog="kdlab report", description="Make a page and a table of one run or many.")
    parser.add_argument("paths", metavar="PATH", nargs="+", help="a run's folder, a folder of runs, or a glob")
    parser.add_argument("--out", type=Path, help="the page; default: report.html in PATH, or here for several PATHs")
    try:
        asked = parser.parse_args(list(argv))
    except SystemExit as left:  # argparse leaves after --help and after a mistake
        return int(left.code or 0)
    from kdlab.reporting.report import print_table, write_page

    try:
        print_table(asked.paths)
        print(f"page: {write_page(asked.paths, asked.out or beside(asked.paths))}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except Exception as error:  # the last door: whatever happened is said in one line
        return complain(error)
    return 0


def beside(paths: Sequence[str]) -> Path:
    """Where the page goes when the user does not say."""
    only = Path(paths[0])
    return only / "report.html" if len(paths) == 1 and only.is_dir() else Path("report.html")
