"""A cache is the same whoever writes it, however often he is killed, and never mixes with another."""

from __future__ import annotations

import dataclasses
import errno
import json
import multiprocessing
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch

from kdlab.caching.filling import claim, first_shard
from kdlab.caching.job import cache
from kdlab.caching.recipe import CacheConfig
from kdlab.data.collate import padded
from kdlab.data.dataset import Side, build
from kdlab.models.tiny import byte_tokenizer, save_tiny
from kdlab.rows import TopK, supervised
from kdlab.teachers.cache.keys import keys_of
from kdlab.teachers.cache.manifest import Manifest, read_manifest
from kdlab.teachers.cache.storage import Folder
from kdlab.teachers.cache.store import SignalCache
from kdlab.teachers.cache.verify import verify
from kdlab.teachers.codecs.hidden import HiddenCodec
from kdlab.teachers.codecs.topk import TopKCodec
from kdlab.teachers.live import load_teacher
from kdlab.teachers.options import TeacherConfig
from kdlab.training.recipe import TrainerConfig

Job = Callable[..., CacheConfig]
Run = Callable[[CacheConfig, Path], Manifest]
Content = Callable[[Path], dict[str, bytes]]
KillAt = Callable[[int], AbstractContextManager[None]]


def shards(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.glob("shard-*"))


def test_every_example_is_answered_as_the_teacher_would(job: Job, run: Run, tmp_path: Path) -> None:
    config = job(codec=TopKCodec(k=259, step=0))
    manifest = run(config, tmp_path)
    teacher, kept = load_teacher(config.teacher), SignalCache(str(tmp_path))
    data = build(config.dataset, Side(tokenizer=byte_tokenizer()))
    assert len(manifest.shards) > 2
    rows = 0
    for store in (data.heldout, data.train):
        batch = padded([store[i] for i in reversed(range(len(store)))], store.layout(pad_id=0))  # not as it was asked
        found = keys_of(batch)
        signal = kept.signal([key for key, _ in found])
        assert isinstance(signal, TopK)
        positions_N, _ = supervised(batch.labels_BT, shift=True)
        side = teacher.signal(batch, positions_N).dense().logits_NV.log_softmax(-1)  # type: ignore[union-attr]
        torch.testing.assert_close(signal.logp_NK, side.gather(1, signal.ids_NK), atol=1e-5, rtol=0)
        rows += len(signal)
    counts = manifest.counts
    assert counts["repeated"] == 1
    assert counts["heldout"] == len(data.heldout)
    assert counts["entries"] == counts["heldout"] + counts["train"] == len(data.heldout) + len(data.train) - 1
    assert rows > counts["rows"]  # one example comes twice


@pytest.mark.parametrize("codec", [TopKCodec(k=4), HiddenCodec()], ids=["topk", "hidden"])
def test_killed_three_times_it_is_the_same_to_the_byte(
    job: Job,
    run: Run,
    content: Content,
    kill_at: KillAt,
    tmp_path: Path,
    codec: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = job(codec=codec, shard_rows=80)
    run(config, tmp_path / "whole")
    broken, there = tmp_path / "broken", []
    for last in (2, 3, 2):
        with kill_at(last):
            run(config, broken)
        there.append(len(shards(broken)))
        assert read_plan_only(broken)
    capsys.readouterr()
    run(config, broken)
    assert f"continuing: {there[-1]} of " in capsys.readouterr().out
    assert there == sorted(there)
    assert there[-1] >= 1
    assert content(broken) == content(tmp_path / "whole")
    assert verify(str(broken)) == []


def read_plan_only(folder: Path) -> bool:
    """Whether the cache is begun and not finished, and says so to a reader."""
    with pytest.raises(ValueError, match=r"not finished, \d+ of \d+ shards are there; finish it by: kdlab cache name="):
        read_manifest(str(folder))
    return (folder / "plan.json").is_file()


def test_no_more_than_a_shard_is_done_twice(
    job: Job, run: Run, kill_at: KillAt, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from kdlab.caching.filling import Filling

    made: list[int] = []
    inner = Filling.made

    def counted(self: Filling, number: int) -> bytes:
        made.append(number)
        return inner(self, number)

    monkeypatch.setattr(Filling, "made", counted)
    config = job(shard_rows=100)
    with kill_at(4):
        run(config, tmp_path)
    run(config, tmp_path)
    assert len(made) == len(set(made)) + 1
    run(config, tmp_path)
    assert len(made) == len(set(made)) + 1


def test_a_finished_cache_is_left_alone(
    job: Job, run: Run, content: Content, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = run(job(), tmp_path)
    before = content(tmp_path)
    assert run(job(), tmp_path) == first
    assert "this cache is finished" in capsys.readouterr().out
    assert content(tmp_path) == before


def fill(config: CacheConfig, folder: Path) -> None:
    cache(config, output_dir=folder.parent / "jobs", overrides=[])


def test_two_processes_fill_one_cache(job: Job, content: Content, tmp_path: Path) -> None:
    config = job(shard_rows=60, output=str(tmp_path / "both"))
    context = multiprocessing.get_context("fork")  # libraries are loaded once
    workers = [context.Process(target=fill, args=(config, tmp_path / "both")) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0, 0]
    fill(dataclasses.replace(config, output=str(tmp_path / "alone")), tmp_path / "alone")
    assert content(tmp_path / "both") == content(tmp_path / "alone")
    processes = json.loads((tmp_path / "jobs" / "cache.json").read_text())["processes"]
    manifest = read_manifest(str(tmp_path / "both"))
    assert sum(process["rows"] for process in processes) == 2 * manifest.counts["rows"]


def test_a_claimed_shard_is_left_to_its_holder(
    job: Job, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    held = claim(Folder(tmp_path), "shard-00001.safetensors")
    assert held.__enter__()
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            held.__exit__(None, None, None)  # the holder dies

    monkeypatch.setattr("kdlab.caching.filling.sleep", sleep)
    run(job(), tmp_path)
    assert len(waits) == 2
    assert capsys.readouterr().out.count("waiting for 1 shards that other processes are making") == 1
    assert verify(str(tmp_path)) == []


def test_processes_begin_at_different_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "4")
    monkeypatch.setenv("SLURM_ARRAY_TASK_MIN", "1")
    begins = []
    for task in range(1, 5):
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", str(task))
        begins.append(first_shard(10))
    assert begins == [0, 2, 5, 7]
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID")
    assert 0 <= first_shard(10) < 10
    assert first_shard(0) == 0


OTHERS: list[tuple[dict[str, Any], str]] = [
    ({"codec": TopKCodec(k=5)}, "codec.k=5 (was 4)"),
    ({"codec": HiddenCodec()}, "codec=hidden (was topk)"),
    ({"teacher": TeacherConfig(path="tiny:gpt2")}, "teacher.path=tiny:gpt2 (was tiny:llama)"),
    ({"teacher": TeacherConfig(path="tiny:llama", dtype="bfloat16")}, "teacher.dtype=bfloat16 (was float32)"),
    ({"max_length": 40}, "dataset.max_length=40 (was 64)"),
    ({"seed": 1}, "seed=1 (was 0)"),
    ({"shard_rows": 50}, "shard_rows=50 (was 200)"),
]


def test_another_cache_in_the_same_place_is_refused(job: Job, run: Run, kill_at: KillAt, tmp_path: Path) -> None:
    with kill_at(2):
        run(job(), tmp_path)
    before = sorted(tmp_path.rglob("*"))
    for options, part in OTHERS:
        with pytest.raises(ValueError, match="another cache lies here: ") as refused:
            run(job(**options), tmp_path)
        assert part in str(refused.value)
        assert "\n" not in str(refused.value)
        assert sorted(tmp_path.rglob("*")) == before


def test_without_its_manifest_a_cache_is_known_by_its_shards(
    job: Job, run: Run, content: Content, tmp_path: Path
) -> None:
    run(job(), tmp_path)
    whole, times = content(tmp_path), [(tmp_path / name).stat().st_mtime_ns for name in shards(tmp_path)]
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match=r"manifest\.json is damaged .*; delete it and run the same"):
        run(job(), tmp_path)
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(ValueError, match=r"has shards of another cache, and no plan\.json of it"):
        run(job(seed=1), tmp_path)
    run(job(), tmp_path)
    assert content(tmp_path) == whole
    assert [(tmp_path / name).stat().st_mtime_ns for name in shards(tmp_path)] == times, "nothing was made again"


def test_what_only_says_how_the_data_are_batched_is_no_other_cache(
    job: Job, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = run(job(), tmp_path)
    assert run(job(group_by_length=True, trainer=TrainerConfig(batch_size=32, accelerator="cpu")), tmp_path) == first
    assert "trainer.batch_size: 2,048 tokens at once (was 1,024): signals may differ" in capsys.readouterr().out


def test_other_weights_in_the_same_folder_are_another_teacher(
    job: Job, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KDLAB_CACHE", str(tmp_path / "kdlab"))
    teacher = TeacherConfig(path=str(save_tiny("llama", tmp_path / "model", seed=1)))
    run(job(teacher=teacher), tmp_path / "cache")
    save_tiny("llama", tmp_path / "model", seed=2)
    with pytest.raises(ValueError, match=r"the weights of teacher\.path=.*model \(they were others\)"):
        run(job(teacher=teacher), tmp_path / "cache")


def test_another_version_is_said_and_not_refused(
    job: Job,
    run: Run,
    kill_at: KillAt,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with kill_at(2):
        run(job(), tmp_path)
    from kdlab.caching import planning

    newer = planning.versions() | {"torch": "9.9"}
    monkeypatch.setattr(planning, "versions", lambda: newer)
    run(job(), tmp_path)
    assert "torch 9.9 (was 2." in capsys.readouterr().out


def test_a_full_disk_before_and_in_the_middle(
    job: Job, run: Run, content: Content, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr("shutil.disk_usage", lambda path: usage._replace(free=1000))
        with pytest.raises(ValueError, match=r"output=.*: needs about .* KiB, and 1\.0 KiB are free; make room"):
            run(job(), tmp_path / "broken")
    assert not list((tmp_path / "broken").glob("*"))  # nothing was begun
    write, written = Folder.write, []

    def full(self: Folder, name: str, content: bytes) -> None:
        written.append(name)
        if sum(name.startswith("shard-") for name in written) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, name, content)

    with monkeypatch.context() as patched:
        patched.setattr(Folder, "write", full)
        with pytest.raises(ValueError, match=r"No space left on device; 2 of \d+ shards are there; make room and run"):
            run(job(), tmp_path / "broken")
    run(job(), tmp_path / "broken")
    run(job(), tmp_path / "whole")
    assert content(tmp_path / "broken") == content(tmp_path / "whole")


@pytest.mark.parametrize("damage", ["flip", "cut", "other", "gone"])
def test_a_damaged_shard_is_made_again(
    job: Job,
    run: Run,
    content: Content,
    kill_at: KillAt,
    tmp_path: Path,
    damage: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run(job(), whole)
    if damage == "flip":  # a shard of a cache that is not finished is read through when all are there
        with kill_at(3):
            run(job(), broken)
    else:
        shutil.copytree(whole, broken)
    file = broken / shards(broken)[0]
    bytes_ = bytearray(file.read_bytes())
    if damage == "flip":
        bytes_[-1 - len(bytes_) // 2] ^= 4
        file.write_bytes(bytes_)
    elif damage == "cut":
        file.write_bytes(bytes_[:-10])
    elif damage == "other":
        file.write_bytes((broken / shards(broken)[1]).read_bytes())
    else:
        file.unlink()
    run(job(), broken)
    out = capsys.readouterr().out
    assert damage == "gone" or f"{file}: " in out
    assert damage == "gone" or "it is made again" in out
    assert content(broken) == content(whole)


def test_a_cache_far_away(
    job: Job, run: Run, content: Content, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fsspec

    monkeypatch.setenv("KDLAB_CACHE", str(tmp_path / "kdlab"))
    manifest = run(job(output="memory://caches/a"), tmp_path / "job")
    run(job(output=f"file://{tmp_path}/near"), tmp_path / "job")
    store = fsspec.filesystem("memory")
    found = {path.partition("caches/a/")[2]: store.cat_file(path) for path in store.find("/caches/a")}
    assert found == content(tmp_path / "near")
    assert verify("memory://caches/a") == []
    kept, near = SignalCache("memory://caches/a"), SignalCache(str(tmp_path / "near"))
    assert kept.identity == manifest.identity
    keys = [bytes(key) for key in near._index.keys]
    left, right = kept.signal(keys), near.signal(keys)
    assert isinstance(left, TopK)
    assert isinstance(right, TopK)
    assert torch.equal(left.logp_NK, right.logp_NK)
    store.rm("/caches/a/shard-00000.safetensors")
    assert verify("memory://caches/a")[0].startswith("shard-00000.safetensors: is missing")
    with pytest.raises(ValueError, match=r"shard-00000\.safetensors is missing"):
        SignalCache("memory://caches/a")
    assert run(job(output="memory://caches/a"), tmp_path / "job") == manifest


def test_a_stream_is_refused(job: Job, run: Run, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"dataset\.streaming=true: a cache is planned before it is written"):
        run(job(streaming=True), tmp_path)


def test_nothing_of_the_day_or_the_machine_is_kept(job: Job, run: Run, tmp_path: Path) -> None:
    run(job(output=str(tmp_path / "a")), tmp_path / "job")
    manifest = (tmp_path / "a" / "manifest.json").read_text()
    assert str(tmp_path / "a") not in manifest
    assert "seconds" not in manifest
    record = json.loads((tmp_path / "job" / "cache.json").read_text())
    assert record["processes"][0]["rows_per_second"] > 0
    assert record["processes"][0]["hardware"]["device"] == "cpu"
