"""Example by example: how each came out in the tasks of lm-evaluation-harness, and what moved. Torch-free."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from kdlab.benchmarking.lines import key_of
from kdlab.benchmarking.moves import Move, move

Items = dict[str, Any]
"""`asked`: a hash of all prompts, in their order. `values`: of each metric that is a mean, that of every example."""


def items_of(samples: Sequence[Mapping[str, Any]], metrics: Mapping[str, float | None]) -> Items:
    """Every example of a task. A metric of the corpus (BLEU, perplexity) is no mean, and left out."""
    by_filter: defaultdict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for sample in sorted(samples, key=lambda sample: sample["doc_id"]):
        by_filter[sample["filter"]].append(sample)
    values = {}
    for name, mean in metrics.items():
        metric, _, after = name.partition(",")
        own = [sample[metric] for sample in by_filter[after or "none"] if metric in sample]
        if mean is None or not own or not all(isinstance(value, int | float) for value in own):
            continue
        if math.isclose(fmean(own), mean, rel_tol=1e-9, abs_tol=1e-12):
            values[name] = [float(value) for value in own]
    asked = {(s["doc_id"], s["doc_hash"], s["prompt_hash"], s["target_hash"]) for s in samples}
    return {"asked": key_of(sorted(asked)), "values": values}


def moved(before: Mapping[str, Items], after: Mapping[str, Items]) -> dict[str, dict[str, Move | None]]:
    """How far every task's metrics moved, example by example; None of a task that is asked `otherwise`. A metric that
    had no value of every example before is left out."""
    found: dict[str, dict[str, Move | None]] = {}
    other = otherwise(before, after)
    for task, items in after.items():
        if task in other:
            found[task] = dict.fromkeys(items["values"])
            continue
        then = before[task]["values"]
        found[task] = {
            name: move([b - a for a, b in zip(then[name], values, strict=True)])
            for name, values in items["values"].items()
            if name in then
        }
    return found


def otherwise(before: Mapping[str, Items], after: Mapping[str, Items]) -> list[str]:
    """The tasks of which other examples, or in other prompts, were asked than before."""
    return [task for task, items in after.items() if task not in before or before[task]["asked"] != items["asked"]]
