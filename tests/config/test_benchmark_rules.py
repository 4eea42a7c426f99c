"""What is refused about measuring before anything is loaded."""

from __future__ import annotations

import pytest

from kdlab.config import ConfigError, load

JUDGED = ["experiment=smoke", "benchmark.generation.examples=5"]


@pytest.mark.parametrize(
    ("metric", "package"), [("rouge", "rouge_score"), ("bleu", "sacrebleu"), ("chrf", "sacrebleu")]
)
def test_a_missing_metric_package_is_named_with_its_extra(
    metric: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == package else name)
    told = rf"benchmark\.generation\.metrics=\[{metric}\]: needs {package}.*pip install 'kdlab\[eval\]'"
    with pytest.raises((ConfigError, ValueError), match=told):
        load("train", [*JUDGED, f"benchmark.generation.metrics=[{metric}]"])


def test_an_unknown_metric_is_refused() -> None:
    told = r"benchmark\.generation\.metrics=\[meteor\]: must be one of rouge"
    with pytest.raises((ConfigError, ValueError), match=told):
        load("train", [*JUDGED, "benchmark.generation.metrics=[meteor]"])


@pytest.mark.parametrize("monitor", ["kl", "top1_agreement"])
def test_a_monitor_between_two_tokenizers_compares_no_tokens(monitor: str) -> None:
    overrides = ["experiment=smoke", "student=scratch", "student.tokenizer=tiny:gpt2", "loss=uld"]
    with pytest.raises((ConfigError, ValueError), match=rf"monitor={monitor}: compares token by token"):
        load("train", [*overrides, f"trainer.checkpoint.monitor={monitor}"])
    assert load("train", overrides).config.trainer.checkpoint.monitor == "auto"
