"""Training from a cache is training with the teacher that it is of: step by step, in any order, across a kill."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from kdlab.losses import CROSS_LOSSES, LOSSES
from kdlab.models.student import LoraConfig, StudentConfig
from kdlab.models.tiny import byte_tokenizer, save_tiny, tiny_model
from kdlab.reporting.report import write_page
from kdlab.teachers.codecs.hidden import HiddenCodec
from kdlab.teachers.codecs.topk import TopKCodec
from kdlab.teachers.options import TeacherConfig
from kdlab.text.prompts import PromptConfig
from kdlab.training.metrics_file import CLOCK
from kdlab.training.optimizers import SGD
from kdlab.training.recipe import GenerationConfig, TrainConfig

EXACT = TopKCodec(k=10_000, step=0)
"""Every token of a row, as it was said."""
Job = Callable[..., TrainConfig]
Start = Callable[[TrainConfig, Path], dict[str, Any]]


def rows(folder: Path) -> list[dict[str, str]]:
    """metrics.csv without what the clock says."""
    with (folder / "metrics.csv").open() as file:
        return [{k: v for k, v in row.items() if k not in CLOCK} for row in csv.DictReader(file)]


def losses(folder: Path) -> list[float]:
    return [float(row["loss"]) for row in rows(folder) if row["phase"] == "train"]


@pytest.fixture(scope="module")
def exact(job: Job, keep: Callable[..., TeacherConfig], tmp_path_factory: pytest.TempPathFactory) -> TeacherConfig:
    return keep(job(), tmp_path_factory.mktemp("caches") / "exact", EXACT)


CASES: dict[str, dict[str, Any]] = {
    "shuffled otherwise": {"seed": 3},
    "accumulated": {"batch_size": 2, "accumulate": 3},
    "packed": {"pack": True},
    "adapters": {"student": StudentConfig(path="tiny:gpt2", lora=LoraConfig(r=2))},
    "softened": {"loss": LOSSES["reverse_kl"](temperature=2.0, hard_weight=0.3)},
}


@pytest.mark.parametrize("case", CASES)
def test_every_step_has_the_loss_of_the_live_teacher(
    case: str, job: Job, start: Start, exact: TeacherConfig, tmp_path: Path
) -> None:
    options = dict(CASES[case])
    pack = options.pop("pack", False)
    live = job(**options, optimizer=SGD(lr=0.1))
    live.dataset.pack = pack
    cached = dataclasses.replace(live, teacher=exact)
    start(live, tmp_path / "live")
    record = start(cached, tmp_path / "cached")
    told = losses(tmp_path / "live")
    assert len(told) == 6
    assert losses(tmp_path / "cached") == pytest.approx(told, rel=1e-5)
    ours, theirs = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("cached", "live"))
    for name, weight in theirs.items():
        torch.testing.assert_close(ours[name], weight, rtol=0, atol=1e-5)
    after = json.loads((tmp_path / "live" / "run.json").read_text())["metrics"]["after"]
    assert record["metrics"]["after"]["kl"] == pytest.approx(after["kl"], rel=1e-4)


def test_a_killed_run_continues_bit_for_bit(
    job: Job, start: Start, kill_after: Any, exact: TeacherConfig, tmp_path: Path
) -> None:
    config = job(teacher=exact, accumulate=2, batch_size=2)
    start(config, tmp_path / "unbroken")
    for last in (4, 6):
        with kill_after(last):
            start(config, tmp_path / "killed")
    assert start(config, tmp_path / "killed")["resumed"] == 2
    assert rows(tmp_path / "killed") == rows(tmp_path / "unbroken")


@pytest.mark.slow
def test_hidden_states_stay_near(job: Job, start: Start, keep: Callable[..., TeacherConfig], tmp_path: Path) -> None:
    live = job(optimizer=SGD(lr=0.1), loss=LOSSES["jensen_shannon"](temperature=3.0))
    kept = keep(job(), tmp_path / "hidden", HiddenCodec())  # serves any loss, at any temperature
    start(live, tmp_path / "live")
    start(dataclasses.replace(live, teacher=kept), tmp_path / "cached")
    assert losses(tmp_path / "cached") == pytest.approx(losses(tmp_path / "live"), rel=0.02)


@pytest.mark.slow
def test_the_teachers_own_prompt(job: Job, start: Start, keep: Any, tmp_path: Path) -> None:
    chats = [{"question": f"how many is {i} and {i}?", "answer": f"{2 * i} it is"} for i in range(20)]
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in chats))
    live = job(prompt=PromptConfig(name="hinted", teacher="{question} Say {answer}!"), optimizer=SGD(lr=0.1))
    live.dataset = dataclasses.replace(live.dataset, path=str(tmp_path / "chats.jsonl"), max_length=128)
    kept = keep(live, tmp_path / "kept", EXACT)
    start(live, tmp_path / "live")
    start(dataclasses.replace(live, teacher=kept), tmp_path / "cached")
    assert losses(tmp_path / "cached") == pytest.approx(losses(tmp_path / "live"), rel=1e-5)
    with pytest.raises(
        ValueError, match=r"has no signal for .* prompt.teacher=\{question\} Say \{answer\}! \(now null"
    ):
        start(dataclasses.replace(live, teacher=kept, prompt=PromptConfig()), tmp_path / "other")


@pytest.mark.slow
@pytest.mark.parametrize(
    "pair", [("llama", "gpt2"), pytest.param(("t5", "llama"), marks=pytest.mark.slow), ("llama", "t5")], ids="_of_".join
)
def test_a_teacher_with_a_tokenizer_of_its_own(
    pair: tuple[str, str], job: Job, start: Start, keep: Any, tmp_path: Path
) -> None:
    chats = [{"prompt": f"how many is {i} and {i}?", "response": f"{2 * i} it is"} for i in range(20)]
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in chats))
    save_tiny(pair[1], tmp_path / "student")
    loss = CROSS_LOSSES["span_kl"]()
    live = job(
        teacher=TeacherConfig(path=f"tiny:{pair[0]}"),
        student=StudentConfig(path=str(tmp_path / "student")),
        loss=loss,
        optimizer=SGD(lr=0.1),
    )
    live.dataset = dataclasses.replace(live.dataset, path=str(tmp_path / "chats.jsonl"), max_length=128)
    kept = keep(live, tmp_path / "kept", HiddenCodec(error=1e-4))
    told = start(live, tmp_path / "live")["metrics"]["after"]
    found = start(dataclasses.replace(live, teacher=kept), tmp_path / "cached")["metrics"]["after"]
    assert losses(tmp_path / "cached") == pytest.approx(losses(tmp_path / "live"), rel=1e-3)
    assert found["divergence"] == pytest.approx(told["divergence"], rel=1e-3)


@pytest.mark.slow
def test_the_teachers_own_prompt_and_a_wider_head(job: Job, start: Start, keep: Any, tmp_path: Path) -> None:
    chats = [{"question": f"how many is {i} and {i}?", "answer": f"{2 * i} it is"} for i in range(20)]
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in chats))
    tiny_model("llama", vocab_size=400).save_pretrained(tmp_path / "wide")
    byte_tokenizer().save_pretrained(tmp_path / "wide")
    live = job(
        teacher=TeacherConfig(path=str(tmp_path / "wide")),
        student=StudentConfig(path="tiny:llama"),
        loss=LOSSES["forward_kl"](vocab="shared", max_cut_mass=1.0),
        prompt=PromptConfig(name="hinted", teacher="{question} Say {answer}!"),
        optimizer=SGD(lr=0.1),
    )
    live.dataset = dataclasses.replace(live.dataset, path=str(tmp_path / "chats.jsonl"), max_length=128)
    kept = keep(live, tmp_path / "kept", HiddenCodec(error=1e-4))
    told = start(live, tmp_path / "live")["metrics"]["after"]
    found = start(dataclasses.replace(live, teacher=kept), tmp_path / "cached")["metrics"]["after"]
    assert losses(tmp_path / "cached") == pytest.approx(losses(tmp_path / "live"), rel=1e-3)
    assert found["teacher_cut_mass"] == pytest.approx(told["teacher_cut_mass"], rel=1e-3)


@pytest.mark.slow
def test_what_a_teacher_without_a_model_leaves_out(
    job: Job, start: Start, exact: TeacherConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = start(job(teacher=exact), tmp_path / "run")
    said = capsys.readouterr().out
    assert said.count("it is no model here") == 1
    assert record["metrics"]["teacher"]["tokens_per_second"] is None
    assert record["metrics"]["teacher"]["perplexity"] > 1
    assert [sample["teacher"] for sample in record["samples"]] == [None, None]
    teacher = record["models"]["teacher"]
    assert teacher["codec"]["name"] == "topk"
    assert teacher["source"] == "tiny:llama, kept by codec=topk"
    assert teacher["parameters"] is None
    assert teacher["disk_bytes"] == sum(file.stat().st_size for file in Path(exact.path or "").glob("shard-*"))
    assert len(teacher["identity"]) == 64
    assert record["compression_ratio"] is None
    page = write_page([tmp_path / "run"], tmp_path / "page.html").read_text()
    assert "tiny:llama, kept by codec=topk" in page


def test_answers_of_the_student_alone(job: Job, start: Start, keep: Any, tmp_path: Path) -> None:
    chats = [{"prompt": f"question {i}", "response": f"answer {i}"} for i in range(12)]
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in chats))
    config = job(max_steps=1)
    config.dataset = dataclasses.replace(config.dataset, path=str(tmp_path / "chats.jsonl"))
    config.benchmark.generation = GenerationConfig(metrics=["chrf"], max_new_tokens=4)
    record = start(dataclasses.replace(config, teacher=keep(config, tmp_path / "kept", EXACT)), tmp_path / "run")
    assert "generation" in record["metrics"]["after"]
    assert "generation" not in record["metrics"]["teacher"]


def trained(folder: Path, seed: int) -> TeacherConfig:
    """The model of a folder, as it is after training with a seed."""
    return TeacherConfig(path=str(save_tiny("llama", folder, seed=seed)))


def test_a_teacher_that_was_trained_on_is_refused_by_the_checkpoint(
    job: Job, start: Start, kill_after: Any, tmp_path: Path
) -> None:
    config = job(teacher=trained(tmp_path / "teacher", 1))
    with kill_after(5):
        start(config, tmp_path / "run")
    trained(tmp_path / "teacher", 2)
    with pytest.raises(ValueError, match=r"its weights are others than those that the checkpoint in .* was made with"):
        start(config, tmp_path / "run")
    trained(tmp_path / "teacher", 1)
    assert start(config, tmp_path / "run")["resumed"] >= 1


def test_a_teacher_that_was_trained_on_is_measured_anew(
    job: Job, start: Start, kill_after: Any, tmp_path: Path
) -> None:
    config = job(teacher=trained(tmp_path / "teacher", 1), student=StudentConfig(path="tiny:llama"))
    found = []
    for seed in (1, 2):
        trained(tmp_path / "teacher", seed)
        with kill_after(1):
            start(config, tmp_path / "run")
        found.append(json.loads((tmp_path / "run" / "before.json").read_text()))
    assert found[0]["key"] != found[1]["key"]
    assert found[0]["teacher"]["nll"] != found[1]["teacher"]["nll"]
    assert found[0]["student"]["nll"] == found[1]["student"]["nll"]


def test_a_cache_of_other_data_is_refused_before_anything_is_measured(
    job: Job, start: Start, exact: TeacherConfig, tmp_path: Path
) -> None:
    config = job(teacher=exact)
    config.dataset.max_length = 32
    with pytest.raises(ValueError, match=r"has no signal for \d+ of \d+ training examples \(row \d+ of the dataset"):
        start(config, tmp_path / "run")
    error = json.loads((tmp_path / "run" / "run.json").read_text())["error"]
    assert "it was made with dataset.max_length=64 (now 32): use that again" in error
    assert not (tmp_path / "run" / "before.json").exists()


@pytest.mark.slow
def test_a_cut_student_wants_the_weights_that_were_asked(job: Job, start: Start, keep: Any, tmp_path: Path) -> None:
    live = job(teacher=trained(tmp_path / "teacher", 1), optimizer=SGD(lr=0.1))
    cached = dataclasses.replace(live, teacher=keep(live, tmp_path / "kept", EXACT))
    start(live, tmp_path / "live")
    start(cached, tmp_path / "cached")
    assert losses(tmp_path / "cached") == pytest.approx(losses(tmp_path / "live"), rel=1e-5)
    trained(tmp_path / "teacher", 2)
    with pytest.raises(ValueError, match=r"student.from_teacher: .* is of other weights than .* has now"):
        start(cached, tmp_path / "again")
    alone = dataclasses.replace(cached, student=StudentConfig(path="tiny:llama"))
    assert start(alone, tmp_path / "alone")["status"] == "finished"  # the cache itself is as it was


@pytest.mark.parametrize("origin", ["path", "architecture"])
def test_a_student_of_another_vocabulary_is_refused(
    origin: str, job: Job, start: Start, exact: TeacherConfig, tmp_path: Path
) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens(["<more>"])
    folder = tmp_path / "other"
    save_tiny("llama", folder)
    tokenizer.save_pretrained(folder)
    given: dict[str, Any] = {"path": {"path": str(folder)}, "architecture": {"tokenizer": str(folder)}}[origin]
    if origin == "architecture":
        given["architecture"] = {"model_type": "llama", "hidden_size": 32, "num_hidden_layers": 1}
    with pytest.raises(ValueError, match=r"different vocabularies|tokenizer has"):
        start(job(teacher=exact, student=StudentConfig(**given)), tmp_path / "run")


def test_a_bare_student_predicts_what_the_cache_is_over(
    job: Job, start: Start, exact: TeacherConfig, tmp_path: Path
) -> None:
    bare = {"model_type": "llama", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}
    config = job(teacher=exact, student=StudentConfig(architecture=bare), max_steps=2)
    assert start(config, tmp_path / "run")["status"] == "finished"
