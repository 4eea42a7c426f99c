"""`kdlab predict` and `kdlab export` as they are typed."""

from __future__ import annotations

import functools
import io
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from kdlab.cli import main
from kdlab.exporting import variants
from kdlab.models.classifier import load_classifier
from kdlab.models.tiny import byte_tokenizer, save_tiny
from kdlab.models.writing import save_student
from kdlab.text.task import Task


@pytest.fixture(scope="module", autouse=True)
def _opened_once() -> Iterator[None]:
    """Most tests are about what is read, not about opening the same three models."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(variants, "open_variant", functools.cache(variants.open_variant))
        yield


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny("llama", tmp_path_factory.mktemp("predicted")))


def _classifier(folder: Path, template: str) -> str:
    task = Task(kind="classification", names=("no", "yes"), column="label", template=template, max_length=32)
    save_student(load_classifier("tiny:llama", task=task, fresh_head=True), byte_tokenizer(), folder, task)
    return str(folder)


@pytest.fixture(scope="module")
def one_column(tmp_path_factory: pytest.TempPathFactory) -> str:
    return _classifier(tmp_path_factory.mktemp("one"), "{said}")


@pytest.fixture(scope="module")
def two_columns(tmp_path_factory: pytest.TempPathFactory) -> str:
    return _classifier(tmp_path_factory.mktemp("two"), "{prompt}\n{response}")


def answers(out: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.removesuffix("\n").split("\n")]


def test_texts_are_completed(causal: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", causal, "a text", "another", "--max-new-tokens", "3", "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [answer["text"] for answer in found] == ["a text", "another"]
    assert all(0 < answer["tokens"] <= 3 and answer["log_probability"] < 0 for answer in found)


def test_rows_come_from_a_file(causal: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "one", "id": "7"}\n{"text": "two"}\n')
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
        (["HERE", "--field", "prompt=x"], 1, "text 1 has no 'text', but prompt; this model reads text"),
        (["HERE", "text", "--max-new-tokens", "0"], 2, "must be at least 1"),
        (["HERE", ""], 1, "an empty prompt"),
        (["HERE", "a text", ""], 1, "PATH=HERE: text 2: an empty prompt"),
        (["HERE", "text", "--top", "1"], 2, "PATH=HERE: this model writes text; leave out --top"),
        (["./nowhere", "text"], 1, "PATH=./nowhere: no such file or folder"),
        (["HERE", "--file", "./nowhere.jsonl"], 1, "--file ./nowhere.jsonl: no such file"),
        (["HERE", "text", "--tpo", "3"], 2, "--tpo"),
    ],
)
def test_mistakes_are_one_line(
    causal: str, words: list[str], status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", *(causal if word == "HERE" else word for word in words)]) == status
    told = capsys.readouterr()
    lines = [line for line in told.err.splitlines() if "pad token" not in line]
    assert len(lines) == 1
    assert said.replace("HERE", causal) in lines[0]
    assert not told.out


def test_help_is_one_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "--help"]) == 0
    said = capsys.readouterr().out
    assert "kdlab predict multirun/export/default/onnx_int8" in said
    assert "--max-new-tokens" in said


ROWS = [{"prompt": 'a, "b"', "response": "c\nd", "label": "7"}, {"prompt": "e", "response": "f", "label": "8"}]


def write_rows(file: Path) -> None:
    if file.suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), file)
    elif file.suffix == ".json":
        file.write_text(json.dumps(ROWS))
    elif file.suffix == ".jsonl":
        file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    else:
        table = 'prompt,response,label\n"a, ""b""","c\nd",7\ne,f,8\n'
        file.write_text(table if file.suffix == ".csv" else table.replace(",", "\t").replace("a\t", "a,"))


def test_classes_cannot_be_left_out_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "anywhere", "a text", "--json", "--top", "2"]) == 2
    assert capsys.readouterr().err == "kdlab predict: --json shows every class; leave out --top\n"


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet", "json", "jsonl"])
def test_tables_are_read_by_their_columns(
    two_columns: str, suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / f"rows.{suffix}"
    write_rows(file)
    assert main(["predict", two_columns, "--file", str(file), "--json"]) == 0
    told = capsys.readouterr()
    found = answers(told.out)
    assert [(row["prompt"], row["response"]) for row in found] == [('a, "b"', "c\nd"), ("e", "f")]
    assert f"--file {file}: not read: label" in told.err
    assert told.err.count("label: shown as answered, not as given") == 1
    assert main(["predict", two_columns, "--field", "prompt=e", "--field", "response=f", "--json"]) == 0
    (alone,) = answers(capsys.readouterr().out)
    assert alone["probabilities"] == found[1]["probabilities"]


def test_lines_are_the_one_column_that_a_model_reads(
    one_column: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "said.txt"
    file.write_bytes("\ufeffone\r\n\n{two\u2028more}\r\n".encode())
    assert main(["predict", one_column, "--file", str(file), "--json"]) == 0
    told = capsys.readouterr()
    assert [row["said"] for row in answers(told.out)] == ["one", "{two\u2028more}"]
    assert f"--file {file}: blank lines left out: 1" in told.err


@pytest.mark.parametrize(
    ("typed", "read"),
    [("one\n{two\n", ["one", "{two"]), ('{"said": "one"}\n\n{"said": "{two"}\n', ["one", "{two"])],
    ids=["texts", "rows"],
)
@pytest.mark.parametrize("through", ["-", "pipe"])
def test_standard_input_and_pipes_are_read(
    one_column: str,
    typed: str,
    read: list[str],
    through: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if through == "-":
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(typed.encode())))
    else:
        through = str(tmp_path / "pipe")
        os.mkfifo(through)
        threading.Thread(target=Path(through).write_text, args=(typed,), daemon=True).start()
    assert main(["predict", one_column, "--file", through, "--json"]) == 0
    assert [row["said"] for row in answers(capsys.readouterr().out)] == read


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("empty.txt", b"", "holds no text"),
        ("blank.txt", b"\n \n\n", "holds no text"),
        ("head.csv", b"prompt,response\n", "holds no text"),
        ("latin.txt", b"fine\ncaf\xe9\n", "line 2 is not UTF-8; convert it first"),
        ("latin.csv", b"prompt,response\ncaf\xe9,b\n", "not UTF-8; convert it first"),
        ("lines.txt", b"one\ntwo\n", "this model reads prompt and response: write --field prompt=..."),
        ("other.csv", b"prompt,answer\na,b\n", "text 1 has no 'response', but prompt, answer; this model reads prompt"),
        ("gap.csv", b"prompt,response\na,b\nc, \n", "text 2: response is empty; give text there, or leave it out"),
        ("short.csv", b"prompt,response\na,b\nc\n", "text 2: response is empty"),
        ("number.jsonl", b'{"prompt": "a", "response": 7}\n', "text 1: response is not text"),
        ("broken.jsonl", b'{"prompt": "a", "response": "b"}\n\n{"prompt"\n', "line 3 is not JSON"),
        ("folder", None, "a folder; give a file"),
    ],
)
def test_a_file_that_cannot_be_answered_is_one_line(
    two_columns: str,
    name: str,
    content: bytes | None,
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if content is None:
        (tmp_path / name).mkdir()
    else:
        (tmp_path / name).write_bytes(content)
    assert main(["predict", two_columns, "--file", str(tmp_path / name)]) != 0
    told = capsys.readouterr()
    line = told.err.splitlines()[-1]
    assert line.startswith("--file")
    assert str(tmp_path / name) in line
    assert said in line
    assert not told.out


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ([" "], 1, "text 1: said is empty"),
        (["a text", "\t"], 1, "text 2: said is empty; give text there, or leave it out"),
        (["a text", "--chat"], 2, "this model is a classifier; leave out --chat"),
        (["a text", "--chat", "--max-new-tokens", "64"], 2, "leave out --chat and --max-new-tokens"),
    ],
)
def test_what_a_classifier_cannot_answer_is_refused(
    one_column: str, words: list[str], status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", one_column, *words]) == status
    told = capsys.readouterr()
    (line,) = told.err.splitlines()
    assert line.startswith(f"PATH={one_column}: ")
    assert said in line
    assert not told.out


def test_a_folder_without_a_tokenizer_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(_classifier(tmp_path / "model", "{text}"))
    for file in folder.glob("tokenizer*"):
        file.unlink()
    assert main(["predict", str(folder), "a text"]) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"PATH={folder}: no tokenizer lies in {folder} (no tokenizer.json or the like); copy the")
