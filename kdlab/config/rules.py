"""Rules that span groups, and files that must exist: what can be refused before anything is loaded."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

from kdlab.config.mistakes import nearest
from kdlab.data.files import find_files, looks_local
from kdlab.losses import ALL_LOSSES
from kdlab.models import tiny
from kdlab.models.quantization import PACKAGES
from kdlab.training.optimizers import AdamW8bit
from kdlab.training.recipe import TrainConfig

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.=+-]{0,79}")
ENCODERS = ("bert", "distilbert", "modernbert", "roberta", "distilroberta", "albert", "deberta", "electra")
ENCODER_DECODERS = ("t5", "mt5", "byt5", "umt5", "longt5", "bart", "mbart", "pegasus", "marian")
"""Families that predict no next token, by the word that stands in their names and in `model_type`."""
NEEDS_TEACHER = ("kl", "top1_agreement")
"""Held-out metrics that compare with a teacher."""
LOGGER_PACKAGES = {"tensorboard": "tensorboard", "wandb": "wandb", "wandb_offline": "wandb"}


def check_rules(config: TrainConfig) -> None:
    """Raise ValueError or FileNotFoundError for the first rule that is broken."""
    if not NAME.fullmatch(config.name):
        raise ValueError(f"name={config.name}: a folder is named by it; use up to 80 letters, digits and _ . = + -")
    check_teacher(config)
    check_student(config)
    check_dataset(config)
    check_monitors(config)
    check_packages(config)


def loss_name(config: TrainConfig) -> str:
    """The option that chose the loss."""
    return next(name for name, kind in ALL_LOSSES.items() if kind is type(config.loss))


def check_teacher(config: TrainConfig) -> None:
    """A loss that needs a teacher has one, and the teacher is a model that predicts next tokens."""
    if config.teacher.source == "none":
        if config.loss.needs_teacher:
            raise ValueError(
                f"loss={loss_name(config)} needs a teacher, but teacher=none: choose loss=hard or a teacher"
            )
        if config.quantization.kind != "none":
            raise ValueError(f"quantization={config.quantization.kind}: teacher=none leaves nothing to quantise")
        return
    if not config.teacher.path:
        raise ValueError(
            "teacher.path is not set: write teacher.path=<hub id, folder or GGUF file> or teacher=<option>"
        )
    check_model("teacher.path", config.teacher.path)


def check_student(config: TrainConfig) -> None:
    """An origin (`StudentConfig` refuses two), and what that origin needs."""
    student = config.student
    if not student.origins():
        raise ValueError(
            "student.path is not set: write student.path=<hub id, folder or GGUF file>, or choose student=cut, "
            "student=scratch or another student=<option>"
        )
    if student.path:
        check_model("student.path", student.path)
    if student.tokenizer:
        check_place("student.tokenizer", student.tokenizer)
    if config.teacher.source == "none":
        if student.from_teacher:
            raise ValueError(
                "student.from_teacher needs a teacher to cut from, but teacher=none: choose student=<option>"
            )
        if student.architecture and not student.tokenizer:
            raise ValueError("student.tokenizer is not set: student.architecture has none and teacher=none lends none")


def check_model(option: str, path: str) -> None:
    """A local model exists, and as far as its name or config tells it predicts next tokens."""
    if path.startswith("tiny:"):
        kind = path.removeprefix("tiny:")
        if kind not in tiny.KINDS:
            raise ValueError(f"{option}={path}: must be one of {', '.join(f'tiny:{known}' for known in tiny.KINDS)}")
        family = kind
    else:
        check_place(option, path)
        family = model_type(path) or Path(path).name.lower()
    words = set(re.split(r"[^a-z0-9]+", family))
    other = "encoder" if words & {*ENCODERS} else "encoder-decoder" if words & {*ENCODER_DECODERS} else ""
    if other:
        raise ValueError(
            f"{option}={path}: an {other} model, and `kdlab train` teaches models that predict the next token; "
            f"choose one such as gpt2, llama, opt, qwen or smollm2"
        )


def check_place(option: str, path: str) -> None:
    """A path that can only be a local one exists."""
    place = Path(path).expanduser()
    local = path.endswith(".gguf") or path.startswith(("/", ".", "~")) or path.count("/") > 1
    if local and not path.startswith("tiny:") and not place.exists():
        siblings = [entry.name for entry in place.parent.iterdir()] if place.parent.is_dir() else []
        near = nearest(place.name, siblings)
        guess = f"; did you mean {' or '.join(str(place.parent / name) for name in near)}?" if near else ""
        raise FileNotFoundError(f"{option}={path}: no such file or folder{guess}")


def model_type(path: str) -> str:
    """`model_type` of a local model folder; empty where there is none to read."""
    file = Path(path).expanduser() / "config.json"
    if not file.is_file():
        return ""
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file}: not valid JSON ({error})") from error
    return str(config.get("model_type", "")) if isinstance(config, dict) else ""


def check_dataset(config: TrainConfig) -> None:
    """Local files exist; a stream has an end; a held-out split is asked for once."""
    dataset = config.dataset
    if not dataset.path:
        raise ValueError("dataset.path is empty: write dataset.path=<hub id, file, glob or folder> or dataset=<option>")
    if looks_local(dataset.path):
        find_files(dataset.path, split=dataset.split)
    if dataset.heldout_path is not None and looks_local(dataset.heldout_path):
        find_files(dataset.heldout_path, option="dataset.heldout_path")
    if dataset.streaming and config.trainer.max_steps is None:
        raise ValueError("dataset.streaming=true: a stream has no known length; write trainer.max_steps=<steps>")


def check_monitors(config: TrainConfig) -> None:
    """A metric that compares with the teacher has one."""
    trainer = config.trainer
    monitors = {"trainer.checkpoint.monitor": trainer.checkpoint.monitor}
    if trainer.early_stopping is not None:
        monitors["trainer.early_stopping.monitor"] = trainer.early_stopping.monitor
    for option, monitor in monitors.items():
        if monitor in NEEDS_TEACHER and config.teacher.source == "none":
            raise ValueError(f"{option}={monitor}: compares with a teacher, but teacher=none: use nll or perplexity")


def check_packages(config: TrainConfig) -> None:
    """Optional packages that the options need are installed; nothing is imported."""
    needs: list[tuple[str, str, str]] = []
    if config.quantization.kind in PACKAGES:
        needs.append((f"quantization={config.quantization.kind}", PACKAGES[config.quantization.kind], "quant"))
    if isinstance(config.optimizer, AdamW8bit):
        needs.append(("optimizer=adamw_8bit", "bitsandbytes", "quant"))
    for logger in config.trainer.loggers:
        package = LOGGER_PACKAGES[logger]
        needs.append((f"trainer.loggers=[{logger}]", package, "tracking"))
    for option, package, extra in needs:
        if importlib.util.find_spec(package) is None:
            raise ValueError(f"{option}: needs {package}, which is not installed: pip install 'kdlab[{extra}]'")
