"""Rules of a training job that decides about texts (dataset.labels), and of one that does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdlab.config.teachers import TELLS_SOME, monitors
from kdlab.losses import NUMBER_LOSSES
from kdlab.training.recipe import OF_CLASSES, OF_NUMBERS

if TYPE_CHECKING:
    from kdlab.losses.base import Loss
    from kdlab.training.recipe import TrainConfig

OF_SHARES = ("kl", "nll", "top1_agreement")
"""Monitors of probabilities, which numbers have not."""


def check_labels(config: TrainConfig) -> None:
    """Classes are compared row by row with a teacher that is here, numbers by their difference; what judges written
    text is off, and what judges decisions has labels."""
    labels = config.dataset.labels
    check_judges(config)
    if labels is None:
        if is_of_numbers(config.loss):
            raise ValueError(
                "loss=squared_error: is for numbers: set dataset.labels.regression=true, or choose another loss"
            )
        return
    if config.teacher.source in TELLS_SOME:
        raise ValueError(
            f"teacher={config.teacher.source}: tells what it says of tokens; with dataset.labels choose a live "
            "classifier, or teacher=none"
        )
    if config.prompt.privileged:
        raise ValueError("prompt.teacher: both models read dataset.labels.template; use prompt=base")
    for name in ("generation", "mt_bench", "harness"):
        if getattr(config.benchmark, name) is not None:
            raise ValueError(f"benchmark.{name}: judges written text; with dataset.labels write null")
    check_loss(config, regression=labels.regression)


def check_judges(config: TrainConfig) -> None:
    """Monitors that the held-out rows have."""
    labels = config.dataset.labels
    has = "text" if labels is None else "numbers" if labels.regression else "classes"
    for option, monitor in monitors(config):
        needs = {**dict.fromkeys(OF_CLASSES, "classes"), **dict.fromkeys(OF_NUMBERS, "numbers")}.get(monitor)
        if needs is not None and needs != has:
            of_text = "dataset.labels is not set: give it, or use nll or perplexity"
            raise ValueError(
                f"{option}={monitor}: judges {needs}, and {of_text if labels is None else f'labels are {has}'}"
            )
        if monitor == "perplexity" and has != "text":
            raise ValueError(
                f"{option}=perplexity: judges written text; with dataset.labels use nll, or rmse of numbers"
            )
        if monitor in OF_SHARES and has == "numbers":
            raise ValueError(f"{option}={monitor}: judges probabilities, which numbers have not; use rmse or mae")


def check_loss(config: TrainConfig, *, regression: bool) -> None:
    """The loss is of what is decided, and weights weigh something."""
    assert config.dataset.labels is not None
    loss, weights = config.loss, config.dataset.labels.weights
    if loss.pairing == "cross":
        raise ValueError("loss: between two tokenizers' words; classes are the same for both, so use loss=forward_kl")
    if loss.pairing == "shared":
        raise ValueError("loss.vocab=shared: classes are the same for both models; with dataset.labels write strict")
    if regression and not is_of_numbers(loss):
        raise ValueError("dataset.labels.regression=true: predicts a number: choose loss=squared_error")
    if not regression and is_of_numbers(loss):
        raise ValueError(
            "loss=squared_error: is for numbers: set dataset.labels.regression=true, or choose loss=forward_kl"
        )
    if is_of_numbers(loss) and loss.asks_teacher and config.teacher.source == "none":
        raise ValueError(
            f"loss.hard_weight={loss.hard_weight}: the rest compares with a teacher, but teacher=none: write "
            "loss.hard_weight=1, or choose a teacher"
        )
    if weights != "none" and loss.hard_weight == 0 and loss.hard_weight_anneal is None:
        raise ValueError(
            f"dataset.labels.weights={weights}: weighs the labels' term, which loss.hard_weight=0 leaves out: raise "
            "it, or write dataset.labels.weights=none"
        )


def is_of_numbers(loss: Loss) -> bool:
    return type(loss) in NUMBER_LOSSES.values()
