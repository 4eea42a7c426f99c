"""Variants that an export made and refused, or could not make: what later stages lack, and what a user is told."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kdlab.pipelines.planning import Planned, key_of, quoted
from kdlab.pipelines.recipe import PipelineConfig

GOOD, REFUSED, TORCH = "good", "refused", "torch"


@dataclass(frozen=True, kw_only=True)
class Remedy:
    """What could be done about a refusal: the options of the export that do it, and the later stages that are left out
    with it since they need a variant that is not good."""

    what: str
    options: list[str]
    without: list[str]


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """What came of an export that is through and has variants that are not good: `bad` are their entries in
    export.json, `good` the names of the others."""

    stage: Planned
    bad: list[dict[str, Any]]
    good: list[str]

    def lacks(self, stage: Planned) -> list[str]:
        """The variants that are not good and stand in the options of a later stage."""
        found = []
        for entry in self.bad:
            places = {str(self.stage.folder / entry["name"]), str(entry["folder"])}
            read = re.compile(rf"(?:{'|'.join(map(re.escape, places))})(?!\w)")
            if any(read.search(option) for option in stage.options):
                found.append(entry["name"])
        return found

    def said(self) -> str:
        """Which variants are not good, and why; which are, and of what model."""
        why = "; ".join(f"{entry['name']} {entry['status']}: {entry['reason']}" for entry in self.bad)
        good = f"good: {', '.join(self.good)}, in {self.stage.folder}" if self.good else "none is good"
        return f"stage {self.stage.name}: {why}; {good}"

    def model(self) -> str:
        """The model that was exported."""
        return self.stage.chosen()["model.path"].strip("\"'")

    def remedies(self, planned: Sequence[Planned]) -> list[Remedy]:
        """What could be done. Stages that need what is not good are left out wherever that stays so: the folder of a
        refused variant is on disk, and they would read it."""
        found = []
        without = self._needing(planned)
        also, less = (f"{word}{', '.join(without)}" if without else "" for word in (" with ", " without "))
        enough = [_enough(entry) for entry in self.bad]
        if all(option is not None for option in enough):
            loosest = {key_of(option): option for option in sorted(filter(None, enough), key=_looseness)}
            found.append(Remedy(what="take them as they are", options=[*loosest.values()], without=[]))
        if self.good:
            options = [f"variants=[{','.join(self.good)}]"]
            found.append(Remedy(what=f"leave them out{also}", options=options, without=without))
        if any(entry["name"].startswith("onnx_int8") for entry in self.bad) and "onnx_w8" not in self.good:
            options = [f"variants=[{','.join([*self.good, 'onnx_w8'])}]"]
            found.append(Remedy(what=f"8-bit weights alone{less}", options=options, without=without))
        return found

    def _needing(self, planned: Sequence[Planned]) -> list[str]:
        """The stages that need a variant that is not good, or a stage that does."""
        found: list[str] = []
        for stage in planned:
            if self.lacks(stage) or not set(found).isdisjoint(stage.uses):
                found.append(stage.name)
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
    if "agreement" in entry["reason"]:  # of a regression it is R², and may be below any threshold
        return f"agreement={math.floor(agreement * 100) / 100:g}" if agreement >= 0 else None
    return f"kl={1.05 * kl:.2g}" if math.isfinite(kl) else None


def _looseness(option: str) -> float:
    """The loosest last: the lowest agreement, the highest KL."""
    key, _, value = option.partition("=")
    return float(value) * (-1 if key == "agreement" else 1)


def with_remedy(overrides: Sequence[str], config: PipelineConfig, export: str, remedy: Remedy) -> list[str] | None:
    """The overrides with a remedy, in `extra=` where that reaches no other export, else in the options of the stage
    itself; None where `extra` would win over these."""
    off = [f"stages.{name}.enabled=false" for name in remedy.without]
    stages = config.stages.items()
    exports = [n for n, stage in stages if stage.enabled and stage.verb == "export" and n not in remedy.without]
    if exports == [export]:
        return _in_place(overrides, [_listed("extra", config.extra, remedy.options), *off])
    if {key_of(option) for option in remedy.options} & {key_of(option) for option in config.extra}:
        return None
    own = _listed(f"stages.{export}.options", config.stages[export].options, remedy.options)
    return _in_place(overrides, [own, *off])


def _listed(key: str, options: Sequence[str], added: Sequence[str]) -> str:
    """An option that is a list of options, with more of them."""
    return f"{key}=[{','.join(map(quoted, _in_place(options, added)))}]"


def _in_place(lines: Sequence[str], added: Sequence[str]) -> list[str]:
    """The options with more of them, in place of those there that have their names."""
    names = {key_of(option) for option in added}
    return [*(line for line in lines if key_of(line) not in names), *added]
