"""answers.jsonl: one line an answer, appended a batch at a time, so that a killed job goes on where it stopped.

A batch is there when all its answers are; a line that a kill tore, and answers of a batch that is not whole, are
dropped, said, and written again. The same job gives the same bytes however often it was killed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from kdlab.durable import append_lines, json_lines, write_atomically
from kdlab.models.progress import say

ANSWERS = "answers.jsonl"

Answer = dict[str, Any]
"""`row`, `question`, `reference`, `draw`, `text`; `value` and `rule` of the number that it comes to (None: none found)
and `correct` (None: the reference has none); `prompt_tokens`, `tokens`, `stopped` ("end" or "limit"). `system` where
the row has one."""
Key = tuple[int, int]
"""Row and draw."""


def key(answer: Answer) -> Key:
    """Row and draw; what was decided about a row was not drawn."""
    return int(answer["row"]), int(answer["draw"]) if "draw" in answer else 0


class AnswersFile:
    """The answers of one folder, in the file `name`."""

    def __init__(self, folder: Path, *, name: str = ANSWERS) -> None:
        self.path = folder / name

    def resume(self, batches: Sequence[Sequence[Key]]) -> list[int]:
        """The numbers of the batches that are yet to be written; what is there of any but whole batches is dropped.

        Raises ValueError, with the line, for an answer that none of these batches has.
        """
        if not self.path.is_file():
            return list(range(len(batches)))
        found, torn = self._lines()
        planned = {key for batch in batches for key in batch}
        for number, known in enumerate(found, start=1):
            if known not in planned:
                raise ValueError(f"{self.path}, line {number}: no answer of this job; delete the folder to begin again")
        missing = [number for number, batch in enumerate(batches) if not all(known in found for known in batch)]
        begun = sum(known in found for number in missing for known in batches[number])
        if torn:
            say(f"{self.path}: the last line was torn and is dropped")
        if begun:
            say(f"{self.path}: {begun} answers of a batch that is not whole are written again")
        if torn or begun:
            again = {known for number in missing for known in batches[number]}
            self.replace(answer for known, answer in found.items() if known not in again)
        return missing

    def append(self, answers: Iterable[Answer]) -> None:
        """Write the answers of a batch, on the disk before this returns."""
        append_lines(self.path, answers)

    def read(self) -> list[Answer]:
        """All answers, in the order of rows and draws. Raises FileNotFoundError where there are none."""
        if not self.path.is_file():
            raise FileNotFoundError(f"{self.path}: is gone; delete the folder to begin again")
        found, _ = self._lines()
        return [found[known] for known in sorted(found)]

    def replace(self, answers: Iterable[Answer]) -> None:
        """Write all answers anew, whole or not at all."""
        content = json_lines(answers)
        write_atomically(self.path, lambda file: file.write(content))

    def _lines(self) -> tuple[dict[Key, Answer], bool]:
        """Every whole line by its key, and whether the last one is torn."""
        *lines, last = self.path.read_bytes().split(b"\n")
        found: dict[Key, Answer] = {}
        for number, line in enumerate(lines, start=1):
            try:
                answer = json.loads(line)
                known = key(answer)
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{self.path}, line {number}: damaged; delete the folder to begin again") from error
            if known in found:
                raise ValueError(
                    f"{self.path}, line {number}: a second answer {known}; delete the folder to begin again"
                )
            found[known] = answer
        return found, bool(last)
