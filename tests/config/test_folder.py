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
        (["trainer.threads=2", "student.tied=False"], ["student.tied=false", "trainer.threads=2"]),
        (["trainer.progress=false", "trainer.loggers=[csv]", "dataset.cache_dir=x"], []),
    ],
)
def test_the_same_options_are_the_same_folder(one: list[str], other: list[str]) -> None:
    assert run_folder("x", one) == run_folder("x", other)


def test_extra_options_name_a_pipeline_where_they_change_a_model() -> None:
    extra = 'extra=["trainer.threads=1","trainer.max_epochs=3","agreement=0.9","variants=[onnx]","seed=2"]'
    assert run_folder("x", [extra, "fold=0"]) == "+seed=2,+trainer.max_epochs=3,fold=0"
    assert run_folder("x", ['extra=["trainer.max_epochs=3","seed=1","seed=2"]', "fold=0"]) == run_folder(
        "x", [extra, "fold=0"]
    )
    assert run_folder("x", ['extra=["seed=2"]']) != run_folder("x", ["seed=2"])
    assert run_folder("x", ['extra=["trainer.progress=false","kl=1"]']) == "default"


def test_a_long_name_keeps_the_ends_of_paths() -> None:
    options = [
        "values.data=../a/b/c/d/e/shared/data/banking77",
        "values.model=multirun/base/model",
        "values.column=category",
    ]
    found = run_folder("x", ["fold=0", "seed=1", *options])
    assert found.rpartition("-")[0] == (
        "fold=0,seed=1,values.column=category,values.data=.-a-b-c-d-e-shared-data-banking77,values.model=multirun-base-model"
    )
    found = run_folder("x", ["fold=0", "seed=1", "values.rows=300", *options])
    assert found.rpartition("-")[0] == (
        "fold=0,seed=1,values.column=category,values.data=data-banking77,values.model=base-model,values.rows=300"
    )


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
