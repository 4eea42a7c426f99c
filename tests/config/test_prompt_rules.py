"""Prompts of a teacher's own that are refused before anything is loaded, in one line that names the option."""

from __future__ import annotations

import pytest

from kdlab.config.compose import Composer
from kdlab.config.loading import load_with

TINY = ["teacher=tiny", "student=cut_to_one", "dataset=gsm8k"]


@pytest.fixture(scope="module")
def composer() -> Composer:
    return Composer("train")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["teacher=none", "student=tiny", "loss=hard"], "teacher=none: prompt=ground_truth gives the teacher a prompt"),
        (["inner=cosine"], "inner.hidden: compares position by position, but prompt=ground_truth gives the teacher"),
        (["dataset.pack=true"], "dataset.pack=true: prompt=ground_truth gives the teacher"),
        (["dataset.supervise=all"], "dataset.supervise=all: prompt=ground_truth gives the teacher"),
    ],
)
def test_refused(composer: Composer, overrides: list[str], message: str) -> None:
    load_with(composer, [*TINY, *overrides, "prompt=base"])
    with pytest.raises(ValueError, match=message) as raised:
        load_with(composer, [*TINY, *overrides, "prompt=ground_truth"])
    assert "\n" not in str(raised.value)


def test_a_prompt_without_a_name_is_called_by_its_option(composer: Composer) -> None:
    own = 'prompt.teacher="Think: {question}"'
    assert load_with(composer, [*TINY, own]).config.prompt.of_teacher == "Think: {question}"
    with pytest.raises(ValueError, match=r"^dataset.pack=true: prompt.teacher gives the teacher a prompt of its own"):
        load_with(composer, [*TINY, own, "dataset.pack=true"])


def test_a_place_that_is_none_is_named(composer: Composer) -> None:
    with pytest.raises(ValueError, match=r"prompt.teacher: \{solution\} is no place"):
        load_with(composer, [*TINY, 'prompt.teacher="{question} {solution}"'])


def test_the_prompts_go_with_every_tokenizer(composer: Composer) -> None:
    loaded = load_with(composer, ["teacher=tiny", "student=scratch", "loss=span_kl", "prompt=confidence"])
    assert loaded.config.prompt.privileged
