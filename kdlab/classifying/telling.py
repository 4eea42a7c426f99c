"""What is printed of a classifier that was judged."""

from __future__ import annotations

from typing import Any

from kdlab.proportions import Accuracy

MOST_CLASSES = 12
"""Classes up to which each is told by itself."""


def told(content: dict[str, Any]) -> str:
    """Every figure with what it has to be compared with, and each class."""
    found = content["classification"] or content["regression"]
    lines = [f"{found['rows']:,} {found['part']} rows of {found['column']}"]
    lines += _regression(found) if content["classification"] is None else _classes(content["accuracy"], found)
    speed = found["latency"]
    rate = speed["examples_per_second"]
    said = f", {rate:,.1f} rows/s in batches" if rate else ""
    lines.append(f"one row takes {speed['p50_ms']:.1f} ms (median), {speed['p95_ms']:.1f} ms (95th percentile){said}")
    cut = content["data"]["cut_tokens"]
    if cut:
        lines.append(f"{cut:,} tokens of long rows were cut")
    return "\n".join([*lines, *content["data"].get("notes", ())])


def _regression(found: dict[str, Any]) -> list[str]:
    lines = [f"RMSE {found['rmse']:.4g} (always the mean of the training rows: {found['mean_rmse']:.4g})"]
    related = [f"{name} {found[key]:.3f}" for name, key in (("R²", "r2"), ("Pearson", "pearson")) if found[key]]
    return [*lines, f"mean absolute error {found['mae']:.4g}" + "".join(f", {one}" for one in related)]


def _classes(counts: dict[str, int], found: dict[str, Any]) -> list[str]:
    accuracy = Accuracy(counts["correct"], counts["count"])
    low, high = accuracy.interval()
    lines = [
        f"accuracy {accuracy.share:.1%} ({accuracy.correct:,}/{accuracy.count:,}; {low:.1%} to {high:.1%}), "
        f"always the commonest class {found['majority_accuracy']:.1%}",
        f"F1 macro {found['macro_f1']:.1%}, weighted {found['weighted_f1']:.1%}; calibration error {found['ece']:.1%}",
    ]
    if len(found["names"]) > MOST_CLASSES:
        return lines
    width = max(map(len, (*found["names"], "class")))
    lines.append(f"{'class':<{width}}  precision  recall      F1    rows  decided as: {', '.join(found['names'])}")
    for each, row in zip(found["per_class"], found["confusion"], strict=True):
        shares = f"{each['precision']:>9.1%}  {each['recall']:>6.1%}  {each['f1']:>6.1%}"
        lines.append(f"{each['name']:<{width}}  {shares}  {each['support']:>6,}  {', '.join(map(str, row))}")
    return lines
