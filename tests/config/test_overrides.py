"""Overrides as a user types them: paths that Hydra's grammar has no word for, and groups of other verbs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from kdlab.config import ConfigError
from kdlab.config.compose import Composer
from kdlab.config.loading import is_sweep, load_with, sweep_jobs
from kdlab.config.overrides import parse, with_plus


@pytest.mark.parametrize("name", ["codec=topk,codec.k=16", "a(b", "two words, (1)", "seed=1", "{x", "a,b=c"])
def test_a_path_that_is_there_need_not_be_quoted(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()
    for path in (name, f"./{name}", str(tmp_path / name)):
        typed = f"teacher.path={path}"
        assert parse(typed).value() == path
        assert with_plus("train", [typed]) == [f'teacher.path="{path}"']
        assert parse(f"++{typed}").value() == path


@pytest.mark.parametrize("name", ["a=b'c", 'a=b"c', "a=b\\c", "a=$b"])
def test_what_quotes_would_read_otherwise_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()
    with pytest.raises(ConfigError, match="cannot be read; quote the value"):
        parse(f"teacher.path={name}")


def test_what_is_not_there_and_what_can_be_read_is_as_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"teacher\.path=a=b,c=d: cannot be read; quote the value"):
        parse("teacher.path=a=b,c=d")
    (tmp_path / "hard,forward_kl").mkdir()
    assert parse("loss=hard,forward_kl").is_sweep_override()
    assert with_plus("train", ["loss=hard,forward_kl", "student.lora.r=4"]) == [
        "loss=hard,forward_kl",
        "++student.lora.r=4",
    ]


@pytest.mark.parametrize(
    ("typed", "options"),
    [
        ("[trainer.threads=1]", ["trainer.threads=1"]),
        ('["trainer.threads=1"]', ["trainer.threads=1"]),
        ("[trainer.threads=1, optimizer.lr=1e-3]", ["trainer.threads=1", "optimizer.lr=1e-3"]),
        ("['seed=1',trainer.threads=2]", ["seed=1", "trainer.threads=2"]),
        ("[variants=[onnx,nf4],student.lora={r:4,alpha:8}]", ["variants=[onnx,nf4]", "student.lora={r:4,alpha:8}"]),
        ("[dataset.path='a,b.csv',loss.temperature=1.5]", ["dataset.path='a,b.csv'", "loss.temperature=1.5"]),
        ('[dataset.path="a, b\\"=.csv"]', ['dataset.path="a, b\\"=.csv"']),
        ("[teacher.path={teacher}/model]", ["teacher.path={teacher}/model"]),
        ("[~student.path]", ["~student.path"]),
        ("[+student.lora.r=4,~teacher.revision=x]", ["+student.lora.r=4", "~teacher.revision=x"]),
        ("[]", []),
    ],
)
def test_options_in_a_list_need_no_quotes(typed: str, options: list[str]) -> None:
    for key in ("extra", "options", "stages.student.options"):
        assert parse(f"{key}={typed}").value() == options
        [line] = with_plus("pipeline", [f"{key}={typed}"])
        assert parse(line).value() == options


def test_lists_of_options_are_swept() -> None:
    [line] = with_plus("pipeline", ["extra=[seed=1,loss=hard],[seed=2]"])
    swept = parse(line)
    assert swept.is_sweep_override()
    assert [parse(f"extra={value}").value() for value in swept.sweep_string_iterator()] == [
        ["seed=1", "loss=hard"],
        ["seed=2"],
    ]


@pytest.mark.parametrize(
    ("typed", "remedy"),
    [
        ("extra=trainer.threads=1", ["trainer.threads=1"]),
        ("extra=trainer.threads=1,seed=2", ["trainer.threads=1", "seed=2"]),
        ("extra=[trainer.threads=1", ["trainer.threads=1"]),
        ("extra='[trainer.threads=1]'", ["trainer.threads=1"]),
        ("extra=", []),
        ("extra=[,]", []),
        ("dataset.path=it's (1)", "it's (1)"),
        ('dataset.path=a"b', 'a"b'),
    ],
)
def test_the_remedy_that_is_shown_works_in_a_shell(typed: str, remedy: object) -> None:
    """Its last words, read as a shell reads them, are an override with the value that was meant."""
    verb = "train" if typed.startswith("dataset") else "pipeline"
    with pytest.raises(ConfigError, match=r"cannot be read|must be a list") as caught:
        load_with(Composer(verb), [typed])
    shown = str(caught.value).splitlines()[0].rpartition("write " if verb == "pipeline" else "value: ")[2]
    [word] = subprocess.run(
        ["bash", "-c", f"printf '%s\\n' {shown}"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert parse(word).value() == remedy


@pytest.mark.parametrize(
    ("typed", "remedy"),
    [
        ("~teacher.path", "teacher.path=<value>, or teacher.path=null"),
        ("~loss.temperature", "loss.temperature=<value>"),
        ("~student.lora", "student.lora=<value>, or student.lora=null"),
    ],
)
def test_an_option_cannot_be_taken_away(typed: str, remedy: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_with(Composer("train"), ["experiment=smoke", typed])
    assert str(caught.value) == f"{typed}: an option cannot be taken away; write {remedy}"


def test_nor_can_it_in_a_stage(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    lines = ["# @package _global_", "stages:", "  one: {options: [experiment=smoke]}"]
    (tmp_path / "experiment" / "mine.yaml").write_text("\n".join(lines))
    composer = Composer("pipeline", str(tmp_path))
    with pytest.raises(ConfigError, match=r"^stages\.one \(kdlab train\): ~loss\.temperature: an option cannot be"):
        load_with(composer, ["experiment=mine", "extra=[~loss.temperature]"])
    assert load_with(composer, ["experiment=mine", "extra=[]"]).config.extra == []


def test_such_a_path_in_a_run_and_in_a_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "run=1,seed=2.jsonl"
    file.write_text('{"text": "a"}\n')
    composer, words = Composer("train"), ["experiment=smoke", f"dataset.path={file}"]
    assert load_with(composer, words).config.dataset.path == str(file)
    assert not is_sweep(composer, words)
    jobs = sweep_jobs(composer, [*words, "seed=0,1"])
    assert jobs is not None
    assert [load_with(composer, job).config.dataset.path for job in jobs] == [str(file)] * 2


@pytest.mark.parametrize(
    ("verb", "override", "said"),
    [
        ("train", "codec=topk", "codec is an option of `kdlab cache`, not of this verb"),
        ("cache", "writing=greedy", "writing is an option of `kdlab generate` and `kdlab evaluate`"),
        ("evaluate", "teacher=tiny", "teacher is an option of `kdlab train` and `kdlab cache`"),
        ("evaluate", "keep=correct", "keep is an option of `kdlab generate`, not of this verb"),
        ("generate", "experiment=smoke", "unknown option experiment"),
    ],
)
def test_a_group_of_another_verb(verb: str, override: str, said: str) -> None:
    composer = Composer(verb)
    with pytest.raises(ConfigError) as refused:
        load_with(composer, [override])
    assert said in str(refused.value)
    assert str(refused.value).startswith(f"{override}: ")
    assert set(composer.groups()) >= {"dataset", "prompt", "quantization"}
    assert "hydra" not in composer.groups()
