"""Where things are kept that came from elsewhere: our cache folder; and whether the hub has them, or is silent."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

HUB_SECONDS = 3.0
"""How long the hub has to answer the first question before we go on without it."""


def cache_folder(configured: str | None = None) -> Path:
    """`configured` (`dataset.cache_dir`), else `$KDLAB_CACHE`, else `~/.cache/kdlab`."""
    return Path(configured or os.environ.get("KDLAB_CACHE") or Path.home() / ".cache" / "kdlab").expanduser()


def ask_hub(question: Callable[[], Any]) -> Any:
    """What the hub answers to `question`; or, as a string, why it is silent, known within about `HUB_SECONDS`.

    A refusal is no silence, and is raised: huggingface_hub's GatedRepoError, RepositoryNotFoundError,
    RevisionNotFoundError and HFValidationError.
    """
    from huggingface_hub import constants
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    if constants.is_offline_mode():
        return "HF_HUB_OFFLINE is set"
    answer: list[Any] = []

    def ask() -> None:
        try:
            answer.append(question())
        except Exception as error:  # the client's network errors have no common base class; all are sorted below
            answer.append(error)

    asking = threading.Thread(target=ask, daemon=True)  # a name lookup obeys no timeout, so a thread is left behind
    asking.start()
    asking.join(HUB_SECONDS + 1)
    if not answer:
        return f"no answer in {HUB_SECONDS + 1:.0f} s"
    got = answer[0]
    if isinstance(got, RepositoryNotFoundError | RevisionNotFoundError | HFValidationError):  # gated is "not found" too
        raise got
    return type(got).__name__ if isinstance(got, Exception) else got
