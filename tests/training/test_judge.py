"""`teacher.heldout`: another cache of the same teacher says what held-out rows are measured by."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kdlab.models.tiny import save_tiny
from kdlab.teachers.codecs import Codec
from kdlab.teachers.codecs.dense import DenseCodec
from kdlab.teachers.codecs.hidden import HiddenCodec
from kdlab.teachers.codecs.sampled import SampledCodec
from kdlab.teachers.codecs.topk import TopKCodec
from kdlab.teachers.options import TeacherConfig
from kdlab.training.optimizers import SGD
from kdlab.training.recipe import TrainConfig

Job = Callable[..., TrainConfig]
Start = Callable[[TrainConfig, Path], dict[str, Any]]
Keep = Callable[[TrainConfig, Path, Codec], TeacherConfig]
NUMBERS = ("kl", "top1_agreement", "teacher_nll", "teacher_perplexity")


@pytest.fixture(scope="module")
def few(job: Job, keep: Keep, tmp_path_factory: pytest.TempPathFactory) -> TeacherConfig:
    return keep(job(), tmp_path_factory.mktemp("caches") / "few", TopKCodec(k=4))


@pytest.mark.parametrize("codec", [DenseCodec(), HiddenCodec(error=1e-4)], ids=["dense", "hidden"])
def test_it_measures_as_the_live_teacher_does(
    codec: Codec, job: Job, start: Start, keep: Keep, few: TeacherConfig, tmp_path: Path
) -> None:
    whole = keep(job(), tmp_path / "whole", codec)
    stay = SGD(lr=1e-12)  # so that all three students are the same
    live = start(job(max_steps=1, optimizer=stay), tmp_path / "live")["metrics"]
    alone = start(job(max_steps=1, optimizer=stay, teacher=few), tmp_path / "alone")["metrics"]
    judged_by = dataclasses.replace(few, heldout=whole.path)
    judged = start(job(max_steps=1, optimizer=stay, teacher=judged_by), tmp_path / "judged")["metrics"]
    for when in ("before", "after"):
        assert alone[when]["kl_is"] == "lower bound"
        assert alone[when]["kl"] < live[when]["kl"] * 0.99
        assert "kl_is" not in judged[when]
        for name in NUMBERS:
            assert judged[when][name] == pytest.approx(live[when][name], rel=2e-3), name
        assert judged[when]["nll"] == alone[when]["nll"]
    assert judged["teacher"]["nll"] == pytest.approx(live["teacher"]["nll"], rel=2e-3)


def test_what_is_learnt_does_not_depend_on_it(
    job: Job, start: Start, keep: Keep, few: TeacherConfig, tmp_path: Path
) -> None:
    judge = keep(job(), tmp_path / "draws", SampledCodec(draws=5))
    found = [
        start(job(max_steps=3, teacher=dataclasses.replace(few, heldout=path)), tmp_path / str(number))
        for number, path in enumerate((None, judge.path))
    ]
    assert found[0]["metrics"]["after"]["nll"] == found[1]["metrics"]["after"]["nll"]
    after = found[1]["metrics"]["after"]
    assert after["kl_is"] == "unbiased estimate"
    assert "top1_agreement" not in after


def test_another_teacher_is_no_judge(job: Job, start: Start, keep: Keep, few: TeacherConfig, tmp_path: Path) -> None:
    other = TeacherConfig(path=str(save_tiny("llama", tmp_path / "other", seed=9)))
    judge = keep(job(teacher=other), tmp_path / "judge", DenseCodec())
    with pytest.raises(ValueError, match=r"teacher.heldout=.*: is of another teacher than teacher.path=.*"):
        start(job(teacher=dataclasses.replace(few, heldout=judge.path)), tmp_path / "run")


def test_the_same_weights_elsewhere_are_the_same_teacher(job: Job, start: Start, keep: Keep, tmp_path: Path) -> None:
    kept = {}
    for place, codec in (("here", TopKCodec(k=4)), ("there", DenseCodec())):
        teacher = TeacherConfig(path=str(save_tiny("llama", tmp_path / place, seed=1)))
        kept[place] = keep(job(teacher=teacher), tmp_path / f"kept {place}", codec)
    teacher = dataclasses.replace(kept["here"], heldout=kept["there"].path)
    assert "kl_is" not in start(job(teacher=teacher, max_steps=1), tmp_path / "run")["metrics"]["after"]


def test_what_it_lacks_is_named_by_its_option(
    job: Job, start: Start, keep: Keep, few: TeacherConfig, tmp_path: Path
) -> None:
    shorter = job()
    shorter.dataset = dataclasses.replace(shorter.dataset, max_length=32)
    judge = keep(shorter, tmp_path / "judge", DenseCodec())
    with pytest.raises(ValueError, match=r"^teacher.heldout=.*: has no signal for \d of \d held-out examples \(row"):
        start(job(teacher=dataclasses.replace(few, heldout=judge.path)), tmp_path / "run")
    assert not (tmp_path / "run" / "before.json").exists()
