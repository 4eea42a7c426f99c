"""The tokens of rows with labels are kept: the same as without a cache, made anew for whatever changes one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rated_files import rated

from kdlab.data.dataset import Data, Side
from kdlab.data.labelled import tokens
from kdlab.data.labelled.build import build_labelled
from kdlab.data.labelled.rows import read_labelled
from kdlab.data.labelled.store import LabelledStore
from kdlab.models.tiny import byte_tokenizer
from kdlab.text.fields import FieldTemplate


class Counting:
    """The byte tokenizer, counting the texts that it reads in batches."""

    def __init__(self) -> None:
        self.inner, self.texts = byte_tokenizer(), 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def __call__(self, text: Any, **options: Any) -> Any:
        self.texts += len(text) if isinstance(text, list) else 0
        return self.inner(text, **options)


def stores(data: Data) -> list[LabelledStore]:
    found = [data.train, data.heldout, data.test]
    return [store for store in found if isinstance(store, LabelledStore)]


def all_ids(data: Data) -> list[list[int]]:
    return [store[i].input_ids.tolist() for store in stores(data) for i in range(len(store))]


@pytest.fixture
def made(dataset, tmp_path: Path) -> Callable[..., tuple[Data, int]]:
    """`made(rows, fold=1)`: the examples, and how many texts a tokenizer read for them."""

    def build(rows: list[dict[str, Any]] | None = None, side: Counting | None = None, **options: Any):
        side = Counting() if side is None else side
        given = {"fold": 0, "folds": 4, "max_length": 32, "test": rated(3, start=100)} | options
        data = build_labelled(
            read_labelled(dataset(rated(20) if rows is None else rows, **given)), Side(tokenizer=side)
        )
        return data, side.texts

    return build


def test_a_second_start_reads_no_text_and_gives_the_same(made) -> None:
    first, texts = made()
    assert texts == 46, "every row of all parts once"
    assert "tokens from the cache" not in str(first.verdict)
    again, texts = made()
    assert texts == 0
    assert "tokens from the cache" in str(again.verdict)
    assert again.verdict.as_dict() == first.verdict.as_dict()
    assert again.verdict.train.cut > 0, "what was cut is counted again"
    assert [store.content_hash for store in stores(again)] == [store.content_hash for store in stores(first)]
    labelled = again.labelled
    assert labelled is not None
    plain = [
        ids
        for part in ("train", "heldout", "test")
        for ids in labelled.template.encode(byte_tokenizer(), labelled.parts[part].fields, 32)[0]
    ]
    assert all_ids(again) == plain


def test_the_folds_of_a_sweep_share_what_is_kept(made, tmp_path: Path) -> None:
    first, _ = made(fold=0)
    other, texts = made(fold=3)
    assert texts == 0
    assert other.heldout.content_hash != first.heldout.content_hash
    assert len(list((tmp_path / "cache" / "tokens").iterdir())) == 1


def test_a_row_that_comes_twice_is_read_once(made) -> None:
    data, texts = made([*rated(20), rated(20)[5]])
    assert texts == 46
    assert len(all_ids(data)) == 47


@pytest.mark.parametrize("change", ["row", "template", "max_length", "tokenizer", "version"])
def test_what_changes_a_token_misses_the_cache(made, change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, side, options = rated(20), Counting(), {}
    made(rows)
    if change == "row":
        rows[7]["response"] += "!"
    elif change == "template":
        options = {"template": "{prompt}\n{response}"}
    elif change == "max_length":
        options = {"max_length": 31}
    elif change == "tokenizer":
        side.inner.add_tokens(["Answer"])
    else:
        monkeypatch.setattr(tokens, "VERSION", tokens.VERSION + 1)
    data, texts = made(rows, side, **options)
    assert texts == 46
    assert not data.verdict.cached


def test_rows_of_the_same_texts_in_other_columns_are_others(tmp_path: Path) -> None:
    template, tokenizer = FieldTemplate("{prompt}\n\n{response}"), byte_tokenizer()
    rows = [{"prompt": "a" * 40, "response": "b"}, {"prompt": "b", "response": "a" * 40}]
    kept, _ = tokens.tokenised_rows(template, tokenizer, rows, max_length=24, cache=tmp_path)
    ids, cut = template.encode(tokenizer, rows, 24)
    assert [list(found) for found in kept.of(rows)[0]] == ids
    assert kept.of(rows)[1] == cut
    assert ids[0] != ids[1]


def test_a_teacher_keeps_tokens_of_its_own(dataset, tmp_path: Path) -> None:
    labelled = read_labelled(dataset(rated(20), fold=0, folds=4))
    for cached in (False, True):
        student, teacher = Counting(), Counting()
        teacher.inner.add_tokens(["Answer"])
        data = build_labelled(labelled, Side(tokenizer=student), Side(tokenizer=teacher))
        assert data.verdict.cached is cached
        assert (student.texts, teacher.texts) == ((0, 0) if cached else (40, 40))
        assert data.train.teacher.tokens < data.train.tokens
    assert len(list((tmp_path / "cache" / "tokens").iterdir())) == 2


def test_no_damaged_byte_is_trusted(made, tmp_path: Path) -> None:
    """Whichever byte is another one: the tokens are those that were kept, or made again."""
    rows = [{"prompt": f"p{i}", "response": f"r{i}", "rating": i % 2} for i in range(8)]
    options = {"folds": 2, "test": [{"prompt": "q", "response": "s", "rating": 0}]}
    first, _ = made(rows, **options)
    right, labelled = all_ids(first), first.labelled
    assert labelled is not None
    (file,) = (tmp_path / "cache").glob("tokens/*/rows.npz")
    whole = file.read_bytes()
    remade = 0
    for damaged in [whole[: len(whole) // 2], b"", *(flipped(whole, at) for at in range(0, len(whole), 11))]:
        file.write_bytes(damaged)
        side = Counting()
        data = build_labelled(labelled, Side(tokenizer=side))
        assert all_ids(data) == right
        if side.texts:
            remade += 1
            assert len(file.read_bytes()) == len(whole), "written again"
    assert remade > 20


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :]


def test_nothing_unfinished_stays(made, tmp_path: Path) -> None:
    made()
    assert [file.name for file in (tmp_path / "cache").rglob("*") if file.is_file()] == ["rows.npz"]


def test_a_cache_that_cannot_be_written_names_the_option(dataset, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    labelled = read_labelled(dataset(rated(20), fold=0, folds=4, cache_dir=str(tmp_path / "file")))
    with pytest.raises(ValueError, match=r"^dataset\.cache_dir=.*file: cannot write there"):
        build_labelled(labelled, Side(tokenizer=byte_tokenizer()))


def test_a_template_too_long_is_refused_with_a_cache_too(made) -> None:
    labelled = made()[0].labelled
    assert labelled is not None
    with pytest.raises(ValueError, match=r"^dataset\.max_length=1: the template takes as many tokens by itself"):
        build_labelled(replace(labelled, task=replace(labelled.task, max_length=1)), Side(tokenizer=byte_tokenizer()))
