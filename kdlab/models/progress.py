"""What the user sees while models are fetched, converted and loaded."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


def say(line: str) -> None:
    """One line on stderr: these steps take seconds to minutes."""
    print(f"{line}\n", end="", file=sys.stderr, flush=True)  # one write: threads say things too


@contextmanager
def bars_on_terminals_only() -> Iterator[None]:
    """transformers draws a bar for every load; in a log file that is hundreds of lines."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


@contextmanager
def quiet_report() -> Iterator[None]:
    """No table of the weights that a file has besides or lacks: for what is expected of it, and said in one line."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)
