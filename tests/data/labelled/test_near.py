"""Texts that are nearly the same, against a comparison of all pairs."""

from __future__ import annotations

import random
import re

import numpy as np

from kdlab.data.labelled.near import THRESHOLD, Shingled


def jaccard(a: str, b: str) -> float:
    """By sets of word 5-grams, as written in the module."""
    left, right = (
        {tuple(words[i : i + 5]) for i in range(max(1, len(words) - 4))} if words else set()
        for words in (re.findall(r"\w+", text.lower()) for text in (a, b))
    )
    return len(left & right) / max(len(left | right), 1)


def texts(count: int) -> list[str]:
    """Random texts, and after each a copy with some words changed at its end."""
    draw, made = random.Random(0), []
    for _ in range(count):
        words = [f"w{draw.randrange(500)}" for _ in range(draw.randrange(6, 80))]
        changed = draw.randrange(0, len(words) // 3 + 1)
        made += [" ".join(words), " ".join(words[: len(words) - changed] + ["x"] * changed)]
    return made


def test_all_that_are_near_are_found_and_no_other() -> None:
    made = texts(150)
    shingled, a, b = Shingled(made), np.arange(0, 300, 2), np.arange(1, 300, 2)
    found = shingled.near(a, b)
    oracle = {int(j) for j in b if any(jaccard(made[i], made[j]) >= THRESHOLD for i in a)}
    assert 40 < len(oracle) < 140
    assert set(found) == oracle
    assert all(abs(shingled.similarity(i, j) - jaccard(made[i], made[j])) < 1e-12 for j, i in found.items())


def test_case_punctuation_and_blanks_do_not_count() -> None:
    shingled = Shingled(
        ["Where is my card, please?", "where is  my card please", "", "...", "Where is my cat, please?"]
    )
    assert shingled.near(np.array([0]), np.array([1, 2, 3, 4])) == {1: 0}
    assert shingled.similarity(0, 1) == 1


def test_words_that_are_not_set_apart() -> None:
    text = "今日はとても良い天気ですから散歩に行きましょう"
    shingled = Shingled([text, text[:-1] + "か", text[::-1]])
    assert shingled.near(np.array([0]), np.array([1, 2])) == {1: 0}


def test_the_same_for_the_same_and_nothing_for_nothing() -> None:
    made = texts(20)
    a, b = np.arange(0, 40, 2), np.arange(1, 40, 2)
    assert Shingled(made).near(a, b) == Shingled(made).near(a, b)
    assert Shingled(made).near(a[:0], b) == Shingled(made).near(a, b[:0]) == {}


def test_many_alike_are_found_too() -> None:
    made = ["the very same words in every one of these texts"] * 300
    assert len(Shingled(made).near(np.arange(200), np.arange(200, 300))) == 100
