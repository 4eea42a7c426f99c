"""Variants that an export made and refused, or could not make: what later stages lack, and what a user is told."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kdlab.pipelines.planning import Planned, key_of, quoted

GOOD, REFUSED, TORCH = "good", "refused", "torch"


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """What came of an export that is through and has variants that are not good: `bad` are their entries in
    export.json, `good` the names of the others."""

    stage: Planned
    bad: list[dict[str, Any]]
    good: list[str]

    def lacks(self, stage: Planned) -> list[str]:
        """The variants that are not good and stand in the options of a later stage."""
        return [
            entry["name"]
            for entry in self.bad
            for place in (str(self.stage.folder / entry["name"]), str(entry["folder"]))
            if any(re.search(rf"{re.escape(place)}(?!\w)", option) for option in stage.options)
        ]

    def said(self) -> str:
        """Which variants are not good, and why; which are, and of what model."""
        why = "; ".join(f"{entry['name']} {entry['status']}: {entry['reason']}" for entry in self.bad)
        good = f"good: {', '.join(self.good)}, in {self.stage.folder}" if self.good else "none is good"
        return f"stage {self.stage.name}: {why}; {good}"

    def model(self) -> str:
        """The model that was exported."""
        return self.stage.chosen()["model.path"].strip("\"'")

    def remedies(self) -> list[tuple[str, list[str]]]:
        """What could be done, and the options that do it."""
        found = []
        enough = [_enough(entry) for entry in self.bad]
        if all(option is not None for option in enough):
            loosest = {key_of(option): option for option in sorted(filter(None, enough), key=_looseness)}
            found.append(("take them as they are", [*loosest.values()]))
        if self.good:
            found.append(("leave them out", [f"variants=[{','.join(self.good)}]"]))
        if any(entry["name"].startswith("onnx_int8") for entry in self.bad) and "onnx_w8" not in self.good:
            found.append(("8-bit weights alone", [f"variants=[{','.join([*self.good, 'onnx_w8'])}]"]))
        return found


def refusal_of(stage: Planned, record: Any) -> Refusal | None:
    """What the content of an export.json says; None where it is not of an export that is through."""
    if stage.verb != "export" or not isinstance(record, dict) or record.get("status") != "failed":
        return None
    entries = [entry for entry in record["variants"] if entry["name"] != TORCH]
    bad = [entry for entry in entries if entry["status"] != GOOD]
    good = [entry["name"] for entry in entries if entry["status"] == GOOD]
    return Refusal(stage=stage, bad=bad, good=good) if bad else None


def _enough(entry: Mapping[str, Any]) -> str | None:
    """The threshold that a refused variant would pass, as an option; None where there is none."""
    agreement, kl = entry["agreement"], entry["kl"]
    if entry["status"] != REFUSED:
        return None
    if "agreement" in entry["reason"]:
        return f"agreement={math.floor(agreement * 100) / 100:g}" if math.isfinite(agreement) else None
    return f"kl={1.05 * kl:.2g}" if math.isfinite(kl) else None


def _looseness(option: str) -> float:
    """The loosest last: the lowest agreement, the highest KL."""
    key, _, value = option.partition("=")
    return float(value) * (-1 if key == "agreement" else 1)


def with_extra(overrides: Sequence[str], extra: Sequence[str], added: Sequence[str]) -> list[str]:
    """The overrides with more options in `extra=`, in place of those there that have their names."""
    names = {key_of(option) for option in added}
    kept = [option for option in extra if key_of(option) not in names]
    others = [line for line in overrides if key_of(line) != "extra"]
    return [*others, f"extra=[{','.join(map(quoted, [*kept, *added]))}]"]
