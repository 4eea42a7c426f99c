"""The stages of a pipeline as options: all of them typed before the first starts, each mistake one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdlab.cli import main
from kdlab.config.compose import Composer
from kdlab.config.loading import Loaded, load_with, sweep_jobs
from kdlab.config.options import knows

PRESET = """# @package _global_
name: two
values: {steps: "4", data: null}
options: ["seed={seed}", "experiment=smoke", "trainer.max_steps={steps}"]
stages:
  teacher: {options: [student=tiny, teacher=none, loss=hard]}
  student: {options: ["teacher.path={teacher}/model", "loss.temperature=2"]}
  written: {enabled: false, verb: evaluate, options: ["model.path={student}/model", "dataset.path={data}"]}
"""


@pytest.fixture
def composer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Composer:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own" / "experiment").mkdir(parents=True)
    (tmp_path / "own" / "experiment" / "two.yaml").write_text(PRESET)
    return Composer("pipeline", "own")


def loaded(composer: Composer, *overrides: str) -> Loaded:
    return load_with(composer, ["experiment=two", *overrides])


def test_it_loads_and_outputs_that_are_to_come_are_awaited(composer: Composer) -> None:
    found = loaded(composer)
    assert list(found.config.stages) == ["teacher", "student", "written"]
    assert found.output_dir == Path("multirun/two/default")
    assert found.config.values == {"steps": "4", "data": None}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (['stages.student.options=["loss.temprature=2"]'], "stages.student (kdlab train): loss.temprature=2: unknown"),
        (['stages.student.options=["loss=hrd"]'], "stages.student (kdlab train): loss=hrd: loss has no option hrd"),
        (['stages.student.options=["seed=x"]'], "stages.student (kdlab train): seed=x: must be a whole number"),
        (['stages.student.options=["seed=1,2"]'], "stages.student (kdlab train): seed=1,2: several values"),
        (
            ['stages.student.options=["loss.temperature=-1"]'],
            "(kdlab train): loss.temperature=-1: must be",
        ),
        (
            ['stages.student.options=["dataset.path=no.jsonl"]'],
            "(kdlab train): dataset.path=no.jsonl: no",
        ),
        (['stages.student.options=["teacher=none"]'], "stages.student (kdlab train): loss=forward_kl needs a teacher"),
        (['stages.student.options=["teacher.path={techer}/model"]'], "did you mean {teacher}?"),
        (['options=["experiment=two","trainer.max_steps={steps}"]'], "experiment=two: two is a pipeline"),
        (["values.steps=many"], "stages.teacher (kdlab train): trainer.max_steps=many: must be a whole number"),
        (["stages.written.enabled=true"], "values.data is not set, and stage written needs it"),
        (["stages.wirtten.enabled=true"], "stages.wirtten.enabled=true: the pipeline has no stage wirtten"),
        (["stages.written.enbled=true"], "stages.written.enbled=true: unknown option enbled"),
        (["stages.written.enabled=maybe"], "stages.written.enabled=maybe: must be true or false"),
        (["stages.student.verb=trian"], "stages.student.verb=trian: must be one of"),
        (["fold=-1"], "fold=-1: must be null or at least 0"),
        (["folds=1"], "folds=1: unknown option folds"),
    ],
)
def test_a_mistake_is_told_before_anything_runs(composer: Composer, overrides: list[str], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the message is held below)
        loaded(composer, *overrides)
    first = str(caught.value).splitlines()[0]
    assert message in str(caught.value)
    assert "Key" not in first
    assert not Path("multirun").exists()


def test_presets_of_the_other_verb_are_named(composer: Composer) -> None:
    with pytest.raises(ValueError, match=r"^experiment=smoke: smoke is no pipeline: write kdlab train "):
        load_with(composer, ["experiment=smoke"])
    with pytest.raises(ValueError, match=r"^experiment=two: two is a pipeline: write kdlab pipeline experiment=two"):
        load_with(Composer("train", "own"), ["experiment=two"])
    with pytest.raises(ValueError, match=r"Did you mean two\?"):
        load_with(composer, ["experiment=twoo"])
    with pytest.raises(ValueError, match=r"^stages is empty: choose experiment="):
        load_with(composer, [])


@pytest.mark.slow
def test_a_sweep_has_a_folder_a_job_and_one_for_all_sets_of_stages(composer: Composer) -> None:
    jobs = sweep_jobs(composer, ["experiment=two", "fold=range(0,2)", "stages.written.enabled=true", "values.data=x"])
    assert jobs is not None
    assert len(jobs) == 2
    one, other = (loaded(composer, f"fold={k}", "stages.written.enabled=false", "dry_run=true") for k in range(2))
    assert (one.output_dir, other.output_dir) == (Path("multirun/two/fold=0"), Path("multirun/two/fold=1"))


def test_shared_options_go_where_they_are_known() -> None:
    assert knows("train", "loss.temperature")
    assert knows("train", "experiment")
    assert knows("prepare", "dataset.fold")
    assert not knows("prepare", "seed")
    assert not knows("publish", "dataset")


def test_the_plan_from_the_shell(composer: Composer, capsys: pytest.CaptureFixture[str]) -> None:
    assert composer.verb == "pipeline"
    assert main(["pipeline", "-c", "own", "experiment=two", "--dry-run", "fold=3"]) == 0
    out = capsys.readouterr().out
    assert "two: 3 stages in multirun/two/fold=3" in out
    command = "kdlab train --config-dir own name=teacher seed=0 experiment=smoke trainer.max_steps=4 student=tiny"
    assert command in out
    assert "'hydra.run.dir=\"multirun/two/fold=3/teacher\"'" in out
    assert main(["pipeline", "-m", "-c", "own", "experiment=two", "-n", "fold=1,2"]) == 0
    assert capsys.readouterr().out.count("3 stages in") == 2
    assert not Path("multirun").exists()
