"""export.json: what was exported, and what each variant is worth beside its original (schema 1)."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from kdlab.durable import read_json, write_json
from kdlab.training.manifest import now, record_head

FILE = "export.json"
TORCH = "torch"
GOOD, REFUSED, FAILED = "good", "refused", "failed"
TRACE = "pkg.torch.onnx.stack_trace"
"""What PyTorch calls the lines of code, each with its file's whole path, that it writes to every node of a graph."""


class ExportRecord:
    """The content of export.json. Entries of `variants` from an earlier process are kept by name, as long as they were
    measured in the same way (`measured`); `earlier_rows` says on which rows, and what is to be known about these."""

    def __init__(self, folder: Path, *, resolved: dict[str, Any], overrides: list[str], source: str) -> None:
        self.path = folder / FILE
        found = read_json(self.path)
        earlier: dict[str, Any] = found if isinstance(found, dict) else {}
        self.earlier = {entry["name"]: entry for entry in earlier.get("variants", [])}
        self.earlier_rows = {"rows": earlier.get("rows"), "notes": earlier.get("notes", [])}
        self.content = record_head("export", resolved, overrides) | {
            "source": source,
            "threshold": {"agreement": resolved["agreement"], "kl": resolved["kl"]},
            "threads": None,
            "rows": None,
            "notes": [],
            "variants": [],
            "error": None,
        }
        if earlier:
            self.content |= {"started": earlier["started"], "resumed": earlier["resumed"] + 1}

    def kept(self, name: str, measured: str) -> dict[str, Any] | None:
        """What an earlier process measured of a variant, if it did so in the same way."""
        entry = self.earlier.get(name)
        return entry if entry is not None and entry.get("measured") == measured else None

    def put(self, entry: dict[str, Any]) -> None:
        """Add an entry, or replace the one of its name, and write."""
        variants = self.content["variants"]
        names = [one["name"] for one in variants]
        if entry["name"] in names:
            variants[names.index(entry["name"])] = entry
        else:
            variants.append(entry)
        self.write()

    def write(self) -> None:
        write_json(self.path, self.content)

    def finish(self, error: str | None) -> None:
        self.content |= {"status": "failed" if error else "finished", "finished": now(), "error": error}
        self.write()


def measured_by(*what: Any) -> str:
    """A name for all that the figures of a variant depend on."""
    return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()[:16]


def empty_entry(name: str, folder: str) -> dict[str, Any]:
    """An entry of which nothing is known yet: every key is there."""
    return {
        "name": name,
        "folder": folder,
        "status": FAILED,
        "reason": None,
        "note": None,
        "disk_bytes": None,
        "memory_bytes": None,
        "examples": 0,
        "accuracy": None,
        "macro_f1": None,
        "agreement": None,
        "kl": None,
        "latency": {"p50_ms": None, "p95_ms": None},
        "examples_per_second": None,
        "faster_than_torch": None,
        "faster_in_batches": None,
        "measured": None,
    }
