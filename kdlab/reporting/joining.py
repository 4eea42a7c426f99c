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
PART = re.compile(r"[^/]+")
"""A part of a path."""
HASH = re.compile(r"-[0-9a-f]{8}(?=['\"\]]*$)")
"""What `config.folder` puts behind a name that does not say its options exactly: of each fold another."""
KINDS = ((), ("fold",), ("seed",), ("fold", "seed"))
"""What may be taken out of a value; of two that leave as many values the earlier one is."""


def joined(runs: Sequence[Run]) -> list[Run]:
    """The runs, each told (`Run.meant`) the values that differ in its own fold or seed alone.

    Values that are the same but for such numbers are looked at together. A number is taken out only where it is the
    run's own, and only where fewer values are left for it: a teacher of one seed for students of several stays as it
    is, and so does a teacher of another fold than the student's. With a number goes the hash at the end of its folder,
    unless two folders differ in that alone.
    """
    given = [settings(run) for run in runs]
    alike: dict[tuple[str, str, str], list[int]] = {}
    for place, run in enumerate(runs):
        for option, value in given[place].items():
            if option not in REPEATED and NUMBERED.search(value):
                alike.setdefault((run.title, option, NUMBERED.sub(r"\1\2", _unhashed(value))), []).append(place)
    meant: list[dict[str, str]] = [{} for _ in runs]
    for (_, option, _), places in alike.items():
        values = {given[place][option] for place in places}
        exact = len({_unhashed(value) for value in values}) < len(values)
        left = [[_without(given[place][option], runs[place], kinds, exact) for place in places] for kinds in KINDS]
        fewest = min(left, key=lambda told: len(set(told)))
        for place, value in zip(places, fewest, strict=True):
            meant[place][option] = value
    return [dataclasses.replace(run, meant=found) for run, found in zip(runs, meant, strict=True)]


def _unhashed(value: str) -> str:
    """The value without the hashes of folders that name a fold or seed."""
    return PART.sub(lambda part: HASH.sub("", part[0]) if NUMBERED.search(part[0]) else part[0], value)


def _without(value: str, run: Run, kinds: Sequence[str], exact: bool) -> str:
    """The value with `{fold}` and `{seed}` in place of the run's own numbers; unless it is to stay `exact`, without the
    hashes of their folders."""
    own = {"fold": fold_of(run), "seed": seed_of(run)}

    def told(found: re.Match[str]) -> str:
        kind, sign, number = found.groups()
        is_own = kind in kinds and own[kind].isdecimal() and int(own[kind]) == int(number)
        return f"{kind}{sign}{{{kind}}}" if is_own else found[0]

    def part_told(found: re.Match[str]) -> str:
        part = NUMBERED.sub(told, found[0])
        return part if exact or part == found[0] else HASH.sub("", part)

    return PART.sub(part_told, value)
