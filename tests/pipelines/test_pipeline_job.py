"""A pipeline that is run, continued, changed and broken, its stages pretended."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from kdlab.durable import FolderLock
from kdlab.pipelines.job import StageFailed, run_pipeline
from kdlab.pipelines.recipe import PipelineConfig, StageConfig
from kdlab.pipelines.showing import show_plan

Run = Callable[..., dict[str, Any]]


class Stages:
    """In place of processes: each call is kept, and writes the record that its verb would."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.fails: dict[str, int] = {}
        self.interrupts: str | None = None

    def __call__(self, words: Sequence[str]) -> int:
        self.calls.append([*words])
        folder = Path(words[-1].partition("=")[2].strip('"'))
        if folder.name == self.interrupts:
            raise KeyboardInterrupt
        folder.mkdir(parents=True, exist_ok=True)
        status = self.fails.get(folder.name, 0)
        state = {"status": "failed", "error": "the loss is nan"} if status else {"status": "finished"}
        (folder / {"train": "run.json", "export": "export.json"}[words[0]]).write_text(json.dumps(state))
        return status

    @property
    def ran(self) -> list[str]:
        found = [Path(call[-1].partition("=")[2].strip('"')).name for call in self.calls]
        self.calls = []
        return found


def pipeline(**changed: Any) -> PipelineConfig:
    stages = {
        "teacher": StageConfig(options=["loss=hard"]),
        "student": StageConfig(options=["teacher.path={teacher}/model", "loss.temperature=2"]),
        "small": StageConfig(verb="export", options=["model.path={student}/model"]),
    }
    return PipelineConfig(**({"name": "two", "options": ["seed={seed}"], "stages": stages} | changed))


@pytest.fixture
def stages() -> Stages:
    return Stages()


@pytest.fixture
def run(stages: Stages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)

    def go(config: PipelineConfig | None = None) -> dict[str, Any]:
        return run_pipeline(
            config or pipeline(),
            output_dir=tmp_path / "multirun" / "two" / "fold=3",
            resolved={"name": "two"},
            overrides=["experiment=two", "fold=3"],
            knows=lambda verb, option: True,
            run=stages,
        )

    return go


def written() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path("multirun/two/fold=3/pipeline.json").read_text())
    return found


def states() -> dict[str, str]:
    return {stage["name"]: stage["status"] for stage in written()["stages"]}


def test_stages_run_in_order_and_their_records_are_linked(run: Run, stages: Stages) -> None:
    run()
    assert stages.calls[1] == [
        *["train", "name=student", "seed=0", 'teacher.path="multirun/two/fold=3/teacher/model"', "loss.temperature=2"],
        'hydra.run.dir="multirun/two/fold=3/student"',
    ]
    assert stages.ran == ["teacher", "student", "small"]
    record = written()
    assert (record["schema"], record["verb"], record["status"], record["name"]) == (1, "pipeline", "finished", "two")
    assert record["finished"] >= record["started"]
    assert [stage["record"] for stage in record["stages"]] == [
        *["teacher/run.json", "student/run.json", "small/export.json"]
    ]
    assert [stage["folder"] for stage in record["stages"]] == ["teacher", "student", "small"]
    assert all(stage["seconds"] >= 0 and stage["error"] is None for stage in record["stages"])


def test_no_environment_is_written_down(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_not_to_be_found")
    run()
    assert "hf_not_to_be_found" not in json.dumps(written())
    assert "environ" not in json.dumps(written())


def test_finished_stages_are_not_run_again(run: Run, stages: Stages, capsys: pytest.CaptureFixture[str]) -> None:
    run()
    assert stages.ran == ["teacher", "student", "small"]
    started = written()["started"]
    capsys.readouterr()
    run()
    assert stages.ran == []
    assert written()["started"] == started
    assert "stage 2 of 3, student: finished already" in capsys.readouterr().out


def test_a_failed_stage_stops_with_its_status_and_is_gone_on_with(run: Run, stages: Stages) -> None:
    stages.fails = {"student": 2}
    with pytest.raises(
        StageFailed, match=r"^stage student failed, status 2: .*kdlab pipeline experiment=two fold=3$"
    ) as c:
        run()
    assert c.value.exit_status == 2
    assert stages.ran == ["teacher", "student"]
    assert states() == {"teacher": "finished", "student": "failed", "small": "waiting"}
    assert written()["status"] == "failed"
    assert written()["stages"][1]["error"] == "the loss is nan"
    stages.fails = {}
    run()
    assert stages.ran == ["student", "small"]
    assert set(states().values()) == {"finished"}
    assert written()["stages"][1]["error"] is None


def test_the_command_to_go_on_with_has_the_folder_of_options(stages: Stages, tmp_path: Path) -> None:
    stages.fails = {"teacher": 1}
    with pytest.raises(StageFailed, match=r"kdlab pipeline --config-dir mine experiment=two$"):
        run_pipeline(
            pipeline(),
            output_dir=tmp_path,
            resolved={"name": "two"},
            overrides=["experiment=two"],
            knows=lambda verb, option: True,
            config_dir="mine",
            run=stages,
        )


def test_an_interrupted_stage_is_gone_on_with(run: Run, stages: Stages) -> None:
    stages.interrupts = "student"
    with pytest.raises(KeyboardInterrupt):
        run()
    assert states() == {"teacher": "finished", "student": "interrupted", "small": "waiting"}
    stages.interrupts = None
    stages.calls = []
    run()
    assert stages.ran == ["student", "small"]


def test_a_killed_stage_says_so(run: Run, stages: Stages) -> None:
    stages.fails = {"teacher": 137}
    with pytest.raises(StageFailed, match="out of memory"):
        run()


def test_a_changed_option_of_a_finished_stage_is_refused(run: Run, stages: Stages) -> None:
    run()
    assert len(stages.ran) == 3
    changed = pipeline()
    changed.stages["student"].options[1] = "loss.temperature=4"
    with pytest.raises(
        ValueError, match=r"^loss\.temperature=4 \(was 2\): stage student in multirun/two/fold=3/student"
    ):
        run(changed)
    with pytest.raises(ValueError, match=r"^seed=1 \(was 0\): stage teacher"):
        run(pipeline(seed=1))
    assert stages.ran == []


def test_what_was_made_of_a_stage_that_is_gone_is_not_kept(run: Run, stages: Stages) -> None:
    run()
    assert len(stages.ran) == 3
    Path("multirun/two/fold=3/teacher/run.json").unlink()
    with pytest.raises(ValueError, match=r"student: was made of stage teacher, .*delete that folder too$"):
        run()
    Path("multirun/two/fold=3/student/run.json").unlink()
    Path("multirun/two/fold=3/small/export.json").unlink()
    run()
    assert stages.ran == ["teacher", "student", "small"]


def test_a_stage_can_be_added_later(run: Run, stages: Stages) -> None:
    without = pipeline()
    without.stages["small"].enabled = False
    run(without)
    assert stages.ran == ["teacher", "student"]
    assert states()["small"] == "off"
    run()
    assert stages.ran == ["small"]


def test_one_process_a_folder(run: Run, stages: Stages) -> None:
    with FolderLock(Path("multirun/two/fold=3")), pytest.raises(ValueError, match="another process"):
        run()
    assert stages.ran == []


def test_the_plan_says_what_is_finished_and_writes_nothing(
    run: Run, stages: Stages, capsys: pytest.CaptureFixture[str]
) -> None:
    stages.fails = {"student": 1}
    with pytest.raises(StageFailed):
        run()
    before = written()
    capsys.readouterr()
    off = pipeline()
    off.stages["small"].enabled = False
    show_plan(off, Path("multirun/two/fold=3"), knows=lambda verb, option: True)
    out = capsys.readouterr().out
    assert "1 teacher: finished already" in out
    assert "2 student: to run" in out
    assert "3 small: left out; stages.small.enabled=true" in out
    assert "kdlab train name=student seed=0 'teacher.path=\"multirun/two/fold=3/teacher/model\"'" in out
    assert "kdlab export model.path={student}/model" in out
    assert written() == before
