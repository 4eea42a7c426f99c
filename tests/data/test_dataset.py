from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from kdlab.data.dataset import DatasetConfig, Side, build
from kdlab.models.tiny import byte_tokenizer


class Counting:
    """The byte tokenizer without a chat template, counting the texts it encodes in batches."""

    def __init__(self) -> None:
        self.inner, self.texts = byte_tokenizer(), 0
        self.inner.chat_template = None

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def __len__(self):
        return len(self.inner)

    def __call__(self, text, **options):
        self.texts += len(text) if isinstance(text, list) else 0
        return self.inner(text, **options)


@pytest.fixture
def rows(tmp_path):
    file = tmp_path / "rows.jsonl"
    lines = [{"instruction": f"Say {i}", "output": f"Here is {i}", "n": i} for i in range(40)]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return file


@pytest.fixture
def config(tmp_path, rows):
    def make(**changes) -> DatasetConfig:
        return DatasetConfig(**({"path": str(rows), "cache_dir": str(tmp_path / "cache")} | changes))

    return make


def texts(store) -> list[str]:
    return [byte_tokenizer().decode(store[i].input_ids) for i in range(len(store))]


def test_every_row_is_on_one_side(config):
    data = build(config(), Side(tokenizer=byte_tokenizer()))
    assert (len(data.train), len(data.heldout)) == (36, 4)
    assert sorted(texts(data.train) + texts(data.heldout)) == sorted(
        f"user: Say {i}\nassistant: Here is {i}<eos>\n" for i in range(40)
    )
    example = data.train[0]
    said = byte_tokenizer().decode(example.input_ids[example.supervised])
    assert said.startswith("Here is")
    assert said.endswith("<eos>")


def test_the_verdict_says_it_all_and_serialises(config, rows):
    with rows.open("a") as stream:
        stream.write('{"instruction": "Say", "output": ""}\n{"instruction": "Say 3", "output": "Here is 3"}\n')
    data = build(config(max_length=30), Side(tokenizer=byte_tokenizer()))
    said = str(data.verdict)
    for part in ("format instruction", "not used: n", "42 rows read, 1 skipped (1 output is empty)", "1 rows repeat"):
        assert part in said
    content = json.loads(json.dumps(data.verdict.as_dict()))
    assert content["reading"]["rows"] == 42
    assert content["reading"]["skipped"] == {"output is empty": 1}
    assert content["train"]["examples"] == len(data.train)
    assert content["train"]["tokens"] == data.train.tokens
    assert content["train"]["supervised"] == data.train.supervised_tokens
    # "user: Say 3\n" 12 + "assistant: " 11 + "Here is 3" 9 + <eos> + "\n" = 34; all are longer than 30
    assert content["train"]["cut"] + content["heldout"]["cut"] == 41
    assert content["train"]["cut_tokens"] + content["heldout"]["cut_tokens"] == 11 * 4 + 30 * 6
    assert build(config(max_length=30), Side(tokenizer=byte_tokenizer())).verdict.as_dict() == data.verdict.as_dict()


def test_a_second_time_nothing_is_tokenised(config):
    first, second = Counting(), Counting()
    before = build(config(), Side(tokenizer=first))
    after = build(config(), Side(tokenizer=second))
    assert (first.texts, second.texts) == (40, 0)
    assert (before.verdict.cached, after.verdict.cached) == (False, True)
    assert after.train.content_hash == before.train.content_hash
    assert texts(after.heldout) == texts(before.heldout)


@pytest.mark.parametrize("changes", [{"max_length": 64}, {"heldout": 0.3}, {"pack": True}])
def test_cuts_and_splits_need_no_second_tokenisation(config, changes):
    build(config(), Side(tokenizer=Counting()))
    again = Counting()
    build(config(**changes), Side(tokenizer=again))
    assert again.texts == 0


def test_the_split_has_a_seed_of_its_own_that_the_verdict_names(config):
    one, again, other = (build(config(split_seed=seed), Side(tokenizer=byte_tokenizer())) for seed in (0, 0, 1))
    assert texts(one.heldout) == texts(again.heldout) != texts(other.heldout)
    assert "held out (4 rows drawn by dataset.split_seed=1)" in str(other.verdict)


def test_examples_know_their_row(config, rows):
    lines = rows.read_text().splitlines(keepends=True)
    rows.write_text("".join([*lines[:5], '{"instruction": "x", "output": ""}\n', *lines[5:]]))  # row 5 is skipped
    data = build(config(), Side(tokenizer=byte_tokenizer()))
    written = [json.loads(line) for line in rows.read_text().splitlines()]
    for store in (data.train, data.heldout):
        for i in range(len(store)):
            assert written[store[i].row]["output"] in texts(store)[i]
    assert {
        example.row for store in (data.train, data.heldout) for example in map(store.__getitem__, range(len(store)))
    } == {*range(41)} - {5}


HELDOUT_FAULTS = [
    ("", r"^dataset.heldout_path=.*held.jsonl: is empty"),
    ('{"text": ""}', r"^dataset.heldout_path=.*held.jsonl: no row is usable"),
    ("{", r"^dataset.heldout_path: .*held.jsonl:1: not valid JSON"),
]


@pytest.mark.parametrize(("content", "message"), HELDOUT_FAULTS, ids=["empty", "unusable", "broken"])
def test_a_fault_of_held_out_rows_names_their_option(config, tmp_path, content, message):
    (tmp_path / "held.jsonl").write_text(content)
    with pytest.raises(ValueError, match=message):
        build(config(heldout_path=str(tmp_path / "held.jsonl")), Side(tokenizer=byte_tokenizer()))


def test_a_fault_of_the_held_out_split_names_it(config, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "train.jsonl").write_text('{"text": "good"}\n')
    (folder / "test.jsonl").write_text("{")
    with pytest.raises(ValueError, match=r"^dataset.heldout_split: .*test.jsonl:1: not valid JSON"):
        build(config(path=str(folder), heldout_split="test"), Side(tokenizer=byte_tokenizer()))
    with pytest.raises(FileNotFoundError, match=r"^dataset.heldout_split=dev: the files of dataset.path=.* tell test"):
        build(config(path=str(folder), heldout_split="dev"), Side(tokenizer=byte_tokenizer()))
    (folder / "train.jsonl").unlink()
    with pytest.raises(FileNotFoundError, match=r"^dataset.heldout_path=.*: its files tell test, none of them train"):
        build(config(heldout_path=str(folder)), Side(tokenizer=byte_tokenizer()))


@pytest.mark.parametrize("change", ["supervise", "template", "num_samples", "content", "tokenizer", "format"])
def test_what_changes_a_token_misses_the_cache(config, rows, tmp_path, change):
    build(config(), Side(tokenizer=Counting()))
    again, options = Counting(), {}
    if change == "content":
        rows.write_text(rows.read_text().replace("Say 3", "Tell 3"))
    elif change == "tokenizer":
        again.inner.add_tokens(["Here"])
    elif change == "template":
        (tmp_path / "t.jinja").write_text("{% for m in messages %}{{ m['content'] + eos_token }}{% endfor %}")
        options = {"template": str(tmp_path / "t.jinja")}
    else:
        options = {"supervise": {"supervise": "all"}, "num_samples": {"num_samples": 30}}.get(
            change, {"format": "instruction"}
        )
    assert not build(config(**options), Side(tokenizer=again)).verdict.cached
    assert again.texts >= 30


def test_a_damaged_cache_is_written_again(config, tmp_path):
    before = build(config(), Side(tokenizer=byte_tokenizer())).train.content_hash
    next((tmp_path / "cache").glob("tokens/*/meta.json")).write_text("{")
    assert build(config(), Side(tokenizer=byte_tokenizer())).train.content_hash == before


def test_the_cache_lies_where_the_environment_says(config, tmp_path, monkeypatch):
    monkeypatch.setenv("KDLAB_CACHE", str(tmp_path / "elsewhere"))
    build(config(cache_dir=None), Side(tokenizer=byte_tokenizer()))
    assert len(list((tmp_path / "elsewhere" / "tokens").iterdir())) == 1


def test_a_cache_that_cannot_be_written_names_the_option(config, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"dataset.cache_dir=.*: cannot write there"):
        build(config(cache_dir=str(tmp_path / "file")), Side(tokenizer=byte_tokenizer()))


def test_held_out_rows_of_another_file_are_left_out_of_training(config, tmp_path, rows):
    other = tmp_path / "other.jsonl"
    lines = rows.read_text().splitlines(keepends=True)
    other.write_text(lines[3] + lines[7] + '{"instruction": "New", "output": "one"}\n')
    data = build(config(heldout_path=str(other)), Side(tokenizer=byte_tokenizer()))
    assert (len(data.train), len(data.heldout)) == (38, 3)
    assert not set(texts(data.train)) & set(texts(data.heldout))
    assert data.verdict.train.skipped == {"that are also held out": 2}
    assert "held out" in str(data.verdict)


def test_held_out_split_of_a_folder(config, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, count in (("train", 5), ("test", 2)):
        (folder / f"{name}.jsonl").write_text("".join(f'{{"text": "{name} {i}"}}\n' for i in range(count)))
    data = build(config(path=str(folder), heldout_split="test"), Side(tokenizer=byte_tokenizer()))
    assert texts(data.train) == [f"train {i}<eos>" for i in range(5)]
    assert texts(data.heldout) == ["test 0<eos>", "test 1<eos>"]


def test_python_docs_have_a_held_out_split(config):
    data = build(config(path="python_docs", max_length=256), Side(tokenizer=byte_tokenizer()))
    assert data.verdict.format == "text"
    share = data.heldout.tokens / (data.heldout.tokens + data.train.tokens)
    assert 0.1 <= share <= 0.125
    assert "python_docs of Python 3." in str(data.verdict)
    tokens = {store: store.lengths for store in (data.train, data.heldout)}
    assert all(lengths.max() == 256 for lengths in tokens.values())


def test_num_samples_reads_the_first_rows_only(config, rows):
    with rows.open("a") as stream:
        stream.write("broken\n")
    assert build(config(num_samples=20), Side(tokenizer=byte_tokenizer())).verdict.reading.rows == 20
    with pytest.raises(ValueError, match=r"rows.jsonl:41: not valid JSON"):
        build(config(), Side(tokenizer=byte_tokenizer()))


def test_empty_or_unusable_data_is_an_error(config, tmp_path):
    file = tmp_path / "empty.jsonl"
    file.write_text("\n")
    with pytest.raises(ValueError, match=r"dataset.path=.*empty.jsonl: is empty"):
        build(config(path=str(file)), Side(tokenizer=byte_tokenizer()))
    file.write_text('{"text": ""}\n{"text": " "}\n')
    with pytest.raises(ValueError, match=r"no row is usable; (?s:.*)2 text is empty"):
        build(config(path=str(file)), Side(tokenizer=byte_tokenizer()))


def test_nothing_supervised_within_max_length_is_an_error(config):
    with pytest.raises(ValueError, match=r"no example left (?s:.*)36 whose response lies wholly beyond"):
        build(config(max_length=16), Side(tokenizer=byte_tokenizer()))


MISTAKES = [
    ({"format": "alpaca"}, r"dataset.format=alpaca: must be auto or one of messages, instruction"),
    ({"supervise": "prompt"}, r"dataset.supervise=prompt: must be response or all"),
    ({"max_length": 4}, r"dataset.max_length=4: must be >= 8"),
    ({"num_samples": 0}, r"dataset.num_samples=0: must be >= 1"),
    ({"heldout": 0.0}, r"dataset.heldout=0.0: must be a share"),
    ({"heldout": 1.5}, r"dataset.heldout=1.5: must be a share"),
    ({"heldout": -1}, r"dataset.heldout=-1: must be a share"),
    ({"split_seed": -1}, r"dataset.split_seed=-1: must be >= 0"),
    ({"heldout_path": "a", "heldout_split": "b"}, r"give one of the two"),
    ({"pack": True, "group_by_length": True}, r"dataset.group_by_length=true: packed rows"),
    ({"streaming": True}, r"dataset.heldout=0.1: a stream has no known size"),
]


@pytest.mark.parametrize(("options", "message"), MISTAKES, ids=[m for _, m in MISTAKES])
def test_impossible_options_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message) as error:
        DatasetConfig(path="python_docs", **options)
    assert "\n" not in str(error.value)


def test_the_config_needs_neither_torch_nor_numpy():
    code = "import sys, kdlab.data.dataset; print({'torch', 'numpy', 'transformers'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_ids_of_a_large_vocabulary_survive(config):
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens([f"<{i}>" for i in range(70_000)])
    tokenizer.chat_template = None
    data = build(config(template=None), Side(tokenizer=tokenizer))
    assert data.train.file.ids_T.dtype == np.int32


@pytest.mark.parametrize("streaming", [False, True])
def test_a_translation_says_its_direction(config, tmp_path, streaming):
    rows = tmp_path / "pairs.jsonl"
    pairs = [{"translation": {"en": f"One {i}", "de": f"Eins {i}"}} for i in range(20)]
    rows.write_text("".join(json.dumps(pair) + "\n" for pair in pairs), encoding="utf-8")
    given = {"path": str(rows), "streaming": streaming, "heldout": 2}
    for languages, direction in (({}, "en -> de"), ({"source_language": "de", "target_language": "en"}, "de -> en")):
        data = build(config(**given, **languages), Side(tokenizer=byte_tokenizer()))
        assert f"format translation {direction} (columns translation)" in str(data.verdict)
        assert data.verdict.as_dict()["reading"]["directions"] == [direction]
        assert (
            build(config(**given, **languages), Side(tokenizer=byte_tokenizer())).verdict.reading
            == data.verdict.reading
        )


def test_a_misspelt_column_names_the_dataset_and_the_column_meant(config, tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"source": "a", "traget": "b"}\n', encoding="utf-8")
    with pytest.raises(ValueError, match=r"^dataset.path=.*rows.jsonl: .* source, traget; did you mean target\?$"):
        build(config(path=str(rows)), Side(tokenizer=byte_tokenizer()))
