"""Runs swept by hand whose options name their own fold or seed inside another value, such as
`teacher.path=teachers/fold=3/model dataset.fold=3`: with the number taken out they are repeats of one setting, as they
would be in a pipeline.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

from kdlab.reporting.comparison import settings
from kdlab.reporting.repeats import REPEATED, fold_of, seed_of
from kdlab.reporting.runs import Run

NUMBERED = re.compile(r"(?<![A-Za-z])(?<!split_)(fold|seed)([=_-]?)(\d+)(?!\d|\.\d)")
"""A fold or seed by name, as folders are called: fold=3, fold3, seed_0."""
KINDS = ((), ("fold",), ("seed",), ("fold", "seed"))
"""What may be taken out of a value; of two that leave as many values the earlier one is."""


def joined(runs: Sequence[Run]) -> list[Run]:
    """The runs, each told (`Run.meant`) the values that differ in its own fold or seed alone.

    Values that are the same but for such numbers are looked at together. A number is taken out only where it is the
    run's own, and only where fewer values are left for it: a teacher of one seed for students of several stays as it
    is, and so does a teacher of another fold than the student's.
    """
    given = [settings(run) for run in runs]
    alike: dict[tuple[str, str, str], list[int]] = {}
    for place, run in enumerate(runs):
        for option, value in given[place].items():
            if option not in REPEATED and NUMBERED.search(value):
                alike.setdefault((run.title, option, NUMBERED.sub(r"\1\2", value)), []).append(place)
    meant: list[dict[str, str]] = [{} for _ in runs]
    for (_, option, _), places in alike.items():
        left = [[_without(given[place][option], runs[place], kinds) for place in places] for kinds in KINDS]
        fewest = min(left, key=lambda values: len(set(values)))
        for place, value in zip(places, fewest, strict=True):
            meant[place][option] = value
    return [dataclasses.replace(run, meant=found) for run, found in zip(runs, meant, strict=True)]


def _without(value: str, run: Run, kinds: Sequence[str]) -> str:
    """The value with `{fold}` and `{seed}` in place of the run's own numbers."""
    own = {"fold": fold_of(run), "seed": seed_of(run)}

    def told(found: re.Match[str]) -> str:
        kind, sign, number = found.groups()
        is_own = kind in kinds and own[kind].isdecimal() and int(own[kind]) == int(number)
        return f"{kind}{sign}{{{kind}}}" if is_own else found[0]

    return NUMBERED.sub(told, value)
