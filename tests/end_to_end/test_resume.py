"""kill -9 at any moment, then the same again: the result is that of a run that was left alone."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from kdlab.training.metrics_file import CLOCK, MetricsFile

SMOKE = ["experiment=smoke", "trainer.max_steps=16", "trainer.checkpoint.every_steps=3", "benchmark.tokens=2000"]


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as file:
        return [{k: v for k, v in row.items() if k not in CLOCK} for row in csv.DictReader(file)]


def run(folder: Path, options: list[str], die_at: int | None, done: object) -> None:
    """The job of these `options` in this process, killed just before its `die_at`-th lasting change.

    Lasting changes are: a file or folder renamed into its place, a row of metrics.csv.
    """
    torch.set_num_threads(1)
    from kdlab.config import load
    from kdlab.training.run import train

    changes = [0]
    if die_at is not None:
        replace, write = Path.replace, MetricsFile.write

        def count() -> None:
            changes[0] += 1
            if changes[0] == die_at:
                os.kill(os.getpid(), signal.SIGKILL)

        def counted_replace(self: Path, target: Path) -> Path:
            if folder in self.parents:
                count()
            return replace(self, target)

        def counted_write(self: MetricsFile, row: dict[str, object]) -> None:
            count()
            write(self, row)

        Path.replace, MetricsFile.write = counted_replace, counted_write
    loaded = load("train", options)
    train(loaded.config, output_dir=folder, resolved=loaded.resolved, overrides=list(loaded.overrides))
    done.value = changes[0]


@pytest.fixture
def start():
    """`start(folder, die_at)`: the job in a process of its own; its exit code and how many lasting changes it made."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["kdlab.training.session", "kdlab.config", "transformers.models.llama.modeling_llama"]
    )

    def go(folder: Path, die_at: int | None, options: list[str] = SMOKE) -> tuple[int | None, int]:
        done = context.Value("i", 0)
        process = context.Process(target=run, args=(folder, options, die_at, done))
        process.start()
        process.join(120)
        process.kill()
        return process.exitcode, done.value

    return go


@pytest.mark.slow
def test_killed_at_many_moments_in_a_row(start, tmp_path):
    assert start(tmp_path / "whole", None) == (0, 0)
    # Each attempt dies a few changes further than it began: while measuring before, between a row and its
    # checkpoint, between last.ckpt and best.ckpt, while run.json, the model or the end is written.
    moments = [1, 3, 6, 9, 13, 16]
    for die_at in moments:
        code, _ = start(tmp_path / "killed", die_at)
        assert code in (-signal.SIGKILL, 0)
        if code == 0:
            break
    assert start(tmp_path / "killed", None)[0] == 0
    assert rows(tmp_path / "killed") == rows(tmp_path / "whole")
    ours, whole = (json.loads((tmp_path / name / "run.json").read_text()) for name in ("killed", "whole"))
    for key in ("status", "steps", "tokens", "samples"):
        assert ours[key] == whole[key]
    for metrics in (ours["metrics"], whole["metrics"]):
        for part in metrics.values():
            part.pop("tokens_per_second")
    assert ours["metrics"] == whole["metrics"]
    model = "model/model.safetensors"
    assert (tmp_path / "killed" / model).read_bytes() == (tmp_path / "whole" / model).read_bytes()
    left = [path.name for path in (tmp_path / "killed").rglob(".*") if path.name != ".lock"]
    assert left == []


@pytest.mark.slow
def test_the_command_line_continues_what_was_killed(start, tmp_path):
    command = [sys.executable, "-c", "import sys; from kdlab.cli import main; sys.exit(main())", "train", *SMOKE]
    here = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2]), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=tmp_path, env=here, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if sum(path.read_text().count("\n") for path in tmp_path.rglob("metrics.csv")) > 6:
            break
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -signal.SIGKILL, "the run was over before it could be killed"
    done = subprocess.run(command, cwd=tmp_path, env=here, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert "continuing from" in done.stdout
    (found,) = tmp_path.rglob("metrics.csv")
    start(tmp_path / "whole", None)
    assert rows(found.parent) == rows(tmp_path / "whole")


def texts(folder: Path) -> Path:
    """Rows of source and target, of unequal lengths."""
    path = folder / "rows.jsonl"
    pairs = [{"source": f"{'word ' * (i % 7 + 1)}number {i}", "target": f"{i} " * (i % 4 + 1)} for i in range(40)]
    path.write_text("\n".join(json.dumps(pair) for pair in pairs))
    return path


def spelling(folder: Path) -> Path:
    """A tokenizer unlike the tiny models' one, in a folder of its own."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, special_tokens=["<end>"])
    core.train_from_iterator([texts(folder).read_text()], trainer)
    PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<end>", pad_token="<end>").save_pretrained(folder / "bpe")
    return folder / "bpe"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["seq2seq", "two_tokenizers", "inner"])
def test_every_kind_of_run_goes_on_where_it_was_killed(kind, start, tmp_path):
    options = ["experiment=smoke", "trainer.max_steps=8", "trainer.checkpoint.every_steps=2", "benchmark.samples=0"]
    if kind == "inner":
        options += ["inner=all", "inner.hidden.project=true", "inner.hidden.anneal.to=0", "benchmark.tokens=2000"]
    else:
        options += [f"dataset.path={texts(tmp_path)}", "dataset.heldout=8"]
    if kind == "seq2seq":
        options += ["teacher.path=tiny:t5", "loss.temperature_anneal.to=2"]
    if kind == "two_tokenizers":
        options += ["student=scratch", f"student.tokenizer={spelling(tmp_path)}", "loss=uld_hybrid"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    code, changes = start(whole, 10**9, options)
    assert code == 0
    for share in (0.5, 0.8):
        assert start(killed, int(share * changes), options)[0] in (-signal.SIGKILL, 0)
    assert start(killed, None, options)[0] == 0
    assert json.loads((killed / "run.json").read_text())["resumed"] >= 1
    assert rows(killed) == rows(whole)
    for file in ["model/model.safetensors", *(["projections.safetensors"] if kind == "inner" else [])]:
        assert (killed / file).read_bytes() == (whole / file).read_bytes()
