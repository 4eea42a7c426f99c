"""A model answers the questions of MT-Bench: the second turn follows on its own first answer.

Answers are greedy (FastChat draws those of some categories at a temperature), so that two models, or one model before
and after training, differ by what they know alone. They are written a batch at a time and kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kdlab.answering.progress import WritingBar
from kdlab.answering.questions import prompt_ids
from kdlab.benchmarking.lines import Line, Lines, key_of
from kdlab.benchmarking.questions import Question
from kdlab.models.seq2seq import is_seq2seq
from kdlab.text.encoding import Encoder
from kdlab.text.formats import SkipRow
from kdlab.training.generate import Written, write_batches

if TYPE_CHECKING:
    import torch

    from kdlab.benchmarking.recipe import MTBenchConfig


@dataclass(frozen=True, kw_only=True)
class Answered:
    """A model's answers: the text of each turn, how many reached the limit of tokens, and how many of its prompts were
    cut to the room that it has."""

    turns: dict[int, tuple[str, str]]
    limit_reached: int
    cut: int


class Answerer:
    """A model with its tokenizer, on `device`. `identity` names its weights, `template` is a chat template in place of
    the tokenizer's own."""

    def __init__(
        self, model: Any, tokenizer: Any, *, identity: str, template: str | None, device: torch.device
    ) -> None:
        self.model, self.tokenizer, self.device = model, tokenizer, device
        seq2seq = is_seq2seq(model.get_base_model() if hasattr(model, "get_base_model") else model)
        self.encoder = Encoder(tokenizer, template=None if seq2seq else template, seq2seq=seq2seq)
        self.identity = key_of(identity, self.encoder.template, seq2seq)

    def answer(
        self, stage: str, questions: Sequence[Question], config: MTBenchConfig, file: Lines, *, progress: bool
    ) -> Answered:
        """The answers to all questions: those that `file` has, and the others, written now. `stage` is whose they are
        ("before"). A batch is written anew where one of its answers is missing: what is padded together decides the
        rounding."""
        order = sorted(questions, key=lambda question: -len(question.turns[0]))
        batches = [order[start : start + config.batch_size] for start in range(0, len(order), config.batch_size)]
        keys = {q.id: key_of(stage, self.identity, q.id, q.turns, config.max_new_tokens) for q in questions}
        missing = [batch for batch in batches if not all(file.of(keys[question.id]) for question in batch)]
        left = sum(map(len, missing))
        with WritingBar(total=len(questions), done=len(questions) - left, shown=progress) as bar:
            for batch in missing:
                lines = self._batch(stage, batch, keys, config)
                file.add(lines)
                bar.advance(answers=len(batch), tokens=sum(sum(line["tokens"]) for line in lines))
        return _answered([file.of(key)[-1] for key in keys.values()])

    def _batch(self, stage: str, batch: Sequence[Question], keys: dict[int, str], config: MTBenchConfig) -> list[Line]:
        first = self._write([[{"role": "user", "content": question.turns[0]}] for question in batch], config)
        talks = [
            [
                {"role": "user", "content": question.turns[0]},
                {"role": "assistant", "content": written.text.strip()},
                {"role": "user", "content": question.turns[1]},
            ]
            for question, (written, _) in zip(batch, first, strict=True)
        ]
        second = self._write(talks, config)
        return [
            {
                "key": keys[question.id],
                "stage": stage,
                "question_id": question.id,
                "category": question.category,
                "turns": [written.text.strip() for written, _ in both],
                "tokens": [written.tokens for written, _ in both],
                "stopped": [written.stopped for written, _ in both],
                "cut": [cut for _, cut in both],
            }
            for question, both in zip(batch, zip(first, second, strict=True), strict=True)
        ]

    def _write(self, talks: Sequence[list[dict[str, str]]], config: MTBenchConfig) -> list[tuple[Written, int]]:
        """What the model says next in each conversation, and how many tokens of it it could not read."""
        prompts = [self.prompt(talk) for talk in talks]
        (written,) = write_batches(
            self.model,
            self.tokenizer,
            prompts,
            [range(len(prompts))],
            max_new_tokens=config.max_new_tokens,
            device=self.device,
        )
        return [(one, len(prompt) - one.prompt_tokens) for one, prompt in zip(written, prompts, strict=True)]

    def prompt(self, talk: list[dict[str, str]]) -> list[int]:
        """The token ids of a conversation that the model is to continue."""
        try:
            return prompt_ids(talk, self.encoder)
        except SkipRow as reason:
            raise ValueError(f"benchmark.mt_bench: {reason}; give dataset.template=<a chat template>") from reason


def _answered(lines: Sequence[Line]) -> Answered:
    """The kept lines of one model."""
    return Answered(
        turns={line["question_id"]: (line["turns"][0], line["turns"][1]) for line in lines},
        limit_reached=sum(stopped == "limit" for line in lines for stopped in line["stopped"]),
        cut=sum(cut > 0 for line in lines for cut in line["cut"]),
    )
