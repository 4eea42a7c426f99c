"""A pipeline that is run, continued, changed and broken, its stages pretended."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from kdlab.durable import FolderLock
from kdlab.pipelines.job import StageFailed, VariantsRefused, run_pipeline
from kdlab.pipelines.recipe import PipelineConfig, StageConfig
from kdlab.pipelines.record import RECORDS
from kdlab.pipelines.showing import show_plan

Run = Callable[..., dict[str, Any]]


class Stages:
    """In place of processes: each call is kept, and writes the record that its verb would."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.fails: dict[str, int] = {}
        self.interrupts: str | None = None
        self.variants: list[dict[str, Any]] = []

    def __call__(self, words: Sequence[str]) -> int:
        self.calls.append([*words])
        folder = Path(words[-1].partition("=")[2].strip('"'))
        if folder.name == self.interrupts:
            raise KeyboardInterrupt
        folder.mkdir(parents=True, exist_ok=True)
        status = self.fails.get(folder.name, 0)
        state: dict[str, Any] = {"status": "failed", "error": "the loss is nan"} if status else {"status": "finished"}
        state |= {"variants": self.variants} if words[0] == "export" and self.variants else {}
        (folder / RECORDS[words[0]]).write_text(json.dumps(state))
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


def variant(name: str, agreement: float | None, status: str = "good", reason: str = "") -> dict[str, Any]:
    entry = {"name": name, "folder": f"elsewhere/{name}", "status": status, "reason": reason}
    return entry | {"agreement": agreement, "kl": None if agreement is None else 0.01}


INT8 = variant("onnx_int8", 0.9312, "refused", "agreement 93.12% is below agreement=0.97")


def exporting() -> PipelineConfig:
    """A variant is refused; of what comes later two stages need it, one through the other."""
    found = pipeline(extra=["seed=3"])
    found.stages |= {
        "int8": StageConfig(verb="evaluate", options=["model.path={small}/onnx_int8"]),
        "of_int8": StageConfig(verb="evaluate", options=["model.path={int8}/x"]),
        "plain": StageConfig(verb="evaluate", options=["model.path={small}/onnx"]),
        "card": StageConfig(verb="publish", options=["run={student}", "export={small}"]),
    }
    return found


def test_what_does_not_need_a_refused_variant_is_run(
    run: Run, stages: Stages, capsys: pytest.CaptureFixture[str]
) -> None:
    stages.fails, stages.variants = {"small": 1}, [variant("torch", 1.0), variant("onnx", 1.0), INT8]
    with pytest.raises(VariantsRefused) as caught:
        run(exporting())
    assert caught.value.exit_status == 1
    assert stages.ran == ["teacher", "student", "small", "plain", "card"]
    assert "int8: not run: needs small/onnx_int8, which is not good\n" in (out := capsys.readouterr().out)
    assert "of_int8: not run: needs int8, which was not run\n" in out
    ended = dict.fromkeys(("teacher", "student", "plain", "card"), "finished")
    assert states() == ended | {"small": "failed", "int8": "waiting", "of_int8": "waiting"}
    assert written()["status"] == "failed"
    go_on = "finished stages are kept: kdlab pipeline experiment=two fold=3"
    there = "'hydra.run.dir=\"multirun/two/fold=3\"'"
    off = "stages.int8.enabled=false stages.of_int8.enabled=false"
    assert str(caught.value).splitlines() == [
        "finished: teacher, student, plain, card",
        "stage small: onnx_int8 refused: agreement 93.12% is below agreement=0.97; good: onnx, in "
        "multirun/two/fold=3/small",
        "the model itself is finished: multirun/two/fold=3/student/model",
        f'take them as they are; {go_on} \'extra=["seed=3","agreement=0.93"]\' {there}',
        f'leave them out with int8, of_int8; {go_on} \'extra=["seed=3","variants=[onnx]"]\' {off} {there}',
        "8-bit weights alone without int8, of_int8; "
        f'{go_on} \'extra=["seed=3","variants=[onnx,onnx_w8]"]\' {off} {there}',
    ]


def test_after_a_refusal_the_remedy_goes_on_in_the_same_folder(run: Run, stages: Stages) -> None:
    stages.fails, stages.variants = {"small": 1}, [variant("onnx", 1.0), INT8]
    with pytest.raises(VariantsRefused):
        run(exporting())
    assert len(stages.ran) == 5
    mended = exporting()
    mended.stages["small"].options.append("agreement=0.93")
    stages.fails, stages.variants = {}, []
    run(mended)
    assert stages.ran == ["small", "int8", "of_int8", "card"]
    assert set(states().values()) == {"finished"}
    mended.stages["small"].options.append("variants=[onnx]")
    run(mended)
    assert stages.ran == ["small", "card"], "an export that has finished goes on by itself, and what sends it"


def test_variants_that_could_not_be_made_have_no_threshold(run: Run, stages: Stages) -> None:
    stages.fails = {"small": 1}
    stages.variants = [variant("nf4", None, "failed", "needs bitsandbytes")]
    with pytest.raises(VariantsRefused) as caught:
        run(exporting())
    assert "stage small: nf4 failed: needs bitsandbytes; none is good" in str(caught.value)
    assert "kdlab pipeline" not in str(caught.value)


def test_an_export_that_fails_before_its_end_stops_all(run: Run, stages: Stages) -> None:
    stages.fails, stages.variants = {"small": 1}, [variant("onnx", 1.0)]
    with pytest.raises(StageFailed, match=r"^stage small failed, status 1"):
        run(exporting())
    assert stages.ran == ["teacher", "student", "small"]


def test_what_only_steers_keeps_a_finished_stage(run: Run, stages: Stages) -> None:
    run()
    assert len(stages.ran) == 3
    run(pipeline(extra=["trainer.threads=2", "trainer.progress=false", "dataset.cache_dir=x", "batch_size=2"]))
    assert stages.ran == []
    with pytest.raises(ValueError, match=r"^trainer\.batch_size=2 \(was not set\): stage teacher"):
        run(pipeline(extra=["trainer.batch_size=2"]))
