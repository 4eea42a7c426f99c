"""What one part of the data gives away about another: the same group, the same text, nearly the same text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from kdlab.data.labelled.near import THRESHOLD, WORDS, Shingled

if TYPE_CHECKING:
    from kdlab.data.labelled.folds import FoldSplit
    from kdlab.data.labelled.near import Ints
    from kdlab.data.labelled.reading import LabelledRows

Placed = tuple[str, "Ints"]
"""What rows are called, and where they lie."""
SHOWN = 5
"""Pairs of rows that are named of each kind."""
NEAR = f"Jaccard similarity of word {WORDS}-grams >= {THRESHOLD}, candidates by MinHash"
KINDS = {"group": "have the group of", "text": "repeat", "near": "nearly repeat"}


@dataclass(frozen=True, kw_only=True)
class Leak:
    """What of the part `judged` is in the part `learnt`. `rows[kind]` counts rows of `judged` with the same group or
    text as a row of `learnt`, and "near": further rows nearly the same as one. `examples[kind]` are some such pairs,
    `[row of learnt, row of judged]`. `forbidden` are the kinds that must not be."""

    learnt: str
    judged: str
    of: int
    rows: dict[str, int]
    examples: dict[str, list[list[int]]]
    forbidden: tuple[str, ...] = ()

    def __str__(self) -> str:
        if not any(self.rows.values()):
            return f"{self.judged}: none of {self.of:,} rows is in {self.learnt}"
        said = []
        for kind, what in KINDS.items():
            if self.rows[kind]:
                learnt, judged = self.examples[kind][0]
                said.append(f"{self.rows[kind]:,} {what} one (row {judged}: row {learnt})")
        return f"{self.judged}: of {self.of:,} rows compared with {self.learnt}, {', '.join(said)}"


@dataclass(frozen=True, kw_only=True)
class Leakage:
    """Every pair of parts. `as_dict` says by what texts were called nearly the same."""

    leaks: list[Leak] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether no part has the group or the text of another."""
        return not any(leak.rows["group"] or leak.rows["text"] for leak in self.leaks)

    def as_dict(self) -> dict[str, Any]:
        pairs = {
            f"{leak.learnt}/{leak.judged}": {
                "rows": leak.of,
                **leak.rows,
                "examples": leak.examples,
                "forbidden": list(leak.forbidden),
            }
            for leak in self.leaks
        }
        return {"near_is": NEAR, "pairs": pairs}


def find_leaks(parts: Mapping[str, LabelledRows], *, forbidden: Mapping[tuple[str, str], tuple[str, ...]]) -> Leakage:
    """What each part has in common with each part before it. `forbidden` says of pairs of parts what must not be."""
    texts = _Texts(list(parts.values()))
    names = list(parts)
    return Leakage(
        leaks=[
            texts.leak((learnt, texts.places[a]), (judged, texts.places[b]), forbidden.get((learnt, judged), ()))
            for b, judged in enumerate(names)
            for a, learnt in enumerate(names[:b])
        ]
    )


def refuse_leaks(parts: Mapping[str, LabelledRows], leakage: Leakage) -> None:
    """Look at the rows once more. Raises ValueError, with two of them, where parts share what they must not."""
    for leak in leakage.leaks:
        learnt, judged = parts[leak.learnt], parts[leak.judged]
        for kind in leak.forbidden:
            mine, theirs = (rows.texts if kind == "text" else rows.groups for rows in (learnt, judged))
            first = dict(zip(reversed(mine), reversed(learnt.numbers.tolist()), strict=True))
            rows = [
                (first[value], j) for value, j in zip(theirs, judged.numbers.tolist(), strict=True) if value in first
            ]
            if rows:
                raise ValueError(
                    f"dataset: {len(rows):,} of the {len(judged):,} {leak.judged} rows have a {kind} that a row of "
                    f"{leak.learnt} has (row {rows[0][1]}: row {rows[0][0]} of {leak.learnt}); remove them, or let "
                    "dataset.fold and dataset.fold_by=stratified_group choose what is held out"
                )


def find_fold_leaks(
    rows: LabelledRows, folds: FoldSplit, test: LabelledRows | None, *, forbidden: tuple[str, ...]
) -> Leakage:
    """What each fold has in common with the others, and all of them with the test."""
    texts = _Texts([rows] if test is None else [rows, test])
    leaks = []
    for k in range(folds.folds):
        held_N = folds.fold_N == k
        leaks.append(
            texts.leak(("the other folds", np.flatnonzero(~held_N)), (f"fold {k}", np.flatnonzero(held_N)), forbidden)
        )
    if test is not None:
        leaks.append(texts.leak(("train", texts.places[0]), ("test", texts.places[1]), ("text", *forbidden)))
    return Leakage(leaks=leaks)


class _Texts:
    """The rows of several parts, one after the other; `places` tell where each part lies."""

    def __init__(self, parts: Sequence[LabelledRows]) -> None:
        self.groups = [group for rows in parts for group in rows.groups]
        self.texts = [text for rows in parts for text in rows.texts]
        self.numbers = [number for rows in parts for number in rows.numbers.tolist()]
        starts = np.cumsum([0, *(len(rows) for rows in parts)])
        self.places = [np.arange(start, stop) for start, stop in pairwise(starts)]
        self._shingled = Shingled(self.texts)

    def leak(self, learnt: Placed, judged: Placed, forbidden: tuple[str, ...]) -> Leak:
        """What of the rows `judged` is in the rows `learnt`."""
        (name_a, place_a), (name_b, place_b) = learnt, judged
        pairs: dict[str, list[tuple[int, int]]] = {}
        for kind, values in (("group", self.groups), ("text", self.texts)):
            first = {values[i]: i for i in reversed(place_a.tolist())}
            pairs[kind] = [(first[values[j]], j) for j in place_b.tolist() if values[j] in first]
        caught = {j for found in pairs.values() for _, j in found}
        rest = place_b[[j not in caught for j in place_b.tolist()]]
        pairs["near"] = [(i, j) for j, i in self._shingled.near(place_a, rest).items()]
        return Leak(
            learnt=name_a,
            judged=name_b,
            of=len(place_b),
            rows={kind: len(found) for kind, found in pairs.items()},
            examples={
                kind: [[self.numbers[i], self.numbers[j]] for i, j in found[:SHOWN]] for kind, found in pairs.items()
            },
            forbidden=forbidden,
        )
