"""All that decides how a tokenizer splits text, as plain values."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

SETTINGS = (bool, int, float, list, tuple, dict, type(None))


def state_of(tokenizer: Any) -> dict[str, Any]:
    """Of a fast tokenizer its whole state, without truncation and padding, which each call sets. Of one in Python its
    class, vocabulary and settings, and the hashes of the files that it was read from (merges are in no vocabulary)."""
    if tokenizer.is_fast:
        state: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
        return {name: part for name, part in state.items() if name not in ("truncation", "padding")}
    told = tokenizer.init_kwargs
    files = {name: _hash(told.get(name)) for name in sorted(tokenizer.vocab_files_names)}
    settings = {
        name: value
        for name, value in told.items()
        if name not in files and (isinstance(value, SETTINGS) or (isinstance(value, str) and "/" not in value))
    }
    return {
        "class": type(tokenizer).__name__,
        "vocabulary": tokenizer.get_vocab(),
        "settings": {name: repr(value) for name, value in sorted(settings.items())},
        "files": files,
    }


def _hash(file: Any) -> str | None:
    return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file and Path(file).is_file() else None
