"""Rules that span groups, and files that must exist: what can be refused before anything is loaded."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

from kdlab.answering.model_folder import refuse_other_folder
from kdlab.answering.recipe import AnswerConfig, EvaluateConfig
from kdlab.caching.recipe import CacheConfig
from kdlab.config.benchmarks import check_benchmarks
from kdlab.config.deciding import check_labels
from kdlab.config.families import check_family, check_model, check_place
from kdlab.config.finishing import (
    check_export_rules,
    check_pipeline_rules,
    check_prepare_rules,
    check_publish_rules,
)
from kdlab.config.judging import check_classifier, refuse_classifier
from kdlab.config.kinds import check_kinds, check_target, student_kind
from kdlab.config.labels import check_rows, refuse_labels
from kdlab.config.names import check_name
from kdlab.config.teachers import TELLS_SOME, check_cached, check_server, check_told, monitors
from kdlab.data.dataset import refuse_prompt
from kdlab.data.files import find_files, looks_local
from kdlab.losses import loss_name
from kdlab.metrics.generation import PACKAGES as METRIC_PACKAGES
from kdlab.models.quantization import lacking, refuse_gguf
from kdlab.text.prompts import called
from kdlab.training.optimizers import AdamW8bit
from kdlab.training.recipe import TrainConfig

NEEDS_TEACHER = ("kl", "top1_agreement")
"""Held-out metrics that compare with a teacher."""
LOGGER_PACKAGES = {"tensorboard": "tensorboard", "wandb": "wandb", "wandb_offline": "wandb"}


def check_rules(config: TrainConfig) -> None:
    """Raise ValueError or FileNotFoundError for the first rule that is broken."""
    check_name(config.name)
    check_teacher(config)
    if not isinstance(config, CacheConfig):
        check_told(config)
    check_student(config)
    check_kinds(config)
    check_target(config)
    check_dataset(config)
    check_labels(config)
    check_rows(config.dataset)
    check_monitors(config)
    check_inner(config)
    check_prompt(config)
    check_benchmarks(config)
    check_packages(config)


def check_cache_rules(config: CacheConfig) -> None:
    """As `check_rules`, for a job that keeps what a teacher says: it needs one that can be asked."""
    if config.teacher.source not in ("live", "openai"):
        raise ValueError(
            f"teacher.source={config.teacher.source}: `kdlab cache` asks a teacher; choose teacher=<a model> or "
            "teacher=openai"
        )
    if config.loss.pairing != "strict" and not config.codec.whole:
        raise ValueError(
            f"codec={config.codec.name}: keeps some tokens only, and loss={loss_name(config.loss)} between two "
            "vocabularies reads whole distributions: choose codec=hidden or codec=dense, and a live teacher"
        )
    if config.dataset.labels is not None:
        raise ValueError(
            "dataset.labels: `kdlab cache` keeps what a teacher says of tokens, and a classifier decides as fast as it "
            "is read back: use it live, or drop dataset.labels"
        )
    check_rules(config)


def check_answer_rules(config: AnswerConfig) -> None:
    """The rules of a job that lets a model write, or, with labels, judges a classifier."""
    check_name(config.name)
    if not isinstance(config, EvaluateConfig):
        remedy = "a classifier is asked by `kdlab predict`, and judged by `kdlab evaluate`"
        refuse_labels(config.dataset, "`kdlab generate` is", remedy)
    check_rows(config.dataset)
    if not config.model.path:
        raise ValueError("model.path is not set: write model.path=<hub id, folder or GGUF file>")
    if isinstance(config, EvaluateConfig) and config.dataset.labels is not None:
        check_classifier(config)
        return
    refuse_classifier(config.model.path)
    refuse_other_folder(config.model.path)
    check_model("model.path", config.model.path)


def check_teacher(config: TrainConfig) -> None:
    """A loss that needs a teacher has one, and the teacher is a model that writes text."""
    if config.teacher.source == "none":
        if config.loss.needs_teacher:
            raise ValueError(
                f"loss={loss_name(config.loss)} needs a teacher, but teacher=none: choose loss=hard or a teacher"
            )
        if config.quantization.kind != "none":
            raise ValueError(f"quantization={config.quantization.kind}: teacher=none leaves nothing to quantise")
        return
    if config.teacher.source in TELLS_SOME:
        check_cached(config) if config.teacher.source == "cached" else check_server(config)
        return
    if not config.teacher.path:
        raise ValueError(
            "teacher.path is not set: write teacher.path=<hub id, folder or GGUF file> or teacher=<option>"
        )
    check_model("teacher.path", config.teacher.path, labelled=config.dataset.labels is not None)
    if config.quantization.kind == "gguf" and config.trainer.accelerator == "cpu":
        refuse_gguf(config.teacher.path, device="cpu", name=f"teacher.path={config.teacher.path}")


def check_student(config: TrainConfig) -> None:
    """An origin (`StudentConfig` refuses two), and what that origin needs."""
    student = config.student
    if not student.origins():
        raise ValueError(
            "student.path is not set: write student.path=<hub id, folder or GGUF file>, or choose student=cut, "
            "student=scratch or another student=<option>"
        )
    if student.path:
        check_model("student.path", student.path, labelled=config.dataset.labels is not None)
    for name, kind in student_kind(config) if student.architecture else ():
        check_family(name, kind, labelled=config.dataset.labels is not None)
    if student.tokenizer:
        check_place("student.tokenizer", student.tokenizer)
    if config.teacher.source == "none":
        if student.from_teacher:
            raise ValueError(
                "student.from_teacher needs a teacher to cut from, but teacher=none: choose student=<option>"
            )
        if student.architecture and not student.tokenizer:
            raise ValueError("student.tokenizer is not set: student.architecture has none and teacher=none lends none")


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
    """A metric that compares with the teacher has one, with the student's tokenizer."""
    for option, monitor in monitors(config):
        if monitor in NEEDS_TEACHER and config.teacher.source == "none":
            raise ValueError(f"{option}={monitor}: compares with a teacher, but teacher=none: use nll or perplexity")
        if monitor in NEEDS_TEACHER and config.loss.pairing == "cross":
            raise ValueError(
                f"{option}={monitor}: compares token by token, but loss={loss_name(config.loss)} is between two "
                "tokenizers: use nll or perplexity"
            )


def check_inner(config: TrainConfig) -> None:
    """Inner terms compare two models position by position: with a teacher that reads the same tokens."""
    for name in config.inner.terms():
        if config.teacher.source == "none":
            raise ValueError(f"inner.{name}: compares with a teacher, but teacher=none: choose inner=none or a teacher")
        if config.teacher.source in TELLS_SOME:
            raise ValueError(
                f"inner.{name}: needs the teacher's layers, and teacher={config.teacher.source} only predicts: "
                "choose inner=none or a live teacher"
            )
        if config.loss.pairing == "cross":
            raise ValueError(
                f"inner.{name}: compares position by position, but loss={loss_name(config.loss)} is between two "
                "tokenizers: choose inner=none or a loss within one tokenizer"
            )


def check_prompt(config: TrainConfig) -> None:
    """A teacher's own prompt has a teacher, and compares answers only."""
    if not config.prompt.privileged:
        return
    own = f"{called(config.prompt.name)} gives the teacher a prompt of its own"
    if config.teacher.source == "none":
        raise ValueError(f"teacher=none: {own}, and there is none: choose prompt=base or a teacher")
    for name in config.inner.terms():
        raise ValueError(f"inner.{name}: compares position by position, but {own}: choose inner=none or prompt=base")
    refuse_prompt(config.dataset, config.prompt)


def check_packages(config: TrainConfig) -> None:
    """Optional packages that the options need are installed; nothing is imported."""
    kinds = {"student.quantization": config.student.quantization}
    if config.teacher.source == "live":  # of a cache it says how the teacher was held, and nothing is packed here
        kinds = {"quantization": config.quantization.kind} | kinds
    for option, kind in kinds.items():
        problem = lacking(kind)
        if problem is not None and kind != "gguf":  # first of all it needs a GPU, and that is not known yet
            raise ValueError(f"{option}={kind}: {problem}")
        path = config.teacher.path if option == "quantization" else config.student.path
        if kind not in ("none", "gguf") and (path or "").startswith("tiny:"):
            raise ValueError(f"{option}={kind}: {path} is made in memory and cannot be quantised: write {option}=none")
    needs: list[tuple[str, str, str]] = []
    if isinstance(config.optimizer, AdamW8bit):
        needs.append(("optimizer=adamw_8bit", "bitsandbytes", "quant"))
    for logger in config.trainer.loggers:
        package = LOGGER_PACKAGES[logger]
        needs.append((f"trainer.loggers=[{logger}]", package, "tracking"))
    for metric in config.benchmark.generation.metrics if config.benchmark.generation else ():
        if metric in METRIC_PACKAGES:
            needs.append((f"benchmark.generation.metrics=[{metric}]", METRIC_PACKAGES[metric], "eval"))
    for option, package, extra in needs:
        if importlib.util.find_spec(package) is None:
            raise ValueError(f"{option}: needs {package}, which is not installed: pip install 'kdlab[{extra}]'")


RULES: dict[str, Callable[[Any], None]] = {
    "train": check_rules,
    "cache": check_cache_rules,
    "generate": check_answer_rules,
    "evaluate": check_answer_rules,
    "prepare": check_prepare_rules,
    "export": check_export_rules,
    "publish": check_publish_rules,
    "pipeline": check_pipeline_rules,
}
"""What is refused of each verb before anything is loaded."""
