"""Two settings over the same seeds: their difference, its interval and its p."""

from __future__ import annotations

import pytest

from kdlab.reporting.arms import MOST_PAIRS, pair_cells
from kdlab.reporting.intervals import paired
from kdlab.reporting.repeats import repeat_groups
from kdlab.reporting.runs import Run, read


@pytest.fixture
def arm(write_run):
    def make(loss: str, kls: list[float], *, more: dict | None = None) -> list[Run]:
        runs = []
        for seed, kl in enumerate(kls):
            changes = {
                "overrides": [f"loss={loss}", f"seed={seed}"],
                "seeds.seed": seed,
                "metrics.after.kl": kl,
                **{key: values[seed] for key, values in (more or {}).items()},
            }
            runs.append(read(write_run(f"{loss}{seed}", changes) / "run.json"))
        return runs

    return make


def test_two_arms_are_compared_over_the_seeds_that_both_have(arm) -> None:
    first, second = [2.0, 2.5, 2.1], [3.0, 3.1, 3.3, 9.0]
    head, ((name, n, seeds, kl, *_),), note = pair_cells(repeat_groups([*arm("a", first), *arm("b", second)]))
    assert head[:4] == ["difference", "n", "seeds", "KL (nats)"]
    assert (name, n, seeds) == ("loss=a − loss=b", "3", "0, 1, 2")
    expected = paired(first, second[:3])
    assert kl == f"{expected.difference:.4f} ± {expected.half_width:.2f} (p = {expected.p:.3f})"
    assert "Below 0 the first is better for KL (nats), perplexity, log-loss; above 0 for the others." in note
    assert "corrected" not in note


def test_differences_that_are_the_same_for_every_seed_have_no_p(arm) -> None:
    _, ((*_, agreement),), _ = pair_cells(repeat_groups([*arm("a", [2.0, 2.5]), *arm("b", [3.0, 3.1])]))
    assert agreement.endswith("(the same for every seed)"), "all made-up runs agree alike"


def test_scores_of_answers_are_compared_too(arm) -> None:
    more = [{"metrics.after.generation": [{"examples": 9, "rougeL": s} for s in row]} for row in ([20, 22], [10, 11])]
    groups = repeat_groups([*arm("a", [1.0, 2.0], more=more[0]), *arm("b", [1.0, 2.0], more=more[1])])
    head, (row,), _ = pair_cells(groups)
    assert dict(zip(head, row, strict=True))["ROUGE-L"].startswith("10.5 ± 6.4")


def test_one_arm_or_no_common_seed_gives_no_row(arm) -> None:
    assert pair_cells(repeat_groups(arm("a", [1.0, 2.0])))[1] == []
    assert pair_cells([])[1] == []


def test_many_arms_are_compared_with_the_first_and_that_is_said(arm) -> None:
    runs = [run for letter in "abcdefg" for run in arm(letter, [1.0, 2.0 + ord(letter)])]
    _, rows, note = pair_cells(repeat_groups(runs))
    assert len(rows) == 6
    assert all(row[0].startswith("loss=a − ") for row in rows)
    assert f"{21 - 6} further pairs are not shown" in note
    assert "not corrected for 6 comparisons" in note
    assert MOST_PAIRS < 21
