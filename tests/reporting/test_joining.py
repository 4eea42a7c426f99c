"""Runs of a sweep by hand, whose options name their own fold or seed inside another value."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kdlab.config.folder import run_folder
from kdlab.reporting.comparison import settings, varying
from kdlab.reporting.exports import joined_cells
from kdlab.reporting.records import read_all
from kdlab.reporting.repeats import Group, repeat_groups

Groups = Callable[..., list[Group]]


@pytest.fixture
def groups(write_run, classifier, tmp_path: Path) -> Groups:
    """`groups({"fold": 0, "seed": 0, "overrides": [...]}, ...)`: how such runs are joined."""

    def make(*runs: dict[str, Any]) -> list[Group]:
        for number, run in enumerate(runs):
            changes = classifier(after=80 + number, fold=run["fold"]) | {"seeds": {"seed": run.get("seed", 0)}}
            overrides = [f"dataset.fold={run['fold']}", f"seed={run.get('seed', 0)}", *run["overrides"]]
            write_run(f"all/{number}", changes | {"overrides": overrides})
        return repeat_groups(read_all([tmp_path / "all"]).runs)

    return make


@pytest.mark.parametrize(
    "path", ["t/dataset.fold={0}/model", "t/fold={0},loss=hard/model", "teacher_fold{0}", "t/fold-{0}", '"t/fold={0}"']
)
def test_the_own_fold_inside_a_path_is_no_other_setting(groups: Groups, path: str) -> None:
    (group,) = groups(*({"fold": k, "overrides": ["loss=a", f"teacher.path={path.format(k)}"]} for k in (0, 1, 10)))
    assert group.folds == ["0", "1", "10"]
    assert group.label == "quick"
    assert varying(group.runs) == ["dataset.fold"]
    assert "{fold}" in settings(group.runs[0])["teacher.path"]


def test_fold_and_seed_together(groups: Groups) -> None:
    runs = [
        {"fold": k, "seed": s, "overrides": [f"teacher.path=t/fold={k},seed={s}/model"]} for k in (0, 1) for s in (0, 1)
    ]
    (group,) = groups(*runs)
    assert (group.folds, group.seeds, len(group.runs)) == (["0", "1"], ["0", "1"], 4)


def teacher(*options: str) -> str:
    return f"teacher.path=multirun/teacher/{run_folder('teacher', options)}/model"


@pytest.mark.parametrize(
    ("options", "folds"),
    [(["dataset.path=data/rows.jsonl"], (0, 1, 10)), (["loss=hard", f"student.path={'x' * 140}"], (0, 1))],
)
def test_the_hash_of_a_folder_goes_with_its_fold(groups: Groups, options: list[str], folds: tuple[int, ...]) -> None:
    """kdlab gives one to each folder whose options hold a path, and to those that are long."""
    paths = [teacher(*options, f"dataset.fold={k}") for k in folds]
    assert len({path.rpartition("-")[2] for path in paths}) == len(folds)
    (group,) = groups(*({"fold": k, "overrides": [path]} for k, path in zip(folds, paths, strict=True)))
    assert group.folds == [str(k) for k in folds]
    assert varying(group.runs) == ["dataset.fold"]


def test_the_hash_of_a_folder_goes_with_its_fold_and_seed(groups: Groups) -> None:
    runs = [
        {"fold": k, "seed": s, "overrides": [teacher("dataset.path=a/b", f"dataset.fold={k}", f"seed={s}")]}
        for k in (0, 1)
        for s in (0, 1)
    ]
    (group,) = groups(*runs)
    assert (group.folds, group.seeds) == (["0", "1"], ["0", "1"])


def test_folders_that_differ_in_their_hash_alone_stay_apart(groups: Groups) -> None:
    runs = [
        {"fold": k, "overrides": [teacher(f"dataset.path={data}", f"dataset.fold={k}")]}
        for k in (0, 1)
        for data in ("a/b", "'a b'")
    ]
    assert groups(*runs) == []


def test_the_hash_of_another_folds_teacher_stays(groups: Groups) -> None:
    runs = [
        {"fold": k, "overrides": [teacher("dataset.path=a/b", f"dataset.fold={other}")]}
        for k, other in ((0, 5), (1, 3))
    ]
    assert groups(*runs) == []


def test_arms_stay_apart(groups: Groups) -> None:
    found = groups(
        *({"fold": k, "overrides": [f"loss={loss}", f"teacher.path={t}/fold={k}"]} for k in (0, 1) for loss, t in ARMS)
    )
    assert [group.label for group in found] == [
        f"loss={loss} teacher.path={t}/fold={{fold}}" for loss, t in (("a", "big"), ("a", "small"), ("b", "big"))
    ]
    assert [group.folds for group in found] == [["0", "1"]] * 3


ARMS = (("a", "big"), ("a", "small"), ("b", "big"))


def test_one_teacher_for_students_of_several_seeds_stays_one(groups: Groups) -> None:
    (group,) = groups(*({"fold": 0, "seed": s, "overrides": ["teacher.path=t/seed=0/model"]} for s in (0, 1, 2)))
    assert group.seeds == ["0", "1", "2"]
    assert settings(group.runs[0])["teacher.path"] == "t/seed=0/model"


@pytest.mark.parametrize(
    "overrides",
    [
        ["teacher.path=t/fold={other}/model"],  # another fold's teacher
        ["student.from_teacher.layers={fold}"],  # a number that happens to be the fold
        ["teacher.path=t/{fold}/model"],  # as may this one
        ["dataset.path=rows_split_seed={fold}.csv"],
        ["teacher.path=t/manifold={fold}"],
        ["teacher.path=t/fold={fold}.5"],
    ],
)
def test_what_differs_is_not_joined(groups: Groups, overrides: list[str]) -> None:
    others = {0: 5, 1: 3, 2: 9}
    told = [
        {"fold": k, "overrides": [line.format(fold=k, other=other) for line in overrides]}
        for k, other in others.items()
    ]
    assert groups(*told) == []


def test_teachers_that_are_swapped_are_no_repeats(groups: Groups) -> None:
    """Two arms over two folds: each student by its own fold's teacher, and by the other's."""
    runs = [{"fold": k, "overrides": [f"teacher.path=t/fold={t}"]} for k in (0, 1) for t in (k, 1 - k)]
    found = groups(*runs)
    assert [sorted(settings(run)["teacher.path"] for run in group.runs) for group in found] == [
        ["t/fold=0"] * 2,
        ["t/fold=1"] * 2,
    ], "as they were typed: students of one teacher"


def test_exports_of_folds_are_joined(write_record, tmp_path: Path) -> None:
    for fold in (0, 1):
        overrides = [f"model.path=s/fold={fold}/model", f"dataset.fold={fold}"]
        entry = {"name": "onnx", "status": "good", "agreement": 0.99}
        config = {"dataset": {"fold": fold}, "name": "export"}
        write_record("export", f"e/{fold}", name="export", overrides=overrides, config=config, variants=[entry])
    _, rows = joined_cells(read_all([tmp_path / "e"]).exports)
    assert [row[:2] for row in rows] == [["onnx", "2 of 2"]]
