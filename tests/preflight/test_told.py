"""The check of a run whose teacher is a cache: no weights, no forward pass, the head of hidden states, every signal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest

from kdlab.caching.job import cache
from kdlab.caching.recipe import CacheConfig
from kdlab.preflight.findings import Findings
from kdlab.teachers.codecs import CODECS
from kdlab.training.recipe import TrainConfig

Look = Callable[..., Findings]


@pytest.fixture(scope="session")
def kept(config: Callable[..., TrainConfig], tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The options of a cached teacher, by codec."""
    folder, live = tmp_path_factory.mktemp("caches"), config()
    options = {field.name: getattr(live, field.name) for field in fields(TrainConfig)}
    for codec in ("topk", "hidden"):
        cache(CacheConfig(**options, codec=CODECS[codec](), fidelity_rows=0), output_dir=folder / codec, overrides=[])
    return {codec: ["teacher=cached", f"teacher.path={folder / codec}"] for codec in ("topk", "hidden")}


@pytest.mark.parametrize("codec", ["topk", "hidden"])
def test_a_run_that_works(codec: str, look: Look, kept: dict[str, list[str]]) -> None:
    found = look(*kept[codec])
    assert found.status == 0, found.lines("failure", "unknown", "warning")
    parts = found.numbers["memory"]["parts"]
    assert "teacher weights" not in parts
    assert "teacher activations" not in parts
    live = look().numbers
    assert parts["student weights"] == live["memory"]["parts"]["student weights"]
    texts = [line.text for line in found.lines("ok")]
    assert any(text.startswith(f"teacher: no model here; tiny:llama, kept by codec={codec}") for text in texts)
    assert any(text.endswith("has a signal for all of 12 examples") for text in texts)
    assert found.numbers["models"]["teacher"]["disk_bytes"] > 0


def test_the_head_of_hidden_states_is_held(look: Look, kept: dict[str, list[str]]) -> None:
    parts = {codec: look(*kept[codec]).numbers["memory"]["parts"] for codec in kept}
    entries = look().numbers["tokenizers"]["student"]["head"]
    assert parts["hidden"]["the teacher's head"] == entries * 64 * 4
    assert "the teacher's head" not in parts["topk"]
    assert parts["topk"]["signals"] > parts["hidden"]["signals"] > 0


def test_examples_without_a_signal(look: Look, kept: dict[str, list[str]]) -> None:
    found = look(*kept["topk"], "dataset.max_length=40")
    assert found.status == 1
    [line] = found.lines("failure")
    assert "has no signal for" in line.text
    assert "(now 40)" in line.text
    assert found.numbers["memory"]["peak_bytes"] > 0  # the rest is told all the same


def test_a_student_of_its_own(look: Look, kept: dict[str, list[str]]) -> None:
    found = look(*kept["topk"], "student=pretrained", "student.path=tiny:gpt2")
    assert found.status == 0
    assert "cutting the student" not in found.numbers["memory"]["moments"]
    assert "cutting the student" in look(*kept["topk"]).numbers["memory"]["moments"]


def test_a_cut_of_other_weights(look: Look, config: Callable[..., TrainConfig], tmp_path: Path) -> None:
    from kdlab.models.tiny import save_tiny

    place = save_tiny("llama", tmp_path / "teacher", seed=1)
    live = config(f"teacher.path={place}")
    options = {field.name: getattr(live, field.name) for field in fields(TrainConfig)}
    cache(CacheConfig(**options, codec=CODECS["topk"](), fidelity_rows=0), output_dir=tmp_path / "kept", overrides=[])
    save_tiny("llama", place, seed=2)
    [line] = look("teacher=cached", f"teacher.path={tmp_path / 'kept'}").lines("failure")
    assert line.text.startswith("student.from_teacher: teacher.path=")
    assert "is of other weights than" in line.text
