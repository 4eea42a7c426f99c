from __future__ import annotations

import json

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdlab.data.files import find_files, hash_files, looks_local, read_rows

ROWS = [{"text": "one"}, {"text": "two\u2028still two\u0085\x0b\x1c, even here"}, {"text": 'a "quoted",\nbroken line'}]


def write(folder, name, rows=ROWS):
    file = folder / name
    if name.endswith((".jsonl", ".ndjson")):
        file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    elif name.endswith(".json"):
        file.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    elif name.endswith(".parquet"):
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    else:
        import csv

        with file.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, rows[0], delimiter="\t" if name.endswith(".tsv") else ",")
            writer.writeheader()
            writer.writerows(rows)
    return file


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.json", "a.csv", "a.tsv", "a.parquet"])
def test_every_kind_gives_the_rows_unbroken(tmp_path, name):
    assert list(read_rows(write(tmp_path, name))) == ROWS


def test_a_json_file_may_hold_one_object_a_line_and_a_byte_order_mark(tmp_path):
    file = tmp_path / "a.json"
    file.write_text("\ufeff" + "\r\n".join(json.dumps(row) for row in ROWS) + "\r\n\r\n", encoding="utf-8", newline="")
    assert list(read_rows(file)) == ROWS


def test_a_text_file_is_one_document(tmp_path):
    file = tmp_path / "a.txt"
    file.write_bytes("first\r\nsecond\u2028".encode())
    assert list(read_rows(file)) == [{"text": "first\r\nsecond\u2028"}]


@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=5))
def test_jsonl_comes_back_whatever_the_text(tmp_path_factory, texts):
    rows = [{"text": text} for text in texts]
    assert list(read_rows(write(tmp_path_factory.mktemp("rows"), "a.jsonl", rows))) == rows


BROKEN = [
    ("a.jsonl", b'{"text": "a"}\n{"text": \n', r"a.jsonl:2: not valid JSON"),
    ("a.jsonl", b'{"text": "a"}\n\n[1]\n', r"a.jsonl:3: expected an object with columns, found list"),
    ("a.jsonl", b'{"text": "a"}\n{"text": "\xff"}\n', r"a.jsonl:2: not UTF-8"),
    ("a.json", b'[{"text": "a"},\n{]', r"a.json:2: not valid JSON"),
    ("a.json", b'[{"text": "a"}, 3]', r"a.json:element 2: expected an object"),
    ("a.json", b'{\n"text": "a"\n}', r"a.json:1: not valid JSON .* one object a line"),
    ("a.csv", b"text\na\nb,c\n", r"a.csv:3: more fields than the 1 columns"),
    ("a.csv", b'text\n"a" b\n', r"a.csv:2: not valid CSV"),
    ("a.csv", b"text\n\xff\n", r"a.csv:\d+: not UTF-8"),
    ("a.txt", b"a\nb\xff", r"a.txt:2: not UTF-8"),
    ("a.parquet", b"PAR0", r"a.parquet: not a valid parquet file"),
]


@pytest.mark.parametrize(("name", "content", "message"), BROKEN, ids=[f"{n}-{i}" for i, (n, _, _) in enumerate(BROKEN)])
def test_a_broken_file_names_file_and_line(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        list(read_rows(tmp_path / name))
    assert str(error.value).startswith("dataset.path")


def test_file_glob_and_folder_find_the_same_files(tmp_path):
    files = [write(tmp_path, "a.jsonl"), write(tmp_path, "b.jsonl")]
    (tmp_path / "LICENSE").write_text("free")
    assert find_files(str(tmp_path)) == find_files(f"{tmp_path}/*.jsonl") == files
    assert find_files(str(files[1])) == files[1:]


def test_a_folder_whose_files_tell_their_split_gives_the_one_asked_for(tmp_path):
    train, test = write(tmp_path, "train.jsonl"), write(tmp_path, "global_test.jsonl")
    assert find_files(str(tmp_path)) == [train]
    assert find_files(str(tmp_path), split="test") == [test]
    with pytest.raises(FileNotFoundError, match=r"dataset.split=validation: .* tell test, train"):
        find_files(str(tmp_path), split="validation")


def test_what_is_not_there_names_the_option_and_the_nearest(tmp_path):
    write(tmp_path, "train.jsonl")
    with pytest.raises(
        FileNotFoundError, match=r"^dataset.path=.*trian.jsonl: no such file or folder; nearest: .*train"
    ):
        find_files(str(tmp_path / "trian.jsonl"))
    with pytest.raises(FileNotFoundError, match=r"^dataset.heldout_path="):
        find_files(str(tmp_path / "no" / "such" / "x.jsonl"), option="dataset.heldout_path")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"the folder holds no .jsonl"):
        find_files(str(tmp_path / "empty"))


def test_impossible_paths_are_refused(tmp_path):
    file = write(tmp_path, "a.jsonl")
    (tmp_path / "a.xlsx").write_bytes(b"")
    with pytest.raises(ValueError, match=r"a.xlsx is of an unknown kind; known are .jsonl"):
        find_files(str(tmp_path / "a.xlsx"))
    with pytest.raises(ValueError, match=r"dataset.split=test: local files have no splits; write dataset=local "):
        find_files(str(file), split="test")
    write(tmp_path, "b.csv")
    with pytest.raises(ValueError, match=r"several kinds \(.csv .jsonl\)"):
        find_files(str(tmp_path))


def test_hub_ids_do_not_look_local(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert not looks_local("openai/gsm8k")
    assert all(looks_local(path) for path in ("a.jsonl", "./a", "/a", "~/a", "a/*.csv", str(tmp_path)))


def test_the_hash_is_of_the_content_not_of_the_name(tmp_path):
    a, b = write(tmp_path, "a.jsonl"), write(tmp_path, "b.jsonl")
    assert hash_files([a]) == hash_files([b]) != hash_files([a, b])
    before = hash_files([a])
    a.write_text(a.read_text() + '{"text": "more"}\n')
    assert hash_files([a]) != before
