"""The whole suite: each worker computes on one thread, because two workers of two threads on two cores wait for each
other at every product."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
