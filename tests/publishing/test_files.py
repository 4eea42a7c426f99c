"""What goes, what stays, and what is refused."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kdlab.publishing.private import Cleaner, secrets_in

Make = Callable[..., Any]


def test_every_file_is_listed_with_its_bytes_and_its_hash(
    finished: Make, exported: Make, start: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = finished()
    (run / "adapter").mkdir()
    (run / "adapter" / "adapter_model.safetensors").write_bytes(b"lora")
    (run / "adapter" / "README.md").write_text("peft's own")
    (run / "model" / "old.bin").write_bytes(b"pickle")
    (run / "model" / "link.json").symlink_to(run / "run.json")
    (run / "model" / ".hidden.json").write_text("{}")
    (run / "model" / "notes.md").write_text("mine")
    record = start(tmp_path / "job", run=str(run), export=str(exported(run)))
    listed = {file["path"]: file for file in record["files"]}
    weights = (run / "model" / "model.safetensors").read_bytes()
    assert listed["model.safetensors"]["sha256"] == hashlib.sha256(weights).hexdigest()
    assert listed["model.safetensors"]["bytes"] == len(weights) == 100_000
    assert listed["adapter/adapter_model.safetensors"]["bytes"] == 4
    assert record["bytes"] == sum(file["bytes"] for file in listed.values())
    assert record["left_out"] == {
        ".hidden.json": "hidden",
        "link.json": "a link",
        "notes.md": "not a kind of file that belongs to a model",
        "old.bin": "pickled: it can run code when loaded",
        "adapter/README.md": "not of kdlab; the repository has one card",
        "variants/nf4/": "refused: agreement 0.9 < 0.97",
        "before.json": "of the run, not of the model",
        "checkpoints/": "for going on with training",
        "samples in run.json": "texts of the data",
    }
    told = capsys.readouterr().out
    assert f"me/student: {len(listed)} files, {record['bytes']:,} bytes" in told
    assert f"sha256 {listed['model.safetensors']['sha256'][:12]}" in told
    assert "nothing is sent (dry_run=true)" in told
    without = start(tmp_path / "other", run=str(run), adapter=False)
    assert without["left_out"]["adapter/"] == "adapter=false"
    assert not any(file["path"].startswith("adapter/") for file in without["files"])


def test_the_record_that_goes_has_no_home_and_no_texts(
    finished: Make, start: Make, hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home" / "ann"
    monkeypatch.setenv("HOME", str(home))
    options = {"dataset.path": f"{home}/data/rows.jsonl", "teacher.path": f"{tmp_path}/home/annabel/teacher"}
    run = finished(options=options, overrides=[f"dataset.path={home}/data/rows.jsonl"])
    start(tmp_path / "job", run=str(run), dry_run=False)
    sent = json.loads(hub.repos["me/student"]["run.json"])
    assert sent["config"]["dataset"]["path"] == "~/data/rows.jsonl"
    assert sent["overrides"] == ["dataset.path=~/data/rows.jsonl"]
    assert sent["config"]["teacher"]["path"].endswith("/home/annabel/teacher"), "only whole names are shortened"
    assert "samples" not in sent
    for content in hub.repos["me/student"].values():
        assert str(home).encode() + b"/" not in content


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("/home/ann/x", "~/x"),
        ("/home/ann", "~"),
        ("folder /home/ann/work/multirun/a", "folder ./multirun/a"),
        ("/home/anna/x", "/home/anna/x"),
        ("/mnt/home/ann/x", "/mnt/home/ann/x"),
        ("a /home/ann, b", "a ~, b"),
    ],
)
def test_folders_are_shortened_whole(text: str, cleaned: str) -> None:
    assert Cleaner(home=Path("/home/ann"), here=Path("/home/ann/work")).text(text) == cleaned


def test_git_names_a_file_as_we_do(finished: Make, tmp_path: Path) -> None:
    from kdlab.publishing.files import plan_files
    from kdlab.publishing.records import Records, read_run

    run = read_run("run", str(finished()))
    plan = plan_files(Records(run=run, seeds=[run]), "a card", adapter=True, environment={})
    (weights,) = [item for item in plan.items if item.path == "model.safetensors"]
    named = subprocess.run(["git", "hash-object", str(weights.source)], capture_output=True, text=True, check=True)
    assert weights.oid == named.stdout.strip()


SECRETS = [
    ("tokenizer.json", "hf_" + "aB3dE" * 7, {}),
    ("special_tokens_map.json", "sk-proj-" + "aB3dE_-x" * 4, {}),
    ("config.json", "https://ann:pass@example.org/v1", {}),
    ("tokenizer.json", "opensesame", {"DOOR_SECRET": "opensesame"}),
    ("tokenizer.json", json.dumps('quo"ted-é')[1:-1], {"X_API_KEY": 'quo"ted-é'}),
    ("model.safetensors", "opensesame", {"DOOR_TOKEN": "opensesame"}),
]


@pytest.mark.parametrize(("file", "secret", "environment"), SECRETS)
def test_a_secret_in_a_file_is_refused_and_not_repeated(
    finished: Make,
    start: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    file: str,
    secret: str,
    environment: dict[str, str],
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    run = finished()
    (run / "model" / file).write_text(f'{{"x": "{secret}"}}')
    with pytest.raises(ValueError, match=f"model/{file}: has what looks like ") as told:
        start(tmp_path / "job", run=str(run))
    assert secret not in str(told.value) + "".join(capsys.readouterr())
    assert not (tmp_path / "job" / "publish.json").exists()


def test_what_is_no_secret_is_not_taken_for_one() -> None:
    environment = {"A_TOKEN": "true", "SOME_KEY": "", "PATH": "harmless-value"}
    assert secrets_in(b"true harmless-value hf_short sk-ip https://example.org:8000/v1 a@b", environment) == []


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda run: {"run": f"{run}/nothing"}, "no such folder; give one that `kdlab train` wrote"),
        (lambda run: {"run": f"{run}/model"}, r"has no run.json; the run is run=.*multirun/run"),
        (lambda run: {"export": str(run)}, "has no export.json"),
        (lambda run: {"extra_runs": [str(run)]}, "has the run of run=.* too"),
    ],
)
def test_what_is_not_there_is_one_line(
    finished: Make, start: Make, tmp_path: Path, make: Callable[[Path], dict[str, Any]], said: str
) -> None:
    run = finished()
    with pytest.raises((ValueError, FileNotFoundError), match=said):
        start(tmp_path / "job", **({"run": str(run)} | make(run)))


def test_a_run_that_is_not_finished_or_an_export_of_another_is_refused(
    finished: Make, exported: Make, start: Make, tmp_path: Path
) -> None:
    running, done, bare = finished("a", status="running"), finished("b"), finished("c", model=False)
    with pytest.raises(ValueError, match="the run is running, not finished; finish it first"):
        start(tmp_path / "job", run=str(running))
    with pytest.raises(ValueError, match="not of the model of run="):
        start(tmp_path / "job", run=str(done), export=str(exported(running)))
    with pytest.raises(FileNotFoundError, match="has no model/; finish the run first"):
        start(tmp_path / "job", run=str(bare))
    record = json.loads((tmp_path / "multirun" / "export" / "export.json").read_text())
    (tmp_path / "multirun" / "export" / "export.json").write_text(json.dumps(record | {"status": "running"}))
    with pytest.raises(ValueError, match="the export is running; finish it first"):
        start(tmp_path / "job", run=str(running.parent / "b"), export=str(tmp_path / "multirun" / "export"))


def test_an_export_whose_variants_all_failed_adds_none(
    finished: Make, exported: Make, start: Make, tmp_path: Path
) -> None:
    run = finished()
    export = exported(run)
    record = json.loads((export / "export.json").read_text())
    failed = record["variants"][1] | {"status": "failed", "reason": "no such operator"}
    (export / "export.json").write_text(json.dumps(record | {"variants": [failed]}))
    told = start(tmp_path / "job", run=str(run), export=str(export))
    assert told["left_out"]["variants/onnx_int8/"] == "failed: no such operator"
    assert "None of them was good enough" in (tmp_path / "job" / "README.md").read_text()
