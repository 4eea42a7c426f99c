"""A cache that is filled by a server: however the connection fails and the process dies, its bytes are the same."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import multiprocessing
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from kdlab.batch import Batch
from kdlab.caching.job import cache
from kdlab.caching.recipe import CacheConfig
from kdlab.data.dataset import DatasetConfig, Side, build
from kdlab.models.student import StudentConfig
from kdlab.rows import IGNORE, supervised
from kdlab.teachers.cached import CachedTeacher
from kdlab.teachers.codecs import TopKCodec
from kdlab.teachers.options import ServerConfig, TeacherConfig
from kdlab.teachers.remote import RemoteTeacher
from kdlab.training.recipe import TrainerConfig

LINES = 24
FAULTS = ",drop,500,,cut,short,refuse,,nan,,ids"


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    file = tmp_path / "texts.jsonl"
    lines = [{"text": f"{i} " + "abcdefgh "[: 3 + i % 7] * (1 + i % 3)} for i in range(LINES)]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def told(texts: Path, url: str, **server: Any) -> CacheConfig:
    options = {"k": 4, "pause": 0.01, "timeout": 10.0, "batch_size": 2, "concurrency": 2} | server
    return CacheConfig(
        name="test",
        teacher=TeacherConfig(source="openai", path="tiny:llama", server=ServerConfig(url=url, **options)),
        student=StudentConfig(path="tiny:llama"),
        dataset=DatasetConfig(path=str(texts), max_length=32, cache_dir=str(texts.parent / "cache"), heldout=3),
        codec=TopKCodec(k=4, step=0),
        trainer=TrainerConfig(batch_size=4, accelerator="cpu", precision="32", progress=False, max_steps=1),
        shard_rows=100,
        fidelity_rows=0,
    )


def shards(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.glob("shard-*"))}


def seen(url: str) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(url.removesuffix("v1") + "stats", trust_env=False).json()
    return found


def by_id(signal: Any) -> Any:
    """The entries of each row in the order of their ids."""
    ids_NK, order_NK = signal.ids_NK.sort(dim=1)
    return dataclasses.replace(signal, ids_NK=ids_NK, logp_NK=signal.logp_NK.gather(1, order_NK))


@pytest.mark.slow
def test_faults_and_a_kill_leave_the_same_bytes(root: str, texts: Path, tmp_path: Path) -> None:
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("no fork here: a second process would load everything again")
    plain, other = f"{root}/speaks=vllm;id=plain/v1", tmp_path / "other"
    cache(told(texts, plain), output_dir=tmp_path / "plain", overrides=[])
    wanted = shards(tmp_path / "plain")
    assert len(wanted) > 3

    slow = told(texts, f"{root}/speaks=vllm;id=killed;delay=0.1/v1")
    arguments = {"output_dir": other, "overrides": []}
    victim = multiprocessing.get_context("fork").Process(target=cache, args=(slow,), kwargs=arguments)
    victim.start()
    deadline = time.monotonic() + 60
    while not shards(other) and victim.is_alive() and time.monotonic() < deadline:
        time.sleep(0.01)
    victim.kill()
    victim.join()
    kept = shards(other)
    assert 0 < len(kept) < len(wanted)

    url = f"{root}/speaks=vllm;id=faulty;faults={FAULTS}/v1"
    cache(told(texts, url), **arguments)
    assert shards(other) == wanted
    assert sum(seen(url)["texts"]) < sum(seen(plain)["texts"]) + 2 * FAULTS.count(",")  # what was there stays

    there, cached = (
        told(texts, f"{root}/speaks=sglang;owner=sglang/v1"),
        TeacherConfig(source="cached", path=str(other)),
    )
    live = RemoteTeacher(there.teacher)
    example = build(there.dataset, Side(tokenizer=live.tokenizer, entries=259), None, prompt=there.prompt).train[0]
    ids_BT, shown_BT = torch.tensor([example.input_ids.tolist()]), torch.tensor([list(example.supervised)]).bool()
    batch = Batch(
        input_ids_BT=ids_BT,
        labels_BT=torch.where(shown_BT, ids_BT, IGNORE),
        attention_mask_BT=torch.ones_like(ids_BT),
    )
    positions_N, _ = supervised(batch.labels_BT, shift=True)
    told_by, kept_by = (by_id(teacher.signal(batch, positions_N)) for teacher in (live, CachedTeacher.open(cached)))
    for name in ("ids_NK", "logp_NK", "rest_N", "logp_label_N"):
        torch.testing.assert_close(getattr(kept_by, name), getattr(told_by, name), rtol=0, atol=1e-5)


def test_a_server_that_gives_up_leaves_what_was_made(root: str, texts: Path, tmp_path: Path) -> None:
    url = f"{root}/speaks=vllm;id=dying;faults={',' * 12}{'500,' * 200}/v1"
    with pytest.raises(
        ValueError, match=r"no good answer in 2 attempts, the last: 500 .*; what was done so far is kept"
    ):
        cache(told(texts, url, attempts=2), output_dir=tmp_path / "part", overrides=[])
    kept = shards(tmp_path / "part")
    assert kept
    cache(told(texts, f"{root}/speaks=vllm;id=back/v1"), output_dir=tmp_path / "part", overrides=[])
    assert kept.items() < shards(tmp_path / "part").items()
