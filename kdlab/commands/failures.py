"""How a command that fails says so: in one line, and with a traceback only where it is of use."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from kdlab.config import ConfigError

PACKAGE = Path(__file__).resolve().parents[1]


def answered(work: Callable[[], int], *, interrupted: str) -> int:
    """The exit status of a command's `work`: its own, 2 where the options were mistyped, 130 where it was interrupted
    (which `interrupted` is said of), 1 where it failed."""
    try:
        return work()
    except ConfigError as error:
        if os.environ.get("KDLAB_DEBUG"):
            return complain(error, status=2)
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\n{interrupted}", file=sys.stderr)
        return 130
    except Exception as error:  # the last door: whatever happened is said in one line
        return complain(error)


def complain(error: BaseException, *, folder: Path | None = None, status: int = 1) -> int:
    """Print one line about `error` to stderr and return the exit `status`.

    What kdlab itself raised says what to do and is printed as it is. Anything else is a fault of ours or of a library:
    its traceback goes to `folder/traceback.txt`. With KDLAB_DEBUG=1 every traceback is shown.
    """
    if os.environ.get("KDLAB_DEBUG"):
        traceback.print_exception(error)
    elif is_ours(error):
        print(str(error) or type(error).__name__, file=sys.stderr)
    else:
        words = str(error).strip().splitlines()
        line = f"{type(error).__name__}: {words[0] if words else 'no message'}"
        print(f"{line[:300]}\n{where(error, folder)}", file=sys.stderr)
    return status


def is_ours(error: BaseException) -> bool:
    """Whether kdlab raised it on purpose: a ValueError, RuntimeError or OSError that left from a kdlab module."""
    frames = traceback.extract_tb(error.__traceback__)
    raised_here = bool(frames) and PACKAGE in Path(frames[-1].filename).resolve().parents
    return raised_here and isinstance(error, ValueError | RuntimeError | OSError)


def where(error: BaseException, folder: Path | None) -> str:
    """Write the traceback into `folder` and say where it lies."""
    if folder is None:
        return "KDLAB_DEBUG=1 shows where it happened."
    file = folder / "traceback.txt"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    except OSError as full:
        return f"{file} cannot be written ({full}); KDLAB_DEBUG=1 shows where it happened."
    return f"unexpected; the traceback is in {file}"
