"""How many written answers come to their reference's number.

found = judge(["So it is 18."], ["... #### 18"], rules="boxed_last")
found.accuracy.correct, found.examples[0]      # 1, {"value": "18", "rule": "last_number", "correct": True}
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kdlab.proportions import Accuracy, McNemar, mcnemar, over_questions
from kdlab.text.final_numbers import equal, extract, gold, shown

__all__ = ["Accuracy", "McNemar", "Numbers", "judge", "mcnemar", "over_questions"]


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """`examples` have each answer's value (as text, None where unresolved), the rule that fired and whether it is
    correct (None where the reference has no number). `accuracy` and `resolved` count the answers whose reference has
    one, `left_out` the others. An unresolved answer is not correct."""

    accuracy: Accuracy
    resolved: int
    left_out: int
    rules: str
    examples: list[dict[str, Any]]

    def record(self) -> dict[str, Any]:
        """For run.json: counts alone, so that no percentage can disagree with them."""
        return {
            "correct": self.accuracy.correct,
            "count": self.accuracy.count,
            "resolved": self.resolved,
            "left_out": self.left_out,
            "rules": self.rules,
        }


def judge(
    written: Sequence[str], references: Sequence[str], *, rules: str, questions: Sequence[str] | None = None
) -> Numbers:
    """Extract each answer's number by `rules` and compare it with that of its reference, exactly. What an answer
    repeats of its `questions` at its beginning is not read.

    Raises ValueError where no reference has a number.
    """
    examples = []
    for text, reference, question in zip(written, references, questions or [""] * len(written), strict=True):
        found, wanted = extract(text, rules=rules, question=question), gold(reference)
        correct = None if wanted is None else equal(found.value, wanted)
        examples.append({"value": shown(found.value), "rule": found.rule, "correct": correct})
    counted = [example for example in examples if example["correct"] is not None]
    if not counted:
        raise ValueError(
            "accuracy: no reference answer has a number to compare with (behind ####, in \\boxed{}, or alone); judge "
            "these data by benchmark.generation.metrics=[rouge]"
        )
    return Numbers(
        accuracy=Accuracy(sum(example["correct"] is True for example in counted), len(counted)),
        resolved=sum(example["value"] is not None for example in counted),
        left_out=len(examples) - len(counted),
        rules=rules,
        examples=examples,
    )
