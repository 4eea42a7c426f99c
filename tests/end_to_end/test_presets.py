"""Every shipped preset, run end to end on tiny random models of the architectures that it names."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, PreTrainedTokenizerFast

from kdlab.caching.job import cache
from kdlab.config import load
from kdlab.config.options import conf_dir
from kdlab.models.tiny import VOCABULARY, byte_tokenizer
from kdlab.training.run import train

sys.path.append(str(Path(__file__).parents[1] / "models"))
from architectures import random_model
from encoder_decoders import random_seq2seq

ELSEWHERE = {"smoke", "quickstart", "helpsteer2_teacher", "helpsteer2_student", "classify_small"}
"""`smoke` runs in test_resume.py, and `quickstart` is `smoke` with a real model; those that classify in
test_classifier_presets.py. Pipelines run in tests/pipelines."""

TEXT = [{"text": f"{i} it was a dark and stormy night; the rain fell in torrents"} for i in range(8)]
ASKED = [{"instruction": f"say {i}", "context": "as it is", "response": f"it is {i}"} for i in range(8)]
TALK = [
    {"messages": [{"role": role, "content": f"{i} {said}"} for role, said in (("user", "hi"), ("assistant", "hello"))]}
    for i in range(8)
]
NEWS = [{"article": f"{i} men walked home", "highlights": f"{i} men went"} for i in range(8)]
MATHS = [{"question": f"{i} apples and {i} more?", "answer": f"{i} + {i} = {2 * i}\n#### {2 * i}"} for i in range(8)]
PAPERS = [{"source": [f"We walk {i} miles.", "It rains."], "target": [f"walks of {i} miles"]} for i in range(8)]

QUICK = [
    "trainer.max_steps=2", "trainer.batch_size=2", "trainer.accelerator=cpu", "trainer.progress=false",
    "trainer.evaluate_every=null", "dataset.max_length=64", "dataset.split=train",
    "benchmark.samples=1", "benchmark.max_new_tokens=4", "benchmark.speed=false",
]  # fmt: skip
JUDGED = ["benchmark.generation.examples=2", "benchmark.generation.max_new_tokens=4"]
SPLIT = ["dataset.heldout_split=validation"]
MORE = {"max_position_embeddings": 128}
SOLVED = ["prompt=ground_truth", "dataset.subset=null", "dataset.heldout=2", "dataset.max_length=512"]
LONG = {"max_position_embeddings": 1024}

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., str]:
    """`saved("opt", seed=1)`: a folder with that architecture, random and tiny, and the byte tokenizer."""

    def save(name: str, *, entries: int = VOCABULARY, seed: int = 0, **changes: Any) -> str:
        make = random_seq2seq if name in ("t5", "flan_t5") else random_model
        folder = tmp_path / f"{name}-{seed}"
        make(name, seed=seed, vocab_size=entries, **changes).save_pretrained(folder)
        byte_tokenizer().save_pretrained(folder)
        return str(folder)

    return save


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """`run("opt_wikitext", rows, "trainer.max_steps=1")`: the preset on these rows; the content of run.json."""

    def go(preset: str, rows: list[dict[str, Any]], *overrides: str, folder: str = "run") -> dict[str, Any]:
        loaded = load("train", [f"experiment={preset}", *QUICK, *on_disk(tmp_path, rows), *overrides])
        assert loaded.config.name == preset
        output = tmp_path / folder
        return train(loaded.config, output_dir=output, resolved=loaded.resolved, overrides=list(loaded.overrides))

    return go


def on_disk(folder: Path, rows: list[dict[str, Any]]) -> list[str]:
    """The rows as files, and the options that read them."""
    data = folder / "data"
    data.mkdir(exist_ok=True)
    for split, part in (("train", rows[:5]), ("validation", rows[5:])):
        (data / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    return [f"dataset.path={data}", f"dataset.cache_dir={folder / 'cache'}"]


def check(record: dict[str, Any], folder: Path, *, judged: int = 0, kind: Any = AutoModelForCausalLM) -> None:
    """It finished, its numbers are finite, its model loads, its answers are kept."""
    assert (record["status"], record["steps"]) == ("finished", 2)
    before, after = record["metrics"]["before"], record["metrics"]["after"]
    assert all(math.isfinite(stage[name]) for stage in (before, after) for name in ("nll", "perplexity", "kl"))
    assert before["nll"] != after["nll"]
    kind.from_pretrained(folder / "model")
    for who in ("teacher", "before", "after") if judged else ():
        found = record["metrics"][who]["generation"]
        assert found["examples"] == judged
        assert 0 <= found["rougeL"] <= 100
    if judged:
        lines = (folder / "generations.jsonl").read_text().splitlines()
        assert all(json.loads(line)["reference"] for line in lines)
        assert len(lines) == judged


def test_opt_wikitext(saved, run: Run, tmp_path: Path) -> None:
    paths = [f"teacher.path={saved('opt', layers=4, **MORE)}", f"student.path={saved('opt', seed=1, **MORE)}"]
    check(run("opt_wikitext", TEXT, *paths, *SPLIT), tmp_path / "run")


def test_flan_t5_dolly(saved, run: Run, tmp_path: Path) -> None:
    paths = [f"teacher.path={saved('flan_t5', layers=4)}", f"student.path={saved('flan_t5', seed=1)}"]
    record = run("flan_t5_dolly", ASKED, *paths, *JUDGED, "dataset.heldout=2")
    check(record, tmp_path / "run", judged=2, kind=AutoModelForSeq2SeqLM)
    assert record["data"]["reading"]["format"] == "instruction"


def test_llama2_ultrachat(saved, run: Run, tmp_path: Path) -> None:
    paths = [f"teacher.path={saved('llama', layers=4, **MORE)}", f"student.path={saved('llama', seed=1, **MORE)}"]
    record = run("llama2_ultrachat", TALK, *paths, *SPLIT, "trainer.batch_size=1", "trainer.accumulate=2")
    check(record, tmp_path / "run")
    assert (tmp_path / "run" / "adapter").is_dir()
    assert record["data"]["reading"]["format"] == "messages"


def test_gptj_neo(saved, run: Run, tmp_path: Path) -> None:
    paths = [
        f"teacher.path={saved('gptj', entries=VOCABULARY + 7, layers=4, n_positions=128)}",
        f"student.path={saved('gpt_neo', seed=1, **MORE)}",
    ]
    record = run("gptj_neo", TEXT, *paths, "dataset.heldout=2", "loss.max_cut_mass=0.5")
    check(record, tmp_path / "run")
    assert 0 < record["metrics"]["after"]["teacher_cut_mass"] < 0.5
    assert record["data"]["stream"]["rows"] > 0
    assert AutoConfig.from_pretrained(tmp_path / "run" / "model").vocab_size == VOCABULARY


def test_t5_cnn_dailymail(saved, run: Run, tmp_path: Path) -> None:
    paths = [f"teacher.path={saved('t5', layers=4)}", f"student.path={saved('t5', seed=1)}"]
    record = run("t5_cnn_dailymail", NEWS, *paths, *SPLIT, *JUDGED)
    check(record, tmp_path / "run", judged=2, kind=AutoModelForSeq2SeqLM)
    lines = (tmp_path / "run" / "generations.jsonl").read_text().splitlines()
    assert all(json.loads(line)["prompt"].startswith("summarize: ") for line in lines)


def test_cross_tokenizer(run: Run, tmp_path: Path) -> None:
    """The teacher has bytes for tokens, the student pieces of words, from a tokenizer trained on the rows."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<eos>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    core.train_from_iterator((row["text"] for row in TEXT), trainer)
    reader = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<eos>", pad_token="<eos>")
    random_model("llama", vocab_size=len(reader), **MORE).save_pretrained(tmp_path / "student")
    reader.save_pretrained(tmp_path / "student")
    paths = ["teacher=tiny", "student=pretrained", f"student.path={tmp_path / 'student'}", "student.tokenizer=null"]
    record = run("cross_tokenizer", TEXT, *paths, "dataset.heldout=2")
    assert record["steps"] == 2
    after, teacher = record["metrics"]["after"], record["metrics"]["teacher"]
    assert all(math.isfinite(after[name]) for name in ("nll", "bits_per_byte", "divergence"))
    assert math.isfinite(teacher["bits_per_byte"])
    assert 0.9 < after["aligned"] <= 1
    assert "kl" not in after


@pytest.mark.slow
def test_scitldr_teaches_a_teacher_and_then_a_student(run: Run, tmp_path: Path) -> None:
    small = [f"student.architecture.{name}={size}" for name, size in (("d_model", 32), ("d_kv", 8), ("d_ff", 48))]
    small += ["student.architecture.num_layers=1", "student.architecture.num_decoder_layers=1"]
    common = ["student.tokenizer=tiny:t5", *small, *JUDGED]
    taught = run("scitldr", PAPERS, *common, "student.architecture.num_layers=2", folder="teacher")
    assert taught["metrics"]["teacher"] is None
    assert set(taught["metrics"]["after"]["generation"]) == {"examples", "rouge1", "rouge2", "rougeL", "words"}
    teacher = ["teacher=pretrained", f"teacher.path={tmp_path / 'teacher' / 'model'}", "loss=forward_kl"]
    record = run("scitldr", PAPERS, *common, *teacher)
    check(record, tmp_path / "run", judged=2, kind=AutoModelForSeq2SeqLM)
    assert record["metrics"]["teacher"]["nll"] == pytest.approx(taught["metrics"]["after"]["nll"], rel=1e-5)


def test_gsm8k_prompting(saved, run: Run, tmp_path: Path) -> None:
    paths = [f"teacher.path={saved('llama', layers=3, **LONG)}", f"student.path={saved('llama', seed=1, **LONG)}"]
    record = run("gsm8k_prompting", MATHS, *paths, *SOLVED, "student.dtype=float32")
    check(record, tmp_path / "run")
    assert (tmp_path / "run" / "adapter").is_dir()


def test_gsm8k_prompting_small(saved, run: Run, tmp_path: Path) -> None:
    teacher = f"teacher.path={saved('llama', layers=7, **LONG)}"
    record = run("gsm8k_prompting_small", MATHS, teacher, *SOLVED, *JUDGED)
    check(record, tmp_path / "run")
    judged = {who: record["metrics"][who]["generation"] for who in ("teacher", "before", "after")}
    assert {found["examples"] for found in judged.values()} == {2}
    assert all(found["accuracy"]["count"] == 2 and "rougeL" not in found for found in judged.values())
    first = json.loads((tmp_path / "run" / "generations.jsonl").read_text().splitlines()[0])
    assert "this solution is known" not in first["prompt"], "the student reads the question alone"


def test_cache_codecs(saved, run: Run, tmp_path: Path) -> None:
    """The teacher is kept once, then the student is taught by what lies on disk: as by the teacher itself."""
    teacher = [f"teacher.path={saved('llama', layers=7, **MORE)}", "dataset.heldout=2"]
    asked = ["experiment=cache_codecs", *QUICK, *on_disk(tmp_path, TEXT), *teacher]
    kept = load("cache", [*asked, "codec=topk", "codec.k=9999", "codec.step=0"])
    cache(kept.config, output_dir=tmp_path / "kept", overrides=list(kept.overrides))
    cached = ["teacher=cached", f"teacher.path={tmp_path / 'kept'}", "dataset.heldout=2"]
    options = {"live": teacher, "cached": cached}
    records = [run("cache_codecs", TEXT, *told, folder=name) for name, told in options.items()]
    check(records[1], tmp_path / "cached")
    after = [{name: record["metrics"]["after"][name] for name in ("nll", "kl")} for record in records]
    assert after[1] == pytest.approx(after[0], rel=1e-4)


def test_every_preset_is_run() -> None:
    files = [file for file in (conf_dir() / "experiment").glob("*.yaml") if "\nstages:" not in file.read_text()]
    presets = {file.stem for file in files} - ELSEWHERE
    tested = [name.removeprefix("test_") for name in globals() if name.startswith("test_")]
    assert all(any(test.startswith(preset) for test in tested) for preset in presets), presets
