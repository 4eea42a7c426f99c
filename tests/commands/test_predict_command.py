"""`kdlab predict` and `kdlab export` as they are typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kdlab.cli import main
from kdlab.models.tiny import save_tiny


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny("llama", tmp_path_factory.mktemp("predicted")))


def test_texts_are_completed(causal: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", causal, "a text", "another", "--max-new-tokens", "3", "--json"]) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [answer["text"] for answer in answers] == ["a text", "another"]
    assert all(0 < answer["tokens"] <= 3 and answer["log_probability"] < 0 for answer in answers)


def test_rows_come_from_a_file(causal: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "one", "id": "7"}\n\n{"text": "two"}\n')
    assert main(["predict", causal, "--file", str(file), "--max-new-tokens", "2"]) == 0
    said = capsys.readouterr()
    assert said.out.count("log-probability") == 2
    assert "not read: id" in said.err


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ([], 2, "the following arguments are required: PATH"),
        (["HERE"], 2, "give texts, --field or --file; none was given"),
        (["HERE", "text", "--field", "a=b"], 2, "TEXT and --field were given"),
        (["HERE", "--field", "a"], 2, "write --field NAME=TEXT"),
        (["HERE", "--field", "prompt=x"], 1, "text 1 has no 'text'; this model reads text: --field text=..."),
        (["HERE", "text", "--max-new-tokens", "0"], 2, "must be at least 1"),
        (["HERE", ""], 1, "an empty prompt"),
        (["./nowhere", "text"], 1, "PATH=./nowhere: no such file or folder"),
        (["HERE", "--file", "./nowhere.jsonl"], 1, "--file nowhere.jsonl: no such file"),
        (["HERE", "text", "--tpo", "3"], 2, "--tpo"),
    ],
)
def test_mistakes_are_one_line(
    causal: str, words: list[str], status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", *(causal if word == "HERE" else word for word in words)]) == status
    lines = [line for line in capsys.readouterr().err.splitlines() if "pad token" not in line]
    assert len(lines) == 1
    assert said in lines[0]


def test_help_is_one_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "--help"]) == 0
    said = capsys.readouterr().out
    assert "kdlab predict multirun/export/default/onnx_int8" in said
    assert "--max-new-tokens" in said
