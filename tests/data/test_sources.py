from __future__ import annotations

import datasets
import pytest

from kdlab.data.sources import open_source
from kdlab.models import places

ROWS = [{"text": f"row {i}"} for i in range(5)]


@pytest.fixture
def fake_hub(monkeypatch):
    """`datasets.load_dataset` answered from memory; the list says what it was asked for."""
    asked = []
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)

    def load_dataset(path, subset, *, split, revision, streaming):
        asked.append((path, subset, split, revision, streaming, datasets.config.HF_HUB_OFFLINE))
        if split not in ("train", "test"):
            raise ValueError(f'Unknown split "{split}". Should be one of ["train", "test"].')
        if subset == "wrong":
            raise ValueError("BuilderConfig 'wrong' not found. Available: ['main']")
        if path == "me/missing":
            raise ConnectionError("Couldn't reach it")
        data = datasets.Dataset.from_list(ROWS)
        return data.to_iterable_dataset() if streaming else data

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(places.threading, "Thread", Silent)
    monkeypatch.setattr(places, "HUB_SECONDS", 0.0)
    return asked


class Silent:
    """A question to the hub that nobody answers."""

    def __init__(self, **_) -> None: ...
    def start(self) -> None: ...
    def join(self, _) -> None: ...


def test_python_docs_are_bundled_one_document_a_topic():
    from pydoc_data.topics import topics

    source = open_source("python_docs")
    rows = list(source.open())
    assert {row["topic"]: row["text"] for row in rows} == topics
    assert list(source.open()) == rows
    assert source.name.startswith("python_docs of Python 3.")
    with pytest.raises(ValueError, match="has no splits"):
        open_source("python_docs", split="test")


def test_local_files_follow_each_other_and_can_be_read_again(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.jsonl").write_text(f'{{"text": "{name}"}}\n')
    source = open_source(str(tmp_path))
    assert list(source.open()) == list(source.open()) == [{"text": "a"}, {"text": "b"}]
    assert "(2 files)" in source.name


@pytest.mark.parametrize("streaming", [False, True])
def test_a_hub_id_is_asked_for_with_all_its_options(fake_hub, streaming):
    source = open_source("me/data", subset="main", split="test", revision="abc", streaming=streaming)
    assert list(source.open()) == ROWS
    assert fake_hub == [("me/data", "main", "test", "abc", streaming, True)]  # silent hub: no retries, the cache
    assert (source.stream is not None) == streaming
    assert source.name == "me/data/main, test at abc"


def test_hub_mistakes_name_the_option(fake_hub):
    with pytest.raises(ValueError, match=r'dataset.split=tset: .*"train", "test"'):
        open_source("me/data", split="tset")
    with pytest.raises(ValueError, match=r"^dataset.heldout_split=tset: "):
        open_source("me/data", split="tset", split_option="dataset.heldout_split")
    with pytest.raises(ValueError, match=r"dataset.subset=wrong: .*'main'"):
        open_source("me/data", subset="wrong")
    with pytest.raises(FileNotFoundError, match=r"dataset.path=me/missing: .*does not answer .*no copy"):
        open_source("me/missing")
    assert datasets.config.HF_HUB_OFFLINE is False  # as it was before
