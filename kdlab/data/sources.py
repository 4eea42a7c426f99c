"""Where rows come from: the bundled documents, local files, or the hub.

`python_docs` is the language reference that every CPython carries (`pydoc_data.topics`), one document a topic; its
text differs between Python versions.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from kdlab.data.files import find_files, hash_files, looks_local, names_in, read_rows
from kdlab.text.formats import Row

PYTHON_DOCS = "python_docs"


@dataclass(frozen=True, kw_only=True)
class Source:
    """Rows that can be read again and again. `content_hash` changes when the rows do (the name only, for a
    stream). `stream` is the dataset of the hub where rows are streamed from it; it knows how to resume. `typed` is the
    option that asked for it, as the user typed it: what a fault of its rows is named by. `class_names` are the names
    that the dataset itself has for the ids in a column (None: it has none)."""

    name: str
    content_hash: str
    open: Callable[[], Iterator[Row]]
    typed: str
    stream: Any = None
    class_names: Callable[[str], list[str] | None] = lambda column: None


def open_source(
    path: str,
    *,
    subset: str | None = None,
    split: str = "train",
    revision: str | None = None,
    streaming: bool = False,
    option: str = "dataset.path",
    split_option: str = "dataset.split",
) -> Source:
    """The source a path means: "python_docs", local files, or a dataset of the hub.

    `option` and `split_option` are the options that gave `path` and `split`, for the messages. Raises
    FileNotFoundError for what is not there and ValueError for what cannot be read, naming them.
    """
    own_split = split_option != "dataset.split"
    typed = f"{split_option}={split}" if own_split else f"{option}={path}"
    if path == PYTHON_DOCS:
        if split != "train":
            raise ValueError(f"{split_option}={split}: {PYTHON_DOCS} has no splits")
        return _python_docs(typed)
    if looks_local(path):
        files = find_files(path, split=split, option=option, split_option=split_option)
        faulty = split_option if own_split else option
        named = f"{path} ({len(files)} files)" if len(files) > 1 else path
        return Source(
            name=named if split == "train" else f"{named}, {split}",
            content_hash=f"stream of {path}" if streaming else hash_files(files),
            open=lambda: (row for file in files for row in read_rows(file, option=faulty)),
            typed=typed,
            class_names=lambda column: names_in(files[0], column),
        )
    from kdlab.data import hub

    data, content = hub.load(
        path,
        subset=subset,
        split=split,
        revision=revision,
        streaming=streaming,
        option=option,
        split_option=split_option,
    )
    return Source(
        name="/".join([path, *([subset] if subset else [])]) + f", {split}" + (f" at {revision}" if revision else ""),
        content_hash=content,
        open=lambda: iter(data),
        typed=typed,
        stream=data if streaming else None,
        class_names=lambda column: getattr((data.features or {}).get(column), "names", None),
    )


def _python_docs(typed: str) -> Source:
    from pydoc_data.topics import topics

    rows = [{"topic": topic, "text": text} for topic, text in sorted(topics.items())]
    return Source(
        name=f"{PYTHON_DOCS} of Python {platform.python_version()}",
        content_hash=hashlib.sha256(json.dumps(rows).encode()).hexdigest(),
        open=lambda: iter([dict(row) for row in rows]),
        typed=typed,
    )
