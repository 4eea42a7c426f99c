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
    (run / "model" / "folds.json").write_text("{}")
    record = start(tmp_path / "job", run=str(run), export=str(exported(run)))
    listed = {file["path"]: file for file in record["files"]}
    weights = (run / "model" / "model.safetensors").read_bytes()
    assert listed["model.safetensors"]["sha256"] == hashlib.sha256(weights).hexdigest()
    assert listed["model.safetensors"]["bytes"] == len(weights) == 100_000
    assert listed["adapter/adapter_model.safetensors"]["bytes"] == 4
    assert record["bytes"] == sum(file["bytes"] for file in listed.values())
    assert record["left_out"] == {
        ".hidden.json": "hidden",
        "folds.json": "which rows the model learnt from: of the run, not of the model",
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
    assert sent["config"]["teacher"]["path"] == "…/teacher", "another's home: their name goes too"
    assert "samples" not in sent
    for content in hub.repos["me/student"].values():
        assert str(home).encode() + b"/" not in content


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("/home/ann/x", "~/x"),
        ("/home/ann", "~"),
        ("folder /home/ann/work/multirun/a", "folder ./multirun/a"),
        ("/home/anna/x", "…/x"),
        ("/mnt/home/ann/x", "…/x"),
        ("a /home/ann, b", "a ~, b"),
        ("./multirun/dataset.path=-home-ann-rows/model", "./multirun/dataset.path=~-rows/model"),
        ("/data/of/some/rows.jsonl", "…/some/rows.jsonl"),
        ("dataset.path=/data/some/rows.jsonl", "dataset.path=…/some/rows.jsonl"),
        ("dataset.path='/our data/some/rows.jsonl'", "dataset.path='…/some/rows.jsonl'"),
        ("/our data/some rows/rows.jsonl", "…/some rows/rows.jsonl"),
        ("folder /tmp/multirun/lr=1,seed=0/of it/model", "folder …/of it/model"),
        ("/tmp/multirun/lr=1,seed=0/teacher/model", "…/teacher/model"),
        ("[/a/b/one.json,/a/b/two.json]", "[…/b/one.json,…/b/two.json]"),
        ("teacher.path=/tmp/a/model: saw 3/4 rows", "teacher.path=…/a/model: saw 3/4 rows"),
        ("file:///srv/data/some/rows.json", "file://…/some/rows.json"),
        ("zip://rows.csv::/srv/data/some/rows.zip", "zip://rows.csv::…/some/rows.zip"),
    ],
)
def test_folders_are_shortened_whole(text: str, cleaned: str) -> None:
    cleaner = Cleaner(home=Path("/home/ann"), here=Path("/home/ann/work"))
    assert cleaner.text(text) == cleaned
    assert cleaner.text(cleaned) == cleaned
    assert cleaner.count > 0


@pytest.mark.parametrize(
    ("url", "cleaned"),
    [
        ("https://ann:pass@example.org/v1/x", "https://example.org/v1/x"),
        ("dataset.path=s3://AKIAX:se/cret@bucket/a/b.jsonl", "dataset.path=s3://bucket/a/b.jsonl"),
        ("https://x.org/a/b?sig=abc&X-Amz-Signature=d&row=1", "https://x.org/a/b?sig=***&X-Amz-Signature=***&row=1"),
        ("https://x.org/a/b?api_key=abc#access_token=d", "https://x.org/a/b?api_key=***#access_token=***"),
    ],
)
def test_what_opens_a_url_is_taken_out(url: str, cleaned: str) -> None:
    assert Cleaner().text(url) == cleaned


@pytest.mark.parametrize(
    "text",
    [
        *("me/rows", "HuggingFaceTB/SmolLM2-135M-Instruct", "refs/convert/parquet", "hf://datasets/me/rows/a.jsonl"),
        *("http://127.0.0.1:8000/v1/chat?row=1", "https://x.org/~ann/a/b", "data/rows/a.jsonl", "../data/rows.jsonl"),
        *("tiny:llama", "yes/no and/or 1 / 2", "</s>", "[/INST]", "{a}/{b}/{c}", "/", "a@b.org"),
    ],
)
def test_hub_ids_urls_and_words_stay(text: str) -> None:
    cleaner = Cleaner(home=Path("/home/ann"), here=Path("/home/ann/work"))
    assert (cleaner.text(text), cleaner.count) == (text, 0)


def test_a_models_own_words_are_no_paths() -> None:
    own = {"id2label": {"0": "/m/01abc/x"}, "label2id": {"/m/01abc/x": 0}, "chat_template": "/a/b/c"}
    told = Cleaner().tree({**own, "_name_or_path": "/srv/models/base/model"})
    assert told == {**own, "_name_or_path": "…/base/model"}


PLANTED = "/planted/by-someone"


def test_nothing_that_goes_knows_a_folder_outside_home(
    finished: Make, exported: Make, start: Make, hub: Any, tmp_path: Path
) -> None:
    base = f"{PLANTED}/a/base"
    options = {
        "dataset.path": f"{PLANTED}/a/rows.jsonl",
        "dataset.heldout_path": f"file://{PLANTED}/a/heldout.jsonl",
        "dataset.cache_dir": f"{PLANTED}/a/cache",
        "teacher.path": f"{PLANTED}/multirun/lr=1,seed=0/teacher/model",
        "student.path": base,
    }
    models = {
        "teacher": {"source": f"folder {PLANTED}/multirun/lr=1,seed=0/teacher/model"},
        "student": {"source": f"folder {base}"},
    }
    overrides = [f"dataset.path={PLANTED}/a/rows.jsonl", "dataset.cache_dir=s3://ann:pass@bucket/cache"]
    run = finished(options=options, overrides=overrides, models=models)
    config = {"model_type": "llama", "id2label": {"0": "low", "1": "high"}, "_name_or_path": base}
    (run / "model" / "config.json").write_text(json.dumps(config))
    export = exported(run)
    (export / "onnx_int8" / "variant.json").write_text(json.dumps({"source": f"folder {PLANTED}/a/b/model"}))
    other = finished("other", options={**options, "dataset.path": f"{PLANTED}/a/other.jsonl"})
    record = start(tmp_path / "job", run=str(run), export=str(export), extra_runs=[str(other)], dry_run=False)
    for name, content in hub.repos["me/student"].items():
        assert PLANTED.encode() not in content, name
        assert b"pass@" not in content, name
    sent = json.loads(hub.repos["me/student"]["run.json"])
    assert sent["config"]["dataset"]["path"] == "…/a/rows.jsonl"
    assert sent["config"]["dataset"]["heldout_path"] == "file://…/a/heldout.jsonl"
    assert sent["models"]["teacher"]["source"] == "folder …/teacher/model"
    assert sent["overrides"] == ["dataset.path=…/a/rows.jsonl", "dataset.cache_dir=s3://bucket/cache"]
    card = (tmp_path / "job" / "README.md").read_text()
    assert "distilled from the folder …/teacher/model" in card
    assert "| dataset.path=…/a/other.jsonl |" in card
    assert record["cleaned"] > 5


def test_git_names_a_file_as_we_do(finished: Make, tmp_path: Path) -> None:
    from kdlab.publishing.files import plan_files
    from kdlab.publishing.records import Records, read_run

    run = read_run("run", str(finished()))
    plan = plan_files(Records(run=run, seeds=[run]), "a card", adapter=True, environment={})
    (weights,) = [item for item in plan.items if item.path == "model.safetensors"]
    named = subprocess.run(["git", "hash-object", str(weights.source)], capture_output=True, text=True, check=True)
    assert weights.oid == named.stdout.strip()


def test_a_graph_with_the_folders_of_a_machine_is_refused(
    finished: Make, exported: Make, start: Make, tmp_path: Path
) -> None:
    run = finished()
    graph = exported(run) / "onnx_int8" / "model.onnx"
    graph.write_bytes(b'pkg.torch.onnx.stack_trace File "/planted/site-packages/torch/nn.py"')
    with pytest.raises(ValueError, match=r"model\.onnx: its graph tells the folders .* `kdlab export` again$"):
        start(tmp_path / "job", run=str(run), export=str(tmp_path / "multirun" / "export"))


SECRETS = [
    ("tokenizer.json", "hf_" + "aB3dE" * 7, {}),
    ("special_tokens_map.json", "sk-proj-" + "aB3dE_-x" * 4, {}),
    ("tokenizer.json", "https://ann:pass@example.org/v1", {}),
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
