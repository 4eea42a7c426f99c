"""metrics.csv is appended to, cut back to a step, and keeps every bit."""

from __future__ import annotations

import csv

from kdlab.training.metrics_file import COLUMNS, MetricsFile


def read(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_columns_and_bits(tmp_path):
    file = MetricsFile(tmp_path / "metrics.csv", step=-1)
    file.write({"step": 1, "epoch": 1 / 3, "phase": "train", "loss": 0.1 + 0.2, "hard": None, "rows": 7})
    file.close()
    (row,) = read(tmp_path / "metrics.csv")
    assert tuple(row) == COLUMNS
    assert float(row["loss"]) == 0.1 + 0.2
    assert float(row["epoch"]) == 1 / 3
    assert (row["hard"], row["rows"], row["kl"]) == ("", "7", "")


def test_a_run_that_continues_drops_later_rows_and_a_cut_line(tmp_path):
    path = tmp_path / "metrics.csv"
    file = MetricsFile(path, step=-1)
    for step in range(5):
        file.write({"step": step, "phase": "train", "loss": step / 7})
    file.write({"step": 2, "phase": "heldout", "kl": 0.5})
    file.close()
    before = path.read_text().splitlines()
    with path.open("a") as cut:
        cut.write("1,0.5,train,0.1")
    file = MetricsFile(path, step=2)
    file.write({"step": 3, "phase": "train"})
    file.close()
    after = path.read_text().splitlines()
    assert after[:-1] == [before[0], *before[1:4], before[6]]
    assert after[-1].startswith("3,")


def test_beginning_again_leaves_only_the_header(tmp_path):
    path = tmp_path / "metrics.csv"
    first = MetricsFile(path, step=-1)
    first.write({"step": 0, "phase": "heldout"})
    first.close()
    MetricsFile(path, step=-1).close()
    assert read(path) == []
