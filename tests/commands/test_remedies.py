"""What a pipeline with a refused variant offers, typed again: it goes on in the same folder, and ends well. The stages
are pretended; their options, and the names of folders, are not."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from kdlab.config.compose import Composer
from kdlab.config.loading import load_with
from kdlab.config.options import knows
from kdlab.config.overrides import parse
from kdlab.pipelines.job import VariantsRefused, run_pipeline
from kdlab.pipelines.record import RECORDS

PRESET = """# @package _global_
name: mine
{more}
stages:
  student: {{options: [experiment=smoke]}}
  small: {{verb: export, options: ["model.path={{student}}/model", "variants=[onnx,onnx_int8]", "examples=9"]}}
  {later}
"""
LATER = """int8: {verb: evaluate, options: ["model.path={small}/onnx_int8", dataset=python_docs]}
  other: {verb: export, enabled: false, options: ["model.path={student}/model", "variants=[onnx]"]}
  plain: {verb: evaluate, options: ["model.path={small}/onnx", dataset=python_docs]}
  card: {verb: publish, enabled: false, options: ["run={student}", "extra_runs=[{int8}]", repo=a/b]}"""
OTHER = "stages.other.enabled=true"


class Stages:
    """In place of processes: an export makes what it is asked for; of `onnx_int8` the agreement is `agreement`."""

    def __init__(self, agreement: float | None = 0.5) -> None:
        self.agreement = agreement
        self.ran: list[str] = []
        self.options: dict[str, dict[str, str]] = {}

    def __call__(self, words: Sequence[str]) -> int:
        assert words[1] == "--config-dir"
        asked = [parse(word) for word in words[3:]]
        options = {str(one.key_or_group): one.value() for one in asked}
        folder = Path(str(options["hydra.run.dir"]))
        folder.mkdir(parents=True, exist_ok=True)
        self.ran.append(folder.name)
        self.options[folder.name] = {key: str(value) for key, value in options.items()}
        record = {"status": "finished", "error": None}
        if words[0] == "export":
            least = float(str(options.get("agreement", 0.97)))
            entries = [self.variant(folder, str(name), least) for name in options["variants"]]  # type: ignore[union-attr]
            bad = any(entry["status"] != "good" for entry in entries)
            record |= {"variants": entries} | ({"status": "failed", "error": "not good"} if bad else {})
        (folder / RECORDS[words[0]]).write_text(json.dumps(record))
        return int(record["status"] == "failed")

    def variant(self, folder: Path, name: str, least: float) -> dict[str, object]:
        found = self.agreement if name == "onnx_int8" else 1.0
        status = "failed" if found is None else "good" if found >= least else "refused"
        reason = {"good": "", "failed": "no such kernel"}.get(status, f"agreement {found} is below agreement={least}")
        entry = {"name": name, "folder": str(folder / name), "status": status, "reason": reason}
        return entry | {"agreement": found, "kl": None}


Typed = Callable[..., tuple[int, list[str]]]


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder of options: a pipeline, two with an `extra` of their own, and a cluster."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "experiment").mkdir()
    for name, more in (("mine", ""), ("lr", '"optimizer.lr=1e-3"'), ("fixed", '"variants=[onnx,onnx_int8]"')):
        (folder / "experiment" / f"{name}.yaml").write_text(PRESET.format(more=f"extra: [{more}]", later=LATER))
    (folder / "cluster").mkdir()
    grid = "# @package _global_\ncluster:\n  name: grid\nhydra:\n  mode: MULTIRUN\n"
    (folder / "cluster" / "grid.yaml").write_text(grid)
    return str(folder)


@pytest.fixture
def kdlab(own: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Typed:
    """`kdlab(stages, *words)`: `kdlab pipeline` with these: its exit status, and the lines it ends with."""
    monkeypatch.chdir(tmp_path)
    composer = Composer("pipeline", own)

    def run(stages: Stages, *words: str) -> tuple[int, list[str]]:
        loaded = load_with(composer, words)
        stages.ran = []
        try:
            run_pipeline(
                loaded.config,
                output_dir=loaded.output_dir,
                resolved=loaded.resolved,
                overrides=[one for one in loaded.overrides if not one.startswith("hydra.")],
                knows=knows,
                config_dir=own,
                run=stages,
            )
        except VariantsRefused as error:
            return error.exit_status, str(error).splitlines()
        return 0, []

    return run


def offered(lines: Sequence[str], what: str) -> list[str]:
    """The words after `kdlab pipeline --config-dir <folder>` that a line offers."""
    [found] = [line for line in lines if line.startswith(what)]
    assert "; finished stages are kept: kdlab pipeline --config-dir " in found
    return shlex.split(found.partition(": kdlab pipeline --config-dir ")[2])[1:]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "more"),
    [
        ("take them as they are", []),
        pytest.param("leave them out", ["hydra.run.dir='a place/fold=1,x'"], marks=pytest.mark.slow),
        ("8-bit weights alone", [OTHER]),
    ],
)
def test_each_remedy_goes_on_in_the_same_folder(kdlab: Typed, what: str, more: list[str]) -> None:
    stages = Stages()
    status, lines = kdlab(stages, "experiment=lr", *more)
    assert (status, stages.ran) == (1, ["student", "small", *(["other"] if OTHER in more else []), "plain"])
    assert kdlab(stages, *offered(lines, what)) == (0, [])
    assert stages.ran == ["small", *(["int8"] if what.startswith("take") else [])], "all else is finished"
    assert len(list(Path().rglob("pipeline.json"))) == 1
    assert stages.options["small"]["examples"] == "9"
    if OTHER in more:
        assert stages.options["small"]["variants"] == "['onnx', 'onnx_w8']"
        assert stages.options["other"]["variants"] == "['onnx']"


def test_what_needs_a_variant_that_failed_is_left_out_too(kdlab: Typed) -> None:
    stages = Stages(None)
    _, lines = kdlab(stages, "experiment=mine", "stages.card.enabled=true")
    assert kdlab(stages, *offered(lines, "leave them out with int8, card;")) == (0, [])
    assert stages.ran == ["small"]
    [record] = Path().rglob("pipeline.json")
    states = {stage["name"]: stage["status"] for stage in json.loads(record.read_text())["stages"]}
    off = dict.fromkeys(["int8", "other", "card"], "off")
    assert states == off | dict.fromkeys(["student", "small", "plain"], "finished")


def test_what_extra_would_win_over_is_not_offered(kdlab: Typed) -> None:
    stages = Stages()
    _, lines = kdlab(stages, "experiment=fixed", OTHER)
    said = [line.partition(";")[0] for line in lines if "kdlab " in line]
    assert said == ["take them as they are"] * 2, "a threshold can be given to a stage, its variants cannot"


def test_no_threshold_below_zero_is_offered(kdlab: Typed) -> None:
    _, lines = kdlab(Stages(-0.3), "experiment=mine")
    assert any("agreement -0.3 is below" in line for line in lines)
    assert not any(line.startswith("take") for line in lines)


@pytest.mark.slow
def test_on_a_cluster_a_job_is_one_of_a_sweep(kdlab: Typed) -> None:
    stages = Stages()
    _, lines = kdlab(stages, "experiment=lr", "cluster=grid", "hydra.sweep.dir=multirun", "hydra.sweep.subdir=mine")
    assert Path("multirun/mine/pipeline.json").is_file()
    assert kdlab(stages, *offered(lines, "take")) == (0, [])
    assert stages.ran == ["small", "int8"]
