"""The plan of a pipeline: names in braces, shared options, and what is refused of either."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlab.pipelines.planning import fill, plan, quoted
from kdlab.pipelines.recipe import PipelineConfig, StageConfig

HAS = {"train": {"seed", "teacher", "dataset", "name"}, "prepare": {"dataset", "name"}, "export": {"model", "name"}}


def knows(verb: str, option: str) -> bool:
    return option.split(".")[0] in HAS[verb]


def config(stages: dict[str, StageConfig], **fields: Any) -> PipelineConfig:
    return PipelineConfig(stages=stages, **fields)


def options(planned: Any) -> dict[str, list[str]]:
    return {stage.name: stage.options for stage in planned}


def test_folders_seed_fold_and_values_are_filled_in() -> None:
    stages = {
        "first": StageConfig(verb="prepare"),
        "second": StageConfig(options=["teacher.path={first}/model", "name=mine", "dataset.fold={fold}"]),
        "third": StageConfig(verb="export", options=["model.path={second}/{what}"]),
    }
    shared = ["seed={seed}", "dataset.path={data}", "dataset.fold=9"]
    told = config(stages, seed=3, fold=7, options=shared, values={"data": "a b", "what": "model"})
    planned = plan(told, Path("runs"), knows=knows)
    assert options(planned) == {
        "first": ["name=first", 'dataset.path="a b"', "dataset.fold=9"],
        "second": ["seed=3", 'dataset.path="a b"', "teacher.path=runs/first/model", "name=mine", "dataset.fold=7"],
        "third": ["name=third", "model.path=runs/second/model"],
    }
    assert [stage.uses for stage in planned] == [(), ("first",), ("second",)]
    assert planned[2].command("own") == [
        *["kdlab", "export", "--config-dir", "own", "name=third", "model.path=runs/second/model"],
        "hydra.run.dir=runs/third",
    ]


def test_extra_options_win_where_a_verb_has_them() -> None:
    stages = {"a": StageConfig(verb="prepare"), "b": StageConfig(options=["teacher=none", "seed=1"])}
    told = config(stages, options=["dataset=x", "seed=2"], extra=["seed={seed}", "dataset=y"], seed=5)
    assert options(plan(told, Path("runs"), knows=knows)) == {
        "a": ["name=a", "dataset=y"],
        "b": ["name=b", "teacher=none", "seed=5", "dataset=y"],
    }
    with pytest.raises(ValueError, match=r"^extra: sead=1: no stage has it"):
        plan(config(stages, extra=["sead=1"]), Path("runs"), knows=knows)
    with pytest.raises(ValueError, match=r"^extra: b\.csv: not an option; .*a value with commas in quotes"):
        plan(config(stages, extra=["dataset=a", "b.csv"]), Path("runs"), knows=knows)


def test_a_folder_that_hydra_cannot_read_is_quoted() -> None:
    stages = {"a": StageConfig(), "b": StageConfig(options=["teacher.path={a}/model", "dataset.many=[{a},x,{a}]"])}
    planned = plan(config(stages), Path("runs/fold=3,seed=1"), knows=knows)
    path, many = (OverridesParser.create().parse_override(line).value() for line in planned[1].options[1:])
    assert path == "runs/fold=3,seed=1/a/model"
    assert many == ["runs/fold=3,seed=1/a", "x", "runs/fold=3,seed=1/a"]
    where = OverridesParser.create().parse_override(planned[1].words()[-1])
    assert (where.key_or_group, where.value()) == ("hydra.run.dir", "runs/fold=3,seed=1/b")


def test_no_fold_is_null_and_braces_can_be_meant() -> None:
    stages = {"a": StageConfig(options=["dataset.fold={fold}", 'dataset.labels.template="{{prompt}} ${name} {seed}"'])}
    planned = plan(config(stages), Path("x"), knows=knows)
    assert planned[0].options[1:] == ["dataset.fold=null", 'dataset.labels.template="{prompt} ${name} 0"']


def test_a_stage_that_is_left_out_is_planned_as_it_is_written() -> None:
    stages = {"a": StageConfig(), "b": StageConfig(enabled=False, options=["teacher.path={a}", "seed={much}"])}
    planned = plan(config(stages, values={"much": None}), Path("x"), knows=knows)
    assert (planned[1].enabled, planned[1].options) == (False, ["teacher.path={a}", "seed={much}"])


@pytest.mark.parametrize(
    ("option", "parts"),
    [
        ("teacher.path={fisrt}/model", ["stages.second.options: teacher.path={fisrt}", "did you mean {first}?"]),
        ("teacher.path={second}/model", ["{second} is the stage itself"]),
        ("teacher.path={third}/model", ["stage third comes later: move it before second"]),
        ("teacher.path={off}/model", ["stage off is left out: write stages.off.enabled=true"]),
        ("teacher.path={data}", ["values.data is not set, and stage second needs it"]),
    ],
)
def test_wrong_names_in_braces_are_one_line(option: str, parts: list[str]) -> None:
    stages = {"first": StageConfig(), "second": StageConfig(options=[option]), "third": StageConfig()}
    stages["off"] = StageConfig(enabled=False)
    with pytest.raises(ValueError, match=re.escape(parts[0])) as caught:
        plan(config(stages, values={"data": None} if "data" in option else None), Path("x"), knows=knows)
    assert all(part in str(caught.value) for part in parts)
    assert len(str(caught.value).splitlines()) == 1


def test_what_nothing_uses_is_refused() -> None:
    stages = {"a": StageConfig(options=["teacher.path={data}"])}
    with pytest.raises(ValueError, match=r"^values.dta: no stage says \{dta\}; did you mean \{data\}\?"):
        plan(config(stages, values={"data": "x", "dta": "y"}), Path("x"), knows=knows)
    with pytest.raises(ValueError, match=r"^options: codec=topk: no stage has it"):
        plan(config({"a": StageConfig()}, options=["codec=topk"]), Path("x"), knows=knows)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"stages": {"a b": StageConfig()}}, r"^stages\.a b: its name stands in braces"),
        ({"stages": {"seed": StageConfig()}}, r"^stages\.seed: \{seed\} means something else"),
        ({"stages": {"a": StageConfig()}, "values": {"a": "x"}}, r"^values\.a: \{a\} means something else"),
        ({"stages": {"a": StageConfig(verb="trian")}}, r"^stages\.a\.verb=trian: .*did you mean train\?"),
        ({"stages": {"a": StageConfig(verb="pipeline")}}, r"^stages\.a\.verb=pipeline: must be one of"),
        ({"seed": -1}, "^seed=-1: "),
        ({"fold": -1}, "^fold=-1: "),
    ],
)
def test_the_config_refuses(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PipelineConfig(**fields)


@settings(max_examples=40, deadline=None)
@given(
    st.text(
        st.characters(codec="utf-8", exclude_characters="$", exclude_categories=["Cc", "Cs"])
        | st.sampled_from("\\\"'"),
        min_size=1,
        max_size=12,
    )
)
def test_any_text_comes_back_from_hydra_as_it_was(text: str) -> None:
    found = OverridesParser.create().parse_override(f"a={quoted(text)}").value()
    assert found == text or quoted(text) == text, "3 and null are no texts"
    assert fill("a={x}", {"x": text}) == f"a={quoted(text)}"
