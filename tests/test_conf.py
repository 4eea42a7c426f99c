"""Every option file and preset of conf/: it composes, loads, stays short, and hides no code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from kdlab.config.compose import Composer
from kdlab.config.families import check_model, kind_of
from kdlab.config.loading import load_with
from kdlab.config.options import conf_dir, group_files
from kdlab.losses import ALL_LOSSES
from kdlab.losses.cross.base import CrossLoss
from kdlab.models.student import StudentConfig
from kdlab.teachers.codecs import CODECS
from kdlab.teachers.options import TeacherConfig
from kdlab.training.optimizers import OPTIMIZERS

CONF = conf_dir()
FILES = sorted(CONF.rglob("*.yaml"))
GROUPS = {group: options for group, options in group_files(CONF).items() if group != "hydra"}
NO_WRITER = re.compile(r"bert")
TWO_STACKS = re.compile(r"t5|bart")
OWN = {"none", "tiny", "pretrained", "cut", "cut_ends", "cut_to_one", "scratch", "scratch_t5", "scratch_bart"}
OWN |= {"cached", "openai"}
"""Options of teacher and student that are no model of the hub."""
MODELS = sorted({*GROUPS["teacher"], *GROUPS["student"]} - OWN)
ONE_EACH = ("loss", "inner", "dataset", "optimizer", "scheduler", "trainer", "quantization", "benchmark", "cluster")
"""Groups whose options go with any of each other's: tried together, to save time."""
LABELLED = {"helpsteer2", "banking77"}
"""Datasets with labels."""
PIPELINES = group_files(CONF, verb="pipeline")["experiment"]
"""Presets of `kdlab pipeline`; the others are those of `kdlab train`."""
OTHER_VERBS = {"cache": ("codec",), "generate": ("model", "writing"), "evaluate": ("model", "writing")}
"""Verbs besides `train`, and the groups of each that it has not."""


@pytest.fixture(scope="module")
def composer() -> Composer:
    return Composer("train")


def test_all_groups_are_there() -> None:
    others = {group for groups in OTHER_VERBS.values() for group in groups}
    assert set(GROUPS) == {*ONE_EACH, *others, "teacher", "student", "prompt", "experiment"}


@pytest.mark.slow
@pytest.mark.parametrize("row", range(max(len(GROUPS[group]) for group in ONE_EACH)))
def test_options_load(composer: Composer, row: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kdlab.config.benchmarks.find_bench", lambda path: path)  # its files are not ours
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)  # optional packages count as installed
    chosen = {group: GROUPS[group][row % len(GROUPS[group])] for group in ONE_EACH}
    if issubclass(ALL_LOSSES[chosen["loss"]], CrossLoss):
        chosen["inner"] = "none"  # inner terms compare position by position
    if chosen["dataset"] in LABELLED:
        chosen["dataset"] = "python_docs"  # they go with few losses and benchmarks
    if chosen["quantization"] == "gguf":
        chosen["trainer"] = "default"  # it stays packed on a GPU only
    numbers = ["dataset.labels.column=stars", "dataset.labels.regression=true"]
    if chosen["loss"] == "squared_error":  # of two numbers, and so of labels
        chosen |= {"inner": "none", "benchmark": "numbers", "dataset": "python_docs"}
    overrides = [f"{group}={option}" for group, option in chosen.items()]
    overrides += numbers if chosen["loss"] == "squared_error" else []
    if chosen["dataset"] == "local":
        overrides.append("dataset.path=python_docs")
    if chosen["benchmark"] == "mt_bench":
        overrides.append("benchmark.mt_bench.path=llm_judge/data")
    loaded = load_with(composer, [*overrides, "trainer.max_steps=1"])
    assert type(loaded.config.loss) is ALL_LOSSES[chosen["loss"]]
    assert type(loaded.config.optimizer) is OPTIMIZERS[chosen["optimizer"]]
    assert loaded.config.scheduler.kind == chosen["scheduler"]
    assert loaded.config.quantization.kind == chosen["quantization"]
    assert loaded.config.cluster.name == chosen["cluster"]


@pytest.mark.parametrize("dataset", sorted(LABELLED))
def test_datasets_with_labels_load(composer: Composer, dataset: str) -> None:
    for verb in (composer, Composer("prepare")):
        labels = load_with(verb, [f"dataset={dataset}"]).config.dataset.labels
        assert labels is not None
        assert labels.column


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        ["teacher=none", "loss=hard", "student=tiny"],
        ["teacher=tiny", "student=cut"],
        ["teacher=pretrained", "teacher.path=tiny:llama", "student=cut_to_one"],
        ["student=pretrained", "student.path=tiny:llama"],
        ["student=scratch"],
        ["teacher=flan_t5_small", "student=scratch_t5"],
        ["teacher=bart_base", "student=scratch_bart"],
        ["teacher.path=tiny:t5", "student=scratch_bart"],
        ["teacher=flan_t5_large", "student=cut"],
        ["teacher=bart_large_cnn", "student=cut_ends"],
        ["teacher=gpt2_medium", "student=gpt2"],
        *([f"prompt={prompt}", "dataset=gsm8k"] for prompt in GROUPS["prompt"]),
        *([f"experiment={preset}"] for preset in GROUPS["experiment"] if preset not in PIPELINES),
    ],
)
def test_teachers_students_and_presets_load(composer: Composer, overrides: list[str]) -> None:
    load_with(composer, overrides)


@pytest.mark.parametrize("option", MODELS)
def test_a_model_is_a_hub_id_with_its_revision(option: str) -> None:
    texts = [(CONF / group / f"{option}.yaml").read_text() for group in ("teacher", "student")]
    assert texts[0] == texts[1]
    for section in (TeacherConfig, StudentConfig):
        config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(section), OmegaConf.create(texts[0])))
        assert isinstance(config, section)
        assert config.path is not None
        assert re.fullmatch(r"[\w-]+/[\w.-]+", config.path)
        assert config.revision
    if NO_WRITER.search(option):
        with pytest.raises(ValueError, match="models that write text"):
            check_model("teacher.path", config.path)
    else:
        check_model("teacher.path", config.path)
        assert kind_of(config.path) == ("encoder-decoder" if TWO_STACKS.search(option) else "causal")


def test_teachers_that_are_elsewhere_load(composer: Composer) -> None:
    told = ["teacher=openai", "teacher.path=tiny:llama", "student=tiny"]
    config = load_with(composer, told).config
    assert (config.teacher.source, config.teacher.server.url) == ("openai", "http://localhost:8000/v1")
    with pytest.raises(ValueError, match=r"^teacher.path is not set: .*kdlab cache"):
        load_with(composer, ["teacher=cached", "student=tiny"])


@pytest.mark.slow
@pytest.mark.parametrize("verb", OTHER_VERBS)
def test_options_of_other_verbs_load(verb: str) -> None:
    """Every option of the groups that only they have, with their own defaults for the rest."""
    its_own, groups = Composer(verb), [*OTHER_VERBS[verb], "prompt"]
    given = [] if verb == "cache" else ["model.path=tiny:llama"]
    for row in range(max(len(GROUPS[group]) for group in groups)):
        chosen = {group: GROUPS[group][row % len(GROUPS[group])] for group in groups}
        config = load_with(its_own, [*(f"{group}={option}" for group, option in chosen.items()), *given]).config
        assert (config.name, config.prompt.name) == (verb, chosen["prompt"])
        if verb == "cache":
            assert type(config.codec) is CODECS[chosen["codec"]]


def test_evaluation_asks_what_no_model_was_trained_on() -> None:
    assert load_with(Composer("evaluate"), ["model.path=tiny:llama"]).config.dataset.split == "test"


def test_options_and_tables_agree() -> None:
    assert GROUPS["loss"] == sorted(ALL_LOSSES)
    assert GROUPS["optimizer"] == sorted(OPTIMIZERS)
    assert GROUPS["codec"] == sorted(CODECS)


@pytest.mark.slow
@pytest.mark.parametrize("preset", GROUPS["experiment"])
def test_a_preset_is_named_by_its_file(composer: Composer, preset: str) -> None:
    loaded = load_with(Composer("pipeline") if preset in PIPELINES else composer, [f"experiment={preset}"])
    assert loaded.config.name == preset, "its runs would share a folder with another preset's"
    assert loaded.output_dir == Path("multirun", preset, "default")


@pytest.mark.slow
@pytest.mark.parametrize("preset", PIPELINES)
def test_a_pipeline_loads_with_every_stage_and_is_none_of_train(composer: Composer, preset: str) -> None:
    pipeline = Composer("pipeline")
    given = [f"experiment={preset}"]
    config = load_with(pipeline, given).config
    off = [name for name, stage in config.stages.items() if not stage.enabled]
    unset = [f"values.{name}=me/it" for name, value in config.values.items() if value is None]
    assert load_with(pipeline, [*given, *unset, *(f"stages.{name}.enabled=true" for name in off)]).config.stages
    with pytest.raises(ValueError, match=rf"^experiment={preset}: {preset} is a pipeline: write kdlab pipeline "):
        load_with(composer, given)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(CONF)))
def test_file_is_short_and_plain(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    group = file.parent.name
    lines = len(text.splitlines())
    assert lines <= {"experiment": 25, CONF.name: 30}.get(group, 15)
    assert not re.search(r"\b_target_\b", text)
    assert text.endswith("\n")
    assert text.startswith("#"), "the first line says what it is"
    assert ("# @package _global_" in text) == (group in ("experiment", "cluster"))
    yaml.safe_load(text)


def test_every_named_family_has_a_preset() -> None:
    llama = ["llama2", "llama3", "llama31", "llama32", "smollm2"]
    others = ["opt", "gpt2", "gptj", "gpt_neo", "qwen25", "qwen3", "t5", "flan_t5", "bart", "bert", "roberta"]
    for family in [*llama, *others]:
        assert any(re.match(rf"{family}(_|$)", option) for option in MODELS), family
