"""What a run says on the way, in one line each."""

from __future__ import annotations

from typing import Any

SCORES = {"rougeL": "ROUGE-L", "bleu": "BLEU", "chrf": "chrF"}
"""The scores of written answers that are told, by their names in run.json."""


def heldout_line(when: str, metrics: dict[str, Any]) -> str:
    """`held-out before: perplexity 12.3, KL to the teacher 0.4 nats, top-1 agreement 61.0 %`, and of classifiers their
    accuracy and macro-F1."""
    parts = _decided(metrics) or [f"perplexity {metrics['perplexity']:,.4g}"]
    if "bits_per_byte" in metrics:
        parts.append(f"bits per byte {metrics['bits_per_byte']:.4g} (teacher {metrics['teacher_bits_per_byte']:.4g})")
        parts.append(f"divergence {metrics['divergence']:.4g}, {metrics['aligned']:.1%} of the rows aligned")
    if "kl" in metrics:
        told = f" ({metrics['kl_is']})" if "kl_is" in metrics else ""
        parts.append(f"KL to the teacher {metrics['kl']:.4g} nats{told}")
    if "top1_agreement" in metrics:
        parts.append(f"top-1 agreement {metrics['top1_agreement']:.1%}")
    if "teacher_cut_mass" in metrics:
        parts.append(f"{metrics['teacher_cut_mass']:.2%} of the teacher's probability cut away")
    if "test" in metrics:
        parts.append(f"on the test rows {_decided(metrics['test'])[0]}")
    if "generation" in metrics:
        parts.append(_scores(metrics["generation"]))
    return f"held-out {when}: " + ", ".join(parts)


def _decided(metrics: dict[str, Any]) -> list[str]:
    """What is told of classes or numbers, beside the least that must be beaten; nothing of models that write text."""
    if "rmse" in metrics:
        return [f"RMSE {metrics['rmse']:.4g} (always the mean: {metrics['mean_rmse']:.4g})"]
    if "macro_f1" not in metrics:
        return []
    baseline = f"always the commonest class: {metrics['majority_accuracy']:.1%}"
    return [f"accuracy {metrics['accuracy']:.1%} ({baseline})", f"macro-F1 {metrics['macro_f1']:.3f}"]


def _scores(found: dict[str, Any]) -> str:
    told = [f"{title} {found[name]:.1f}" for name, title in SCORES.items() if name in found]
    if "accuracy" in found:
        told.append(f"accuracy {found['accuracy']['correct']:,}/{found['accuracy']['count']:,}")
    return f"{', '.join(told)} of {found['examples']} answers"


def stream_line(counts: dict[str, int]) -> str:
    """`read from the stream: rows 2,048, examples 2,000, ..., skipped: <why> 48`."""
    told = ", ".join(f"{what.replace('_', ' ')} {count:,}" for what, count in counts.items())
    return f"read from the stream: {told}"
