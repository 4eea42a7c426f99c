"""Rules of teachers that are no model in the process: what was asked of a cache, what a server can tell."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kdlab.losses.sparse_rules import DRAWN, WHOLE, check_signal
from kdlab.teachers.cache.manifest import Manifest, read_manifest

if TYPE_CHECKING:
    from kdlab.training.recipe import TrainConfig

TELLS_SOME = ("cached", "openai")
"""Sources of teachers without weights, layers or texts of their own."""


def model_path(config: TrainConfig) -> str | None:
    """What names the model that teaches: of a cache the one that it is of. None without a teacher.

    Raises as `read_manifest` does.
    """
    if config.teacher.source == "none" or not config.teacher.path:
        return None
    if config.teacher.source == "cached":
        return str(read_manifest(config.teacher.path).teacher["path"])
    return config.teacher.path


def check_cached(config: TrainConfig) -> None:
    """A finished cache, of the teacher that the other options name; and a loss that reads what its codec keeps."""
    told = config.teacher
    if not told.path:
        raise ValueError("teacher.path is not set: write teacher.path=<the folder that `kdlab cache` wrote>")
    manifest = read_manifest(told.path)
    named, of = f"teacher.path={told.path}", manifest.teacher
    asked = {
        "teacher.model": (told.model, of["path"]),
        "teacher.revision": (told.revision, of["revision"]),
        "teacher.dtype": (None if told.dtype == "auto" else told.dtype, of["dtype"]),
        "quantization": (None if config.quantization.kind == "none" else config.quantization.kind, of["quantization"]),
    }
    for option, (value, was) in asked.items():
        if value not in (None, was):
            what = "another teacher" if option == "teacher.model" else "a teacher held otherwise"
            raise ValueError(f"{option}={value}: {named} is of {what} ({option}={was}); drop the option, or the cache")
    if config.student.from_teacher is not None and of["weight_hash"] is None:
        raise ValueError(
            f"student.from_teacher: {named} was written by a server, so there are no weights to cut; give student.path"
        )
    codec = manifest.codec
    check_signal(config.loss, codec=codec["name"], temperature=codec["temperature"], whole=_keeps_all(manifest))
    if told.heldout is not None:
        manifest, named = read_manifest(told.heldout, option="teacher.heldout"), f"teacher.heldout={told.heldout}"
    if config.loss.pairing != "strict" and manifest.codec["name"] not in WHOLE:
        raise ValueError(
            f"{named}: keeps some tokens only, and where two vocabularies meet the held-out data is judged by whole "
            "distributions; give a cache of codec=hidden or codec=dense"
        )
    _check_monitors(config, manifest)


def _keeps_all(manifest: Manifest) -> bool:
    """Whether the most likely tokens that are kept are all that there are."""
    codec = manifest.codec
    return codec["name"] == "topk" and int(codec["k"]) >= manifest.vocabulary


def _check_monitors(config: TrainConfig, manifest: Manifest) -> None:
    """What the monitors compare can be told from what the codec keeps."""
    codec, temperature = manifest.codec["name"], float(manifest.codec["temperature"])
    for option, monitor in monitors(config):
        absent = None
        if monitor == "top1_agreement" and codec in DRAWN:
            absent = f"codec={codec} keeps draws, which do not tell the most likely token"
        if monitor == "kl" and codec not in WHOLE and temperature != 1 and not _keeps_all(manifest):
            absent = f"codec={codec} keeps some tokens at temperature {temperature:g}, and the KL is one at 1"
        if absent is not None:
            raise ValueError(f"{option}={monitor}: {absent}; use nll or perplexity, or a cache of codec=hidden")


def check_server(config: TrainConfig) -> None:
    """A server tells the most likely tokens: no weights, no layers, at temperature 1."""
    if not config.teacher.path:
        raise ValueError("teacher.path is not set: write teacher.path=<where the tokenizer of the server's model is>")
    if config.quantization.kind != "none":
        raise ValueError(
            f"quantization={config.quantization.kind}: teacher=openai holds its own weights: write quantization=none"
        )
    if config.student.from_teacher is not None:
        raise ValueError("student.from_teacher: teacher=openai has no weights here to cut; give student.path")


def check_told(config: TrainConfig) -> None:
    """A server's answers are read by a loss that can. (A cache of them keeps what its codec keeps.)"""
    if config.teacher.source == "openai":
        check_signal(config.loss, codec="topk", temperature=1.0)


def monitors(config: TrainConfig) -> Iterator[tuple[str, str]]:
    """The metrics that a run decides by, with the options that name them."""
    yield "trainer.checkpoint.monitor", config.trainer.checkpoint.monitor
    if config.trainer.early_stopping is not None:
        yield "trainer.early_stopping.monitor", config.trainer.early_stopping.monitor
