"""What teacher and student are asked: a teacher's prompt may hold more (a role, a hint, the solution).

Both read the same answer, and only its tokens are matched. Importable without torch.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kdlab.text.formats import Document

PLACES = ("{question}", "{answer}")
QUESTION = "{question}"
"""The prompt that asks what a row asks, as it stands."""
NO_QUESTION = "asks nothing that a prompt could word; use prompt=base, or rows with a question and an answer"
_PLACE = re.compile("|".join(map(re.escape, PLACES)))


@dataclass(kw_only=True)
class PromptConfig:
    """`student` and `teacher` word the user's turn of an example: `{question}` is what the row asks, `{answer}` the
    row's own answer, which only a teacher may see. `teacher` None: as the student's. `name` is shown in reports."""

    name: str = "base"
    student: str = QUESTION
    teacher: str | None = None

    def __post_init__(self) -> None:
        for option, text in (("student", self.student), ("teacher", self.teacher)):
            if text is None:
                continue
            unknown = [place for place in re.findall(r"\{\w*\}", text) if place not in PLACES]
            if unknown:
                raise ValueError(f"prompt.{option}: {unknown[0]} is no place; {' and '.join(PLACES)} are")
            if QUESTION not in text:
                raise ValueError(f"prompt.{option}: has no {{question}}, so every example would ask the same")
        if "{answer}" in self.student:
            raise ValueError("prompt.student: has {answer}, which the student is to learn; only prompt.teacher may")

    @property
    def privileged(self) -> bool:
        """Whether the teacher reads another prompt than the student."""
        return self.teacher is not None and self.teacher != self.student

    @property
    def plain(self) -> bool:
        """Whether a row's own question is asked of both, as it stands."""
        return self.student == QUESTION and not self.privileged

    @property
    def of_teacher(self) -> str:
        """The teacher's wording."""
        return self.student if self.teacher is None else self.teacher

    @property
    def gives_answer(self) -> bool:
        """Whether the teacher is told the answer: what it writes behind such a prompt is not found by itself."""
        return "{answer}" in self.of_teacher


def called(name: str) -> str:
    """A prompt as it was asked for: by its option, or by its text alone."""
    return "prompt.teacher" if name == PromptConfig.name else f"prompt={name}"


def fill(prompt: str, *, question: str, answer: str) -> str:
    """The prompt with its places filled, all at once: braces in a question or an answer stay as they are."""
    found = {"{question}": question, "{answer}": answer}
    return _PLACE.sub(lambda place: found[place[0]], prompt)


def worded(document: Document, prompt: str) -> Document:
    """A conversation in which each user's turn that an assistant's follows is worded by `prompt`: its text is the
    question, the reply the answer. Other turns stay as they are.

    Raises ValueError for a plain text, which asks nothing.
    """
    if prompt == QUESTION:
        return document
    if isinstance(document, str):
        raise ValueError(f"prompt: plain text {NO_QUESTION}")
    messages = [dict(message) for message in document]
    for turn, reply in zip(messages, document[1:], strict=False):
        if (turn["role"], reply["role"]) == ("user", "assistant"):
            turn["content"] = fill(prompt, question=turn["content"], answer=reply["content"])
    return messages
