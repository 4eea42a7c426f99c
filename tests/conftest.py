"""The whole suite: each worker computes on one thread, because two workers of two threads on two cores wait for each
other at every product."""

from __future__ import annotations

import os
from contextlib import suppress

os.environ.setdefault("OMP_NUM_THREADS", "1")

with suppress(ImportError):
    # rouge-score logs by absl, whose handler closes the stream that it found when it was imported, once another stands
    # in its place: here pytest's own, as soon as Hydra sets logging up inside a test that captures output.
    from absl.logging import PythonHandler

    PythonHandler.close = lambda self: None
