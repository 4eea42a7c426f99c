"""config.load: what it gives, and how every mistake ends."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from kdlab.config import ConfigError, load
from kdlab.config.compose import Composer
from kdlab.config.loading import load_with, sweep_jobs
from kdlab.losses import LOSSES
from kdlab.models.student import CutConfig, LoraConfig, StudentConfig
from kdlab.training.optimizers import SGD
from kdlab.training.recipe import EarlyStoppingConfig, TrainConfig


@pytest.fixture(scope="module")
def composer() -> Composer:
    return Composer("train")


def refusal(composer: Composer, *overrides: str) -> str:
    """The message for a mistake; it keeps the promises that every message keeps."""
    with pytest.raises(ConfigError) as caught:
        load_with(composer, ["experiment=smoke", *overrides])
    message = str(caught.value)
    assert 1 <= len(message.splitlines()) <= 6
    assert all(len(line) < 400 for line in message.splitlines())
    assert "Traceback" not in message
    assert "HYDRA_FULL_ERROR" not in message
    return message


def test_load_gives_the_typed_config_and_its_plain_form() -> None:
    loaded = load(
        "train", ["experiment=smoke", "loss=reverse_kl", "loss.temperature=2", "optimizer=sgd", "optimizer.lr=0.5"]
    )
    config = loaded.config
    assert type(config) is TrainConfig
    assert type(config.loss) is LOSSES["reverse_kl"]
    assert config.loss.temperature == 2.0
    assert config.optimizer == SGD(lr=0.5)
    assert config.student.from_teacher == CutConfig(layers=1)
    assert type(config.student) is StudentConfig
    assert loaded.resolved["loss"]["temperature"] == 2.0
    assert loaded.resolved["student"]["from_teacher"]["pick"] == CutConfig().pick
    json.dumps(loaded.resolved)
    assert "hydra" not in loaded.resolved


def test_load_does_not_import_torch() -> None:
    code = (
        "import sys; from kdlab.config import load; load('train', ['experiment=quickstart']);"
        "print([m for m in ('torch', 'transformers', 'datasets', 'lightning', 'peft') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("student.lora.r=4", LoraConfig(r=4)),
        ("++student.lora.r=4", LoraConfig(r=4)),
        ("student.lora={}", LoraConfig()),
        ("student.lora={r:4,alpha:8}", LoraConfig(r=4, alpha=8)),
        ("student.lora=null", None),
    ],
)
def test_optional_sections_are_made_by_their_options(
    composer: Composer, override: str, expected: LoraConfig | None
) -> None:
    assert load_with(composer, [override]).config.student.lora == expected


def test_other_optional_sections(composer: Composer) -> None:
    loaded = load_with(
        composer, ["trainer.early_stopping.patience=2", "student=scratch", "student.architecture.n_new=3"]
    )
    assert loaded.config.trainer.early_stopping == EarlyStoppingConfig(patience=2)
    assert loaded.config.student.architecture is not None
    assert loaded.config.student.architecture["n_new"] == 3


def test_interpolations_resolve(composer: Composer) -> None:
    loaded = load_with(composer, ["benchmark.max_new_tokens=${dataset.max_length}", "dataset.max_length=77"])
    assert loaded.config.benchmark.max_new_tokens == 77
    assert loaded.resolved["benchmark"]["max_new_tokens"] == 77


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("loss.temprature=2", ["loss.temprature=2", "Did you mean temperature"]),
        ("+loss.foo=1", ["+loss.foo=1", "unknown option", "temperature"]),
        ("++loss.foo=1", ["loss.foo", "unknown option", "temperature"]),
        ("los=1", ["los=1", "Did you mean loss?"]),
        ("+foo.bar=1", ["+foo.bar=1", "unknown option foo"]),
        ("loss.temperature=abc", ["loss.temperature=abc", "a number"]),
        ("trainer.max_steps=2.5", ["trainer.max_steps=2.5", "a whole number"]),
        ("trainer.progress=maybe", ["trainer.progress=maybe", "true or false"]),
        ("trainer.loggers=wandb", ["trainer.loggers=wandb", "a list"]),
        ("dataset.path=null", ["dataset.path=null", "text"]),
        ("loss.temperature=-1", ["loss.temperature=-1:", "> 0"]),
        ("loss.hard_weight=1.5", ["loss.hard_weight=1.5:", "1"]),
        ("trainer.early_stopping.monitor=accuracy", ["trainer.early_stopping.monitor=accuracy:", "perplexity"]),
        ("loss=reverse_k", ["loss=reverse_k", "Did you mean reverse_kl", "forward_kl"]),
        ("teacher=gpt5", ["teacher=gpt5", "gpt2"]),
        ("teacher=null", ["teacher=null", "teacher=none"]),
        ("+experiment=smoke", ["+experiment=smoke", "without +"]),
        ("+loss.temperature=2", ["+loss.temperature=2", "without +"]),
        ("student.lora.rank=3", ["student.lora.rank=3", "r, target_modules"]),
        ("student.lora={rank:3}", ["student.lora={rank:3}", "unknown option rank"]),
        ("student.lora=4", ["student.lora=4", "write student.lora.r=4"]),
        ("trainer.max_steps.x=1", ["trainer.max_steps.x=1", "not a group"]),
        ("loss=hard,forward_kl", ["loss=hard,forward_kl", "-m"]),
        ("seed=${nope}", ["seed=${nope}", "nothing is called nope"]),
        ("dataset=local", ["dataset.path is not set", "python_docs"]),
        ("foo", ["foo", "<option>=<value>"]),
        ("dataset.path=a(b.json", ["dataset.path=a(b.json", '"a(b.json"']),
        ("dataset.path=missing.jsonl", ["dataset.path=missing.jsonl", "no such file"]),
        ("teacher.path=./missing", ["teacher.path=./missing", "no such file"]),
        ("student.path=tiny:lama", ["student.path", "student.from_teacher"]),
        ("name=../up", ["name=../up", "letters"]),
        ("hydra.foo=1", ["hydra.foo", "foo"]),
    ],
)
def test_a_mistake_is_said_as_typed_with_the_remedy(
    composer: Composer, override: str, parts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    message = refusal(composer, override)
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (["teacher=none", "student=tiny"], ["loss=forward_kl needs a teacher", "loss=hard"]),
        (["teacher=none", "loss=hard"], ["student.from_teacher needs a teacher"]),
        (["teacher=none", "loss=hard", "student=scratch"], ["student.tokenizer is not set"]),
        (["teacher=none", "loss=hard", "student=tiny", "quantization=nf4"], ["quantization=nf4", "teacher=none"]),
        (
            ["teacher=none", "loss=hard", "student=tiny", "trainer.checkpoint.monitor=kl"],
            ["trainer.checkpoint.monitor=kl", "nll"],
        ),
        (["student.path=tiny:llama"], ["student.path", "student.from_teacher", "student.from_teacher=null"]),
        (["student.from_teacher=null"], ["student.path is not set", "student=scratch"]),
        (["teacher=pretrained"], ["teacher.path is not set"]),
        (["trainer.max_steps=null", "dataset=openwebtext"], ["dataset.streaming=true", "trainer.max_steps"]),
        (
            ["teacher=flan_t5_base", "student=gpt2"],
            ["student.path=openai-community/gpt2: a causal model", "google/flan-t5-base is an encoder-decoder", "uld"],
        ),
        (
            ["teacher.path=tiny:llama", "student=scratch", "student.architecture.model_type=t5"],
            ["model_type=t5: an enc"],
        ),
        (["teacher.path=tiny:t5", "dataset.pack=true"], ["dataset.pack=true: teacher.path=tiny:t5", "pack=false"]),
        (
            ["teacher=none", "loss=hard", "student.from_teacher=null", "student.path=tiny:bart", "dataset.pack=true"],
            ["dataset.pack=true: student.path=tiny:bart"],
        ),
        (
            ["teacher.path=tiny:bart", "dataset.streaming=true", "dataset.heldout=9"],
            ["dataset.streaming=true: teacher.path=tiny:bart", "streaming=false"],
        ),
        (["dataset.max_target_length=16"], ["dataset.max_target_length=16: teacher.path=tiny:llama is a causal model"]),
        (
            ["teacher.path=tiny:t5", "loss=uld", "student=gpt2", "dataset.max_target_length=16"],
            ["dataset.max_target_length=16: student.path=openai-community/gpt2", "dataset.max_length"],
        ),
        (["teacher.path=tiny:t5", "student.dtype=float16"], ["student.dtype=float16", "T5", "bfloat16"]),
        (["teacher.path=tiny:t5", "trainer.precision=16-mixed"], ["trainer.precision=16-mixed", "T5", "bf16-mixed"]),
        (["student=roberta_base"], ["student.path=FacebookAI/roberta-base", "encoder model"]),
        (["teacher.path=distilbert/distilbert-base-uncased"], ["encoder model"]),
        (["teacher.path=google/mt5-base", "student=gpt2"], ["encoder-decoder model"]),
        (
            ["quantization=gguf", "trainer.accelerator=cpu"],
            ["quantization=gguf reads a .gguf file", "quantization=none"],
        ),
        (["student=tiny", "student.quantization=nf4"], ["student.quantization=nf4", "student.lora.r=8"]),
        (["student.quantization=nf4", "student.lora.r=8"], ["student.quantization=nf4", "student.path"]),
        (["teacher.path=tiny:lama"], ["teacher.path=tiny:lama", "tiny:llama"]),
    ],
)
def test_impossible_pairs(composer: Composer, overrides: list[str], parts: list[str]) -> None:
    message = refusal(composer, *overrides)
    for part in parts:
        assert part in message


def test_possible_pairs(composer: Composer) -> None:
    for overrides in (
        ["teacher=none", "loss=hard", "student=tiny"],
        ["loss=hard"],
        ["student=tiny", "teacher.path=tiny:gpt2", "student.lora.r=2"],
        ["teacher.path=tiny:t5", "student=cut", "trainer.precision=bf16-mixed"],
        ["teacher=flan_t5_large", "student=flan_t5_small"],
        ["teacher=bart_large", "student=bart_base", "trainer.precision=16-mixed"],
        ["teacher=flan_t5_base", "student=gpt2", "loss=uld"],
        ["teacher.path=someone/summaries", "student=flan_t5_small"],
        ["teacher.path=tiny:t5", "dataset.max_target_length=16"],
        ["teacher.path=tiny:llama", "student=flan_t5_small", "loss=uld", "dataset.max_target_length=16"],
    ):
        load_with(composer, overrides)


def test_a_local_model_is_judged_by_its_config(composer: Composer, tmp_path: Path) -> None:
    for config in ('{"model_type": "t5"}', '{"model_type": "own", "is_encoder_decoder": true}'):
        (tmp_path / "config.json").write_text(config)
        assert "an encoder-decoder model" in refusal(composer, f"teacher.path={tmp_path}", "student=gpt2")
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    assert load_with(composer, ["experiment=smoke", f"teacher.path={tmp_path}"]).config.teacher.path == str(tmp_path)


def test_a_missing_file_names_its_neighbours(composer: Composer, tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"text": "a"}\n')
    assert "train.jsonl" in refusal(composer, f"dataset.path={tmp_path}/trian.jsonl")


def test_a_missing_package_names_its_extra(composer: Composer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "kdlab[quant]" in refusal(composer, "optimizer=adamw_8bit")
    assert "kdlab[quant]" in refusal(composer, "quantization=nf4")
    assert "kdlab[gptq]" in refusal(composer, "quantization=gptq")
    assert "student.quantization=bnb8: needs bitsandbytes" in refusal(
        composer, "student=tiny", "student.quantization=bnb8", "student.lora.r=8"
    )
    assert "kdlab[tracking]" in refusal(composer, "trainer.loggers=[wandb]")


def test_option_files_of_the_user(tmp_path: Path) -> None:
    preset = tmp_path / "experiment" / "mine.yaml"
    preset.parent.mkdir()
    preset.write_text("# @package _global_\ndefaults:\n  - override /loss: hard\nname: mine\nseed: 7\n")
    assert load("train", ["experiment=mine"], config_dir=str(tmp_path)).config.seed == 7
    for wrong, part in {
        "sed: 7": "sed",
        "loss: {temprature: 2}": "temprature",
        "seed: many": "many",
        "seed: [": "mine.yaml",
        "name: ${nothing}": "nothing",
        "defaults: [{override /los: hard}]": "los",
    }.items():
        preset.write_text(f"# @package _global_\n{wrong}\n")
        with pytest.raises(ConfigError) as caught:
            load("train", ["experiment=mine"], config_dir=str(tmp_path))
        assert part in str(caught.value)
        assert len(str(caught.value).splitlines()) <= 6
    with pytest.raises(ConfigError, match="no such folder"):
        load("train", config_dir=str(tmp_path / "missing"))


def test_sweep_jobs(composer: Composer) -> None:
    jobs = sweep_jobs(composer, ["experiment=smoke", "loss=hard,forward_kl", "student.lora.r=2,4"])
    assert jobs is not None
    assert len(jobs) == 4
    seen = {
        (type(c.loss), c.student.lora.r) for c in (load_with(composer, job).config for job in jobs) if c.student.lora
    }
    assert seen == {(LOSSES[name], r) for name in ("hard", "forward_kl") for r in (2, 4)}


def test_a_run_has_the_same_folder_alone_and_in_a_sweep(composer: Composer) -> None:
    alone = load_with(composer, ["student.lora.r=4", "loss=reverse_kl", "experiment=smoke"])
    jobs = sweep_jobs(composer, ["experiment=smoke", "loss=reverse_kl,hard", "student.lora.r=4"])
    assert jobs is not None
    assert alone.output_dir == load_with(composer, jobs[0]).output_dir
    assert alone.output_dir == Path("multirun/smoke/loss=reverse_kl,student.lora.r=4")
    swept = load_with(composer, [*jobs[0], "hydra.mode=MULTIRUN"])
    assert swept.output_dir == alone.output_dir
