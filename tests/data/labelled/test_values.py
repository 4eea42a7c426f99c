"""What the values of a column become."""

from __future__ import annotations

import pytest

from kdlab.data.labelled.values import UnknownClassError, find_target
from kdlab.data.labels import LabelsConfig
from kdlab.text.formats import SkipRow


def target(values, known=None, **options):
    return find_target(LabelsConfig(column="c", **options), values, known=known, typed="dataset.path=x")


def test_each_number_is_a_class_sorted_as_a_number() -> None:
    found = target([10, 9, 9, 10, 2, 2])
    assert found.names == ("2", "9", "10")
    assert [found.label(value) for value in (2, 9, 10)] == [0, 1, 2]
    assert found.label("9") == 1, "as CSV writes it"


def test_numbers_of_a_csv_file_are_numbers() -> None:
    assert target(["10", "9", "9", "10"]).names == ("9", "10")


def test_each_text_is_a_class_sorted() -> None:
    found = target(["no", "yes", "no", "maybe", "maybe", "yes"])
    assert found.names == ("maybe", "no", "yes")
    assert found.label("no") == 1
    assert target([True, False, True, False]).names == ("false", "true")


def test_bins_are_closed_below_and_open_above() -> None:
    found = target([0, 1, 2, 3, 4], bins=[2, 4])
    assert found.names == ("< 2", "2 to < 4", ">= 4")
    assert [found.label(value) for value in (0, 1.99, 2, 3.99, 4, 9)] == [0, 0, 1, 1, 2, 2]


def test_the_datasets_own_names_are_the_classes() -> None:
    found = target([1, 0, 1], known=["neg", "pos"])
    assert found.names == ("neg", "pos")
    assert found.label(1) == 1
    with pytest.raises(SkipRow, match="no class"):
        found.label(-1)
    assert target([1, 0, 1], known=["neg", "pos"], names=["bad", "good"]).names == ("bad", "good")


def test_a_regression_keeps_the_number() -> None:
    found = target([0.5, 2, "3.5"], regression=True)
    assert (found.kind, found.names) == ("regression", ("c",))
    assert found.label("3.5") == 3.5


@pytest.mark.parametrize("edges", [[float("nan")], [1.0, float("nan")], [float("-inf"), 2.0], [2.0, float("inf")]])
def test_an_edge_that_is_no_finite_number_is_refused(edges: list[float]) -> None:
    """No value is above or below a nan, and nothing would be beyond an infinite edge."""
    with pytest.raises(ValueError, match=r"^dataset\.labels\.bins=\[.*\]: must be rising edges") as raised:
        LabelsConfig(column="c", bins=edges)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("value", "why"),
    [(None, "without c"), (" ", "without c"), ("n/a", "no number"), (True, "no number"), (float("nan"), "no number")],
)
def test_a_value_without_a_class_is_skipped(value, why) -> None:
    with pytest.raises(SkipRow, match=why):
        target([1, 2, 1, 2, 2, value]).label(value)


def test_a_text_column_skips_what_is_no_text() -> None:
    found = target(["a", "b", "a", "b", 7])
    with pytest.raises(SkipRow, match="not text"):
        found.label(7)


def test_a_class_that_is_new_is_no_reason_to_skip() -> None:
    with pytest.raises(UnknownClassError, match=r"^7$"):
        target([1, 1, 2, 2]).label(7)


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ([3, 3, 3], {}, r"dataset\.labels\.column=c: every row has the same value \(3\)"),
        ([3.0, 3.0], {"regression": True}, r"dataset\.labels\.column=c: every row has the same number"),
        ([None, ""], {}, r"dataset\.labels\.column=c: every row of dataset\.path=x is without a value"),
        (list(range(9)), {}, r"column=c: 9 different values in 9 rows .* dataset\.labels\.bins=.*regression=true"),
        ([f"essay {i}" for i in range(9)], {}, r"column=c: 9 different values in 9 rows are no classes; name another"),
        (
            [0, 1, 4, 4],
            {"bins": [0.33, 0.66]},
            r"bins=\[0\.33, 0\.66\]: no row is in 0\.33 to < 0\.66; .* 0 \(1 rows\), 1 \(1 rows\), 4 \(2 rows\)",
        ),
        (["a", "b"], {"bins": [1.0]}, r"dataset\.labels\.bins=\[1\.0\]: needs numbers, but c holds a, b"),
        (["a", "b"], {"regression": True}, r"dataset\.labels\.regression=true: needs numbers, but c holds a, b"),
        (
            [0, 1, 2, 0, 1, 2],
            {"names": ["a", "b"]},
            r"dataset\.labels\.names: 2 names, but c has 3 classes \(0, 1, 2\)",
        ),
    ],
)
def test_a_target_that_cannot_be_learnt_is_refused(values, options, message) -> None:
    with pytest.raises(ValueError, match=f"{message}") as raised:
        target(values, **options)
    assert "\n" not in str(raised.value)
