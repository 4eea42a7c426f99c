"""The folder of a run: one file name, the same for the same options, different for different ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdlab.config.folder import run_folder


def test_examples() -> None:
    assert run_folder("smoke", ["experiment=smoke", "name=x"]) == "default"
    assert run_folder("smoke", ["seed=1", "loss=hard"]) == "loss=hard,seed=1"
    assert run_folder("train", ["experiment=mine"]) == "experiment=mine", "a preset without a name of its own"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["seed=1", "loss=hard"], ["loss=hard", "seed=1"]),
        (["++student.lora.r=4"], ["student.lora.r=4"]),
        (["name='a'", "dataset.path='x.json'"], ["dataset.path=x.json"]),
        (["seed=1", "manual='graded.csv'"], ["seed=1"]),
        (["seed=1", "seed=2"], ["seed=2"]),
        (["trainer.progress=False"], ["trainer.progress=false"]),
    ],
)
def test_the_same_options_are_the_same_folder(one: list[str], other: list[str]) -> None:
    assert run_folder("x", one) == run_folder("x", other)


def test_different_options_that_look_alike() -> None:
    paths = [
        "../shared/x.json",
        "shared/x.json",
        "..-shared-x.json",
        "/shared/x.json",
        "shared x.json",
        "é.json",
        "è.json",
    ]
    names = [run_folder("x", [f'dataset.path="{path}"']) for path in paths]
    assert len(set(names)) == len(paths)
    long = [[f"dataset.path={'a' * 300}{end}"] for end in "bc"]
    assert run_folder("x", long[0]) != run_folder("x", long[1])


text = st.text(st.characters(codec="utf-8", exclude_characters="\\'\"$", exclude_categories=["Cc", "Cs"]), max_size=300)


@given(st.dictionaries(st.sampled_from(["dataset.path", "student.path", "teacher.path", "loss"]), text, max_size=4))
def test_always_one_safe_file_name(values: dict[str, str]) -> None:
    name = run_folder("x", [f'{key}="{value}"' for key, value in values.items()])
    assert 0 < len(name.encode()) <= 140
    assert not set(name) & set("/\\\0 :*?\"'<>|$")
    assert ".." not in name
    assert name[0] not in ".-"
