"""The doors of reporting: a page and a terminal table from run folders.

print_table([Path("multirun/quickstart")])
write_page([Path("multirun/quickstart")], Path("report.html"))
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from pathlib import Path

from kdlab.reporting.page import page
from kdlab.reporting.records import read_all
from kdlab.reporting.samples import write_samples
from kdlab.reporting.table import show

__all__ = ["print_table", "write_page", "write_samples"]


def write_page(run_dirs: Sequence[str | Path], out: Path) -> Path:
    """Write one self-contained HTML page about all that kdlab wrote under `run_dirs` (files, folders, globs), whole or
    not at all.

    Raises FileNotFoundError where a path holds none and ValueError where none can be read; an unreadable one among
    readable ones is named on the page.
    """
    text = page(read_all(run_dirs), base=out.parent)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(out.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(out)
    return out


def print_table(run_dirs: Sequence[str | Path]) -> None:
    """Print what is under `run_dirs`: one run with its stages side by side, many as a row each, then
    exports and evaluations. Raises as `write_page`."""
    records = read_all(run_dirs)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without "→" shows "?", and the run does not fail for it
    show(records)
