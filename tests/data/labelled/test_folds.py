"""Which rows are held out together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlab.data.dataset import DatasetConfig
from kdlab.data.labelled.folds import GROUPED, draw_heldout, make_folds, together
from kdlab.data.labelled.reading import LabelledRows
from kdlab.data.labels import FOLD_KINDS


def rows(labels, groups, texts=None) -> LabelledRows:
    count = len(labels)
    return LabelledRows(
        source="s",
        content_hash="h",
        numbers=np.arange(count),
        fields=[{}] * count,
        texts=texts if texts is not None else [f"text {i}" for i in range(count)],
        labels=np.asarray(labels),
        groups=[str(group) for group in groups],
        read=count,
    )


def config(**options) -> DatasetConfig:
    return DatasetConfig(path="x", **({"folds": 5} | options))


def folds(found, classes=("a", "b"), **options):
    return make_folds(found, config(**options), classes=classes, group="prompt")


PAIRED = rows([i % 3 == 0 for i in range(90)] * 1, [i // 2 for i in range(90)])
PAIRED = rows(PAIRED.labels.astype(np.int64), PAIRED.groups)


@pytest.mark.parametrize("by", FOLD_KINDS)
def test_every_row_is_held_out_once_and_the_seed_decides(by: str) -> None:
    made = folds(PAIRED, fold_by=by)
    assert sorted(set(made.fold_N.tolist())) == list(range(5))
    assert (np.bincount(made.fold_N) >= 16).all()
    assert (made.fold_N == folds(PAIRED, fold_by=by).fold_N).all()
    assert (made.fold_N != folds(PAIRED, fold_by=by, split_seed=1).fold_N).any()
    assert np.sum(made.counts, axis=0).tolist() == [60, 30]


@pytest.mark.parametrize("by", GROUPED)
def test_no_group_is_in_two_folds(by: str) -> None:
    made = folds(PAIRED, fold_by=by)
    assert all(made.fold_N[i] == made.fold_N[i + 1] for i in range(0, 90, 2))


@pytest.mark.parametrize("by", ["stratified", "stratified_group"])
def test_folds_have_the_shares_of_the_classes(by: str) -> None:
    assert all(abs(counts[1] - 6) <= 1 for counts in folds(PAIRED, fold_by=by).counts)


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=40))
@settings(max_examples=50, deadline=None)
def test_rows_belong_together_over_any_chain_of_groups_and_texts(pairs) -> None:
    found = together([f"g{g}" for g, _ in pairs], [f"t{t}" for _, t in pairs]).tolist()
    sets: list[set[str]] = []  # an oracle: merge what touches, until nothing does
    for g, t in pairs:
        touching = [s for s in sets if {f"g{g}", f"t{t}"} & s]
        sets = [s for s in sets if s not in touching] + [{f"g{g}", f"t{t}"}.union(*touching)]
    oracle = [next(k for k, s in enumerate(sets) if f"g{g}" in s) for g, _ in pairs]
    assert all((found[i] == found[j]) == (oracle[i] == oracle[j]) for i in range(len(pairs)) for j in range(i))


def test_one_text_under_two_prompts_is_in_one_fold() -> None:
    texts = [f"text {i}" for i in range(90)]
    texts[1] = texts[40] = "I do not know."
    made = folds(rows(PAIRED.labels, PAIRED.groups, texts))
    assert made.fold_N[0] == made.fold_N[1] == made.fold_N[40] == made.fold_N[41]


def test_numbers_are_stratified_by_rank() -> None:
    numbers = np.random.default_rng(0).lognormal(size=200)
    made = folds(rows(numbers, range(200)), classes=())
    means = [np.log(numbers[made.fold_N == k]).mean() for k in range(5)]
    assert np.ptp(means) < 0.15
    assert made.counts == [[]] * 5


def test_too_few_groups_are_refused_and_rare_classes_noted() -> None:
    with pytest.raises(ValueError, match=r"^dataset\.folds=50: there are 45 different values of prompt only"):
        folds(PAIRED, folds=50)
    with pytest.raises(ValueError, match=r"^dataset\.folds=91: there are 90 rows only"):
        folds(PAIRED, folds=91, fold_by="plain")
    rare = rows([1, 1, 1] + [0] * 57, [*"aab", *range(57)])
    assert folds(rare).notes == ["class b has 2 different values of prompt, so not every one of 5 folds has it"]


def test_a_share_is_drawn_as_folds_are() -> None:
    held = draw_heldout(PAIRED, config(heldout=0.3), classes=("a", "b"), group="prompt")
    assert 24 <= held.sum() <= 30
    assert all(held[i] == held[i + 1] for i in range(0, 90, 2))
    assert abs(PAIRED.labels[held].mean() - 1 / 3) < 0.05
    some = draw_heldout(PAIRED, config(heldout=9), classes=("a", "b"), group="prompt")
    assert 6 <= some.sum() <= 12
    one = draw_heldout(PAIRED, config(heldout=3), classes=("a", "b"), group="prompt")  # 1 in 30, no 1 in 20
    assert one.sum() <= 4
    most = draw_heldout(PAIRED, config(heldout=0.99), classes=("a", "b"), group="prompt")
    assert not most.all()
    assert most.mean() > 0.9


def test_nothing_to_draw_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^dataset\.heldout=90: leaves none of the 90 rows"):
        draw_heldout(PAIRED, config(heldout=90), classes=("a", "b"), group="prompt")
    with pytest.raises(ValueError, match=r"^dataset\.heldout=0\.1: all rows have one value of prompt"):
        draw_heldout(rows([0, 1] * 9, ["same"] * 18), config(), classes=("a", "b"), group="prompt")
