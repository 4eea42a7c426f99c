"""What the user sees while models are fetched, converted and loaded."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


def say(line: str) -> None:
    """One line on stderr: these steps take seconds to minutes."""
    print(line, file=sys.stderr, flush=True)


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
