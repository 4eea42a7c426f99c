from __future__ import annotations

from dataclasses import replace

import pytest

from kdlab.benchmarking.jobs import pair_jobs, single_jobs
from kdlab.benchmarking.questions import Bench, JudgePrompt

ONE = {number: (f"one {number}", f"{{two}} {number}") for number in range(81, 86)}
OTHER = {number: (f"other {number}", f"another {number}") for number in range(81, 86)}


def test_each_turn_has_its_prompt(bench: Bench) -> None:
    jobs = single_jobs(bench, ONE, stage="before", judge="j")
    assert [(job.question.id, job.turn) for job in jobs] == [(n, turn) for n in range(81, 86) for turn in (1, 2)]
    assert [job.user for job in jobs[:4]] == [
        "single-v1 Q Say 81. R  A one 81",
        "single-v1-multi-turn Q Say 81. | And {twice} 81? R  A one 81 | {two} 81",
        "single-math-v1 Q Say 82. R truth 82 A one 82",
        "single-math-v1-multi-turn Q Say 82. | And {twice} 82? R truth 82 | second truth 82 A one 82 | {two} 82",
    ]
    assert {job.system for job in jobs} == {"You judge (single)."}


def test_pairs_stand_in_the_order_they_are_given(bench: Bench) -> None:
    jobs = pair_jobs(bench, ONE, OTHER, stage="before/after", judge="j")
    assert [job.user for job in jobs[:4]] == [
        "pair-v2 Q Say 81. R  A one 81 | other 81",
        "pair-v2-multi-turn Q Say 81. | And {twice} 81? R  A one 81 | {two} 81 | other 81 | another 81",
        "pair-math-v1 Q Say 82. R truth 82 A one 82 | other 82",
        "pair-math-v1-multi-turn Q Say 82. | And {twice} 82? R truth 82 | second truth 82 "
        "A one 82 | {two} 82 | other 82 | another 82",
    ]
    swapped = pair_jobs(bench, OTHER, ONE, stage="after/before", judge="j")
    assert not {job.key for job in jobs} & {job.key for job in swapped}


def test_a_key_is_of_all_that_a_judgement_depends_on(bench: Bench) -> None:
    def keys(answers: dict[int, tuple[str, str]] = ONE, stage: str = "before", judge: str = "j") -> set[str]:
        return {job.key for job in single_jobs(bench, answers, stage=stage, judge=judge)}

    assert keys() == keys()
    assert len(keys()) == 10
    assert not keys() & keys(stage="after")
    assert not keys() & keys(judge="k")
    assert len(keys() & keys(ONE | {81: ("one 81", "changed")})) == 9, "the first turn is judged without the second"
    assert len(keys() & keys(ONE | {81: ("changed", "{two} 81")})) == 8


def test_a_prompt_that_wants_more_is_refused(bench: Bench) -> None:
    prompts = bench.prompts | {"single-v1": JudgePrompt(system="", template="{question} {mood}")}
    with pytest.raises(ValueError, match=r"the prompt single-v1 wants 'mood', and what is there is answer, question"):
        single_jobs(replace(bench, prompts=prompts), ONE, stage="before", judge="j")
