"""A stage as a process of its own: what it held in memory is free when it ends, and it ends when we do."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import kdlab

PR_SET_PDEATHSIG = 1
"""prctl(2) of Linux: the signal that a process gets when the thread that made it dies."""
GRACE = 30.0
"""Seconds that a stage has to end after an interruption."""


def run_stage(words: Sequence[str]) -> int:
    """Run `kdlab <words>` in this environment and folder, its output where ours goes; its exit status (128 + the signal
    that ended it).

    Where this process is interrupted, so is the stage, and KeyboardInterrupt goes on when it has ended. Where this
    process is killed, Linux ends the stage; elsewhere it goes on alone, and its folder's lock refuses a second one.
    """
    process = subprocess.Popen(command(words), preexec_fn=_before_it_begins())
    try:
        status = process.wait()
    except KeyboardInterrupt:
        _end(process)
        raise
    return 128 - status if status < 0 else status


def command(words: Sequence[str]) -> list[str]:
    """This interpreter with the same kdlab. The folder that a user happens to be in is no place to import from, unless
    kdlab itself is there."""
    here = Path(kdlab.__file__).resolve().parents[1] == Path.cwd().resolve()
    return [sys.executable, *([] if here else ["-P"]), "-m", "kdlab", *words]


def _before_it_begins() -> Callable[[], None] | None:
    if sys.platform != "linux":
        return None
    libc, parent = ctypes.CDLL(None), os.getpid()

    def die_with_parent() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before this was asked for
            os._exit(128 + signal.SIGTERM)

    return die_with_parent


def _end(process: subprocess.Popen[bytes]) -> None:
    """A terminal interrupts every process in it; one that was not, such as under a scheduler, is told here."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=GRACE / 3)
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=GRACE)
    if process.poll() is None:
        process.kill()
        process.wait()
