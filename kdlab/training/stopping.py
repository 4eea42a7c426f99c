"""The ways a run ends early."""

from __future__ import annotations


class RunFailed(ValueError):  # noqa: N818 (it is the run that failed)
    """A run that cannot go on. The message is one line: what happened, where, and what to do."""


class NotFinite(RunFailed):
    """The loss or the gradient is nan or infinite (Guard)."""
