"""Runs side by side: what varies, and what repeats."""

from __future__ import annotations

import statistics

import pytest

from kdlab.reporting.comparison import cells, labels, ranked, setting, varying
from kdlab.reporting.repeat_table import repeat_cells
from kdlab.reporting.repeats import left_out, repeat_groups
from kdlab.reporting.runs import Run, read


@pytest.fixture
def run(write_run):
    def make(
        *overrides: str,
        name: str = "quick",
        kl: float = 2.0,
        seed: int = 0,
        status: str = "finished",
        after: dict[str, float] | None = None,
    ) -> Run:
        folder = f"{name}/{','.join(overrides) or 'default'},{status}"
        changes = {
            "name": name,
            "overrides": ["experiment=quick", *overrides],
            "metrics.after.kl": kl,
            "seeds.seed": seed,
            "status": status,
        }
        if after is not None:
            changes |= {"metrics.after": after}
            del changes["metrics.after.kl"]
        return read(write_run(folder, changes) / "run.json")

    return make


def test_what_varies_are_the_options_that_differ(run) -> None:
    runs = [run("loss=reverse_kl", "seed=1"), run("loss=forward_kl", "seed=1"), run("seed=1")]
    assert varying(runs) == ["loss"]
    assert [setting(one, "loss") for one in runs] == ["reverse_kl", "forward_kl", "forward_kl"]
    assert varying([run("loss.temperature=2"), run()]) == [], "the config holds 2.0 as given"


def test_values_that_were_not_typed_come_from_the_config(run) -> None:
    one = run("+loss.temperature=4", "loss.temperature=5")
    assert setting(one, "loss.temperature") == "5"
    assert setting(run(), "loss.temperature") == "2.0"
    assert setting(run("a=1"), "student.path") == "null"
    assert setting(run("b=1"), "absent.option") == "(default)"


def test_every_run_has_a_label_of_its_own(run) -> None:
    runs = [run("seed=0"), run("seed=1"), run("seed=1", name="other"), run("seed=1", status="failed")]
    found = labels(runs)
    assert len(set(found)) == 4
    assert found[0] == "quick seed=0"


def test_the_lowest_kl_comes_first_and_the_unfinished_last(run) -> None:
    runs = [run("a=1", kl=3.0), run("a=2", kl=1.0, status="failed"), run("a=3", kl=float("nan")), run("a=4", kl=2.0)]
    assert [one.overrides[-1] for one in ranked(runs)] == ["a=4", "a=1", "a=3", "a=2"]


def test_log_losses_are_not_ranked_among_divergences(run) -> None:
    runs = [run("a=1", after={"nll": 0.5}), run("a=2", kl=3.0), run("a=3", after={"nll": 0.2}), run("a=4", kl=1.0)]
    assert [one.overrides[-1] for one in ranked(runs)] == ["a=4", "a=2", "a=3", "a=1"]


def test_a_seed_counts_once_and_alone_makes_no_interval(run) -> None:
    runs = [run(kl=2.0), run("seed=0", kl=9.0)]
    assert repeat_groups(runs) == []
    (group,) = repeat_groups([*runs, run("seed=1", kl=3.0, seed=1)])
    assert (group.seeds, len(group.runs), group.intervals["kl"].n) == (["0", "1"], 2, 2)
    assert group.intervals["kl"].mean == pytest.approx(2.5)
    assert left_out([group]) == "Left out, for the same seed as another run: seed=0,finished."


def test_seeds_are_grouped_and_other_settings_are_not(run) -> None:
    values = [2.0, 2.5, 2.1]
    runs = [run(f"seed={seed}", "loss=reverse_kl", kl=kl, seed=seed) for seed, kl in enumerate(values)]
    runs += [run("loss=forward_kl", kl=9.0), run("seed=7", "loss=reverse_kl", kl=0.1, seed=7, status="failed")]
    (group,) = repeat_groups(runs)
    assert group.label == "loss=reverse_kl"
    assert group.seeds == ["0", "1", "2"]
    assert group.intervals["kl"].mean == pytest.approx(statistics.fmean(values))
    assert group.intervals["kl"].sd == pytest.approx(statistics.stdev(values))
    assert group.intervals["kl"].half_width == pytest.approx(4.302653 * statistics.stdev(values) / 3**0.5, rel=1e-6)
    head, ((label, n, seeds, kl, *_),) = repeat_cells([group])
    assert len(head) == 7
    assert (label, n, seeds, kl) == ("loss=reverse_kl", "3", "0, 1, 2", "2.200 ± 0.66 (sd 0.26)")


def test_a_row_a_run_with_what_varies_first(run) -> None:
    head, rows = cells([run("loss=reverse_kl", kl=2.0), run("loss=jensen_shannon", kl=4.0)])
    assert head[:3] == ["loss", "state", "KL (nats)"]
    assert rows[0][:3] == ["reverse_kl", "finished", "10 → 2"]
    assert rows[1][head.index("KL gap closed")].startswith("60.0")
    assert all(len(row) == len(head) for row in rows)
