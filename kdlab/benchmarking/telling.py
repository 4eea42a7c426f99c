"""What the benchmarks found, in words. Torch-free."""

from __future__ import annotations

from typing import Any

Metrics = dict[str, Any]


def told_lines(stage: str, found: Metrics) -> list[str]:
    """What was found of one model, in words."""
    told = []
    if "mt_bench" in found:
        told.append(f"MT-Bench, {stage}: {_rated(found['mt_bench'])}{_spent(found['mt_bench'])}")
    if "pairwise" in found:
        told.append(f"MT-Bench, after against before: {_compared(found['pairwise'])}{_spent(found['pairwise'])}")
    for task, metrics in found.get("harness", {}).items():
        values = [
            f"{name} {value:.4g}" + _plus_minus(metrics.get(f"{name}_stderr"))
            for name, value in metrics.items()
            if value is not None and not name.endswith("_stderr")
        ]
        told.append(f"lm-evaluation-harness, {stage}: {task} {', '.join(values)}")
    return told + _moves(found.get("moved", {}))


def _moves(found: Metrics) -> list[str]:
    """How far each measure moved."""
    told = []
    if (overall := found.get("mt_bench", {}).get("overall")) is not None:
        told.append(f"MT-Bench, after - before: {_move(overall)} questions")
    for task, moves in found.get("harness", {}).items():
        values = [f"{name} {_move(moved)} examples" for name, moved in moves.items() if moved is not None]
        told += [f"lm-evaluation-harness, after - before: {task} {', '.join(values)}"] if values else []
    return told


def _move(moved: Metrics) -> str:
    interval = moved["interval"]
    width = "" if interval is None else f" ({interval[0]:+.3g} to {interval[1]:+.3g})"
    return f"{moved['difference']:+.3g}{width} over the same {moved['count']:,}"


def _rated(found: Metrics) -> str:
    if found["overall"] is None:
        return f"no rating was read of {found['unparsed']} judgements{_cut_short(found)}"
    turns = " and ".join("none" if found[turn] is None else f"{found[turn]:.2f}" for turn in ("turn1", "turn2"))
    said = f"{found['overall']:.2f} of 10 (turns {turns}) over {found['count']} ratings, {found['unparsed']} unparsed"
    said += _cut_short(found)
    if found["limit_reached"]:
        said += f"; {found['limit_reached']} answers reached benchmark.mt_bench.max_new_tokens"
    return said + (f"; {found['cut']} prompts were longer than the model reads and cut" if found["cut"] else "")


def _compared(found: Metrics) -> str:
    if not found["count"]:
        return f"no verdict was read of {found['unparsed']} comparisons{_cut_short(found)}"
    low, high = found["interval"]
    return (
        f"{found['wins']} wins, {found['losses']} losses, {found['ties']} ties (the order decided "
        f"{found['order_decided']}), {found['unparsed']} unparsed{_cut_short(found)}; win rate {found['win_rate']:.1%} "
        f"({low:.1%} to {high:.1%}; a tie counts half)"
    )


def _cut_short(found: Metrics) -> str:
    reached = found["cut_short"]
    return f" ({reached} judgements reached benchmark.mt_bench.judge.max_tokens: raise it)" if reached else ""


def _spent(found: Metrics) -> str:
    cost = found["cost"]
    said = f"; {cost['requests']} judgements, {cost['tokens_in']:,} tokens in, {cost['tokens_out']:,} out"
    said += f" ({cost['uncounted']} not counted by the judge)" if cost["uncounted"] else ""
    return said + (f", price {cost['price']:.4g}" if cost["price"] is not None else "")


def _plus_minus(error: float | None) -> str:
    return "" if error is None else f" ± {error:.2g}"
