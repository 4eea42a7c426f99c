"""What is refused of a cached or a remote teacher before anything is loaded, each in one line with its remedy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from kdlab.config.compose import Composer
from kdlab.config.loading import load_with
from kdlab.config.mistakes import ConfigError
from kdlab.teachers.cache.manifest import MANIFEST, Manifest, to_json
from kdlab.teachers.codecs import CODECS
from kdlab.training.recipe import TrainConfig

CUT = ["experiment=smoke", "teacher=cached"]
ALONE = [*CUT, "student=pretrained", "student.path=tiny:llama"]


@pytest.fixture(scope="module")
def composer() -> Composer:
    return Composer("train")


@pytest.fixture
def cache(tmp_path: Path) -> Callable[..., str]:
    """`cache("topk", k=4)`: the folder of a finished cache, as far as its manifest tells."""

    def write(codec: str, *, teacher: dict[str, Any] | None = None, **options: Any) -> str:
        made = CODECS[codec](**options)
        told = {field.name: getattr(made, field.name) for field in fields(made)}
        of = {
            "path": "tiny:llama",
            "revision": None,
            "description": "tiny:llama",
            "weight_hash": "0" * 64,
            "identity": "0",
        }
        manifest = Manifest(
            teacher=of | {"dtype": "float32", "quantization": "none"} | (teacher or {}),
            tokenizer="0",
            reading={},
            codec={"name": codec, "version": made.version, **told},
            vocabulary=320,
            hidden=64,
            seed=0,
            shard_rows=1,
            batch_tokens=1,
            entries_hash="0",
            counts={"entries": 0, "rows": 0, "shards": 0},
            versions={},
            command=[],
            files={},
            shards=(),
            fidelity=None,
        )
        (tmp_path / MANIFEST).write_bytes(to_json(manifest))
        return str(tmp_path)

    return write


@pytest.fixture
def load(composer: Composer) -> Callable[..., TrainConfig]:
    def run(*overrides: str) -> TrainConfig:
        config: TrainConfig = load_with(composer, list(overrides)).config
        return config

    return run


def test_a_cache_that_fits(load: Callable[..., TrainConfig], cache: Callable[..., str]) -> None:
    path = cache("topk", k=4, temperature=2.0)
    config = load(*CUT, f"teacher.path={path}", "teacher.model=tiny:llama", "loss.temperature=2")
    assert config.teacher.source == "cached"
    whole = cache("topk", k=400)
    assert load(*CUT, f"teacher.path={whole}", "loss.temperature=2").loss.temperature == 2
    hidden = cache("hidden")
    assert load(*CUT, f"teacher.path={hidden}", "loss=jensen_shannon", "loss.temperature=5").loss.temperature == 5


REFUSED: dict[str, tuple[tuple[str, dict[str, Any]], list[str], str]] = {
    "another model": (("hidden", {}), ["teacher.model=gpt2"], r"teacher.model=gpt2: .* \(teacher.model=tiny:llama\)"),
    "another revision": (("hidden", {}), ["teacher.revision=v2"], r"teacher.revision=v2: .*held otherwise"),
    "another type": (("hidden", {}), ["teacher.dtype=float16"], r"teacher.dtype=float16: .*\(teacher.dtype=float32\)"),
    "packed": (("hidden", {}), ["quantization=nf4"], r"quantization=nf4: .*\(quantization=none\)"),
    "layers": (("hidden", {}), ["inner=hidden"], "inner.hidden: needs the teacher's layers, and teacher=cached only"),
    "softer": (("topk", {"k": 4}), ["loss.temperature=2"], "loss.temperature=2: .* cannot be softened anew"),
    "biased": (("sampled", {}), ["loss=reverse_kl"], "loss=reverse_kl: is biased on drawn tokens"),
    "two tokenizers": (("topk", {"k": 4}), ["loss=uld"], "needs the teacher's whole distribution"),
    "annealed": (
        ("topk", {"k": 4}),
        ["loss.temperature_anneal={to: 2}"],
        "loss.temperature_anneal: .* cannot be softened anew",
    ),
    "two vocabularies": (("topk", {"k": 4}), ["loss.vocab=shared"], "loss.vocab=shared: needs the teacher's whole"),
    "agreement with draws": (
        ("sampled", {}),
        ["trainer.checkpoint.monitor=top1_agreement"],
        "trainer.checkpoint.monitor=top1_agreement: codec=sampled keeps draws",
    ),
    "kl at another temperature": (
        ("topk", {"k": 4, "temperature": 2.0}),
        ["loss.temperature=2", "trainer.early_stopping={monitor: kl}"],
        "trainer.early_stopping.monitor=kl: codec=topk keeps some tokens at temperature 2",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_cache_that_does_not_fit(case: str, load: Callable[..., TrainConfig], cache: Callable[..., str]) -> None:
    (codec, options), overrides, said = REFUSED[case]
    with pytest.raises(ConfigError, match=said) as error:
        load(*ALONE, f"teacher.path={cache(codec, **options)}", *overrides)
    assert "\n" not in str(error.value)


def test_nothing_to_cut_in_the_cache_of_a_server(load: Callable[..., TrainConfig], cache: Callable[..., str]) -> None:
    path = cache("topk", k=4, teacher={"weight_hash": None, "dtype": "server"})
    with pytest.raises(ConfigError, match=r"student.from_teacher: .* was written by a server"):
        load(*CUT, f"teacher.path={path}")
    assert load(*ALONE, f"teacher.path={path}").student.path == "tiny:llama"


def test_a_judge_of_some_tokens_where_two_vocabularies_meet(
    load: Callable[..., TrainConfig], cache: Callable[..., str], tmp_path: Path
) -> None:
    path = cache("hidden")
    (tmp_path / "few").mkdir()
    (tmp_path / MANIFEST).rename(tmp_path / "few" / MANIFEST)
    few, path = cache("topk", k=4), str(tmp_path / "few")  # the folders changed places
    words = [*ALONE, f"teacher.path={path}", f"teacher.heldout={few}"]
    for loss in ("loss=uld", "loss.vocab=shared"):
        with pytest.raises(ConfigError, match=f"teacher.heldout={few}: keeps some tokens only"):
            load(*words, loss)
    assert load(*words).teacher.heldout == few


def test_nothing_is_packed_for_a_teacher_that_is_not_loaded(
    load: Callable[..., TrainConfig], cache: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kdlab.config.rules.lacking", lambda kind: None if kind == "none" else "needs a package")
    path = cache("hidden", teacher={"quantization": "nf4"})
    assert load(*ALONE, f"teacher.path={path}", "quantization=nf4").quantization.kind == "nf4"


def test_no_cache(load: Callable[..., TrainConfig], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"teacher.path is not set: write teacher.path=<the folder"):
        load(*CUT)
    with pytest.raises(ConfigError, match=f"teacher.path={tmp_path}: no cache of signals"):
        load(*CUT, f"teacher.path={tmp_path}")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ([], "student.from_teacher: teacher=openai has no weights here to cut"),
        (["student=pretrained", "student.path=gpt2", "loss.temperature=2"], "loss.temperature=2: .*at temperature 1"),
        (["student=pretrained", "student.path=gpt2", "quantization=nf4"], "quantization=nf4: teacher=openai holds"),
        (["student=pretrained", "student.path=gpt2", "inner=hidden"], "inner.hidden: .* teacher=openai only predicts"),
        (["teacher.path=null"], "teacher.path is not set: write teacher.path=<where the tokenizer"),
    ],
)
def test_a_server(load: Callable[..., TrainConfig], overrides: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load("experiment=smoke", "teacher=openai", "teacher.path=gpt2", *overrides)


def test_a_server_is_asked_for_a_cache_whatever_the_loss() -> None:
    words = ["experiment=smoke", "teacher=openai", "teacher.path=gpt2", "student=pretrained", "student.path=gpt2"]
    config = load_with(Composer("cache"), [*words, "codec=topk", "codec.k=5", "loss.temperature=2"]).config
    assert config.codec.k == 5


@pytest.mark.parametrize("loss", ["loss=uld", "loss.vocab=shared"])
def test_a_cache_that_its_loss_could_not_read_is_not_written(loss: str) -> None:
    words = ["experiment=smoke", "student=pretrained", "student.path=tiny:llama", loss]
    with pytest.raises(ConfigError, match=r"codec=topk: keeps some tokens only, and loss=.* reads whole distributions"):
        load_with(Composer("cache"), [*words, "codec=topk"])
    assert load_with(Composer("cache"), [*words, "codec=hidden"]).config.codec.whole
