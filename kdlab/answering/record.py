"""evaluation.json and generation.json: everything about one job that let a model write, whole at any moment (schema 1).

Of `run.json` they have what says where the numbers come from: options, versions, hardware, the state of the code.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdlab.durable import read_json, write_json
from kdlab.training.manifest import now, record_head
from kdlab.training.options import flatten, refuse_changes

FREE = ("name", "cluster", "manual", "dataset.cache_dir", "writing.progress")
"""Options, or groups of them, that may change between two starts of one job: no answer depends on them."""
KNOWN = ("model", "data", "questions", "answer_count", "limit_reached", "tokens", "seconds", "bound")
"""What a job that continues knows already from the process before."""


class Record:
    """The content of a record file. Change `content`, then `write()`."""

    def __init__(self, path: Path, *, verb: str, resolved: dict[str, Any], overrides: list[str]) -> None:
        self.path = path
        found = read_json(path)
        earlier: dict[str, Any] = found if isinstance(found, dict) else {}
        self.content = _begin(verb, resolved, overrides)
        self.done = earlier.get("status") == "finished"
        if earlier:
            refuse_changes(_binding(earlier["config"]), _binding(resolved), what="what is", where=str(path.parent))
            kept = earlier if self.done else {name: earlier[name] for name in KNOWN}
            self.content = self.content | kept | {"started": earlier["started"], "overrides": list(overrides)}
            self.content |= {"config": resolved, "resumed": earlier["resumed"] + (not self.done)}

    def bind(self, **found: str) -> None:
        """Refuse to go on with questions or a model that are not those the job began with."""
        was = self.content["bound"]
        if was is not None:
            name = {"questions": "dataset (questions)", "model": "model (weights)"}
            before, after = ({name[k]: v[:12] for k, v in part.items()} for part in (was, found))
            refuse_changes(before, after, what="what is", where=str(self.path.parent))
        self.content["bound"] = found

    def write(self) -> None:
        write_json(self.path, self.content)

    def finish(self) -> None:
        self.content |= {"status": "finished", "finished": self.content["finished"] or now()}
        self.write()


def _binding(config: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a resolved config that must stay as they are while a job is continued."""
    flat = flatten(config)
    return {
        name: value
        for name, value in flat.items()
        if not any(name == group or name.startswith(f"{group}.") for group in FREE)
    }


def _begin(verb: str, resolved: dict[str, Any], overrides: list[str]) -> dict[str, Any]:
    """A record in which nothing has happened yet: every key of the schema is there."""
    return record_head(verb, resolved, overrides) | {
        "model": None,
        "data": None,
        "questions": 0,
        "answer_count": 0,
        "limit_reached": 0,
        "tokens": {"prompt": 0, "written": 0},
        "seconds": {"load": 0.0, "write": 0.0},
        "answers": "answers.jsonl",
        "bound": None,
    }
