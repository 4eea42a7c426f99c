"""Rows as questions: the same readers as for training, worded and rendered as the model reads them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kdlab.answering.questions import Questions, read_questions
from kdlab.data.dataset import DatasetConfig
from kdlab.models.tiny import byte_tokenizer

TOKENIZER = byte_tokenizer()
Ask = Callable[..., Questions]


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    def read(rows: list[dict[str, Any]], **options: Any) -> Questions:
        file = tmp_path / "rows.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        dataset = DatasetConfig(path=str(file), **options.pop("dataset", {}))
        how = {"seq2seq": False, "wording": "{question}", "examples": None} | options
        return read_questions(dataset, how.pop("tokenizer", TOKENIZER), **how)

    return read


def prompts(questions: Questions) -> list[str]:
    return [TOKENIZER.decode(question.prompt) for question in questions.asked]


ROWS = [{"question": "1 + 1?", "answer": "#### 2"}, {"question": "2 + {answer}?", "answer": "4"}]


def test_a_question_is_rendered_by_the_models_template(ask: Ask) -> None:
    found = ask(ROWS)
    assert prompts(found) == ["user: 1 + 1?\nassistant: ", "user: 2 + {answer}?\nassistant: "]
    assert [(q.row, q.text, q.reference) for q in found.asked] == [
        (0, "1 + 1?", "#### 2"),
        (1, ROWS[1]["question"], "4"),
    ]


def test_the_wording_is_read_and_not_kept(ask: Ask) -> None:
    found = ask(ROWS, wording="Teach: {question} ({answer})")
    assert prompts(found)[1] == "user: Teach: 2 + {answer}? (4)\nassistant: "
    assert found.asked[1].text == "2 + {answer}?"


def test_a_template_of_ones_own_and_none_at_all(ask: Ask, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "raw.jinja"
    file.write_text("{{ messages[-1]['content'] }}")
    assert prompts(ask(ROWS[:1], dataset={"template": str(file)})) == ["1 + 1?"]
    assert not capsys.readouterr().err
    bare = byte_tokenizer()
    bare.chat_template = None
    assert prompts(ask(ROWS[:1], tokenizer=bare)) == ["### Instruction:\n1 + 1?\n\n### Response:\n"]
    assert "no chat template" in capsys.readouterr().err
    assert prompts(ask(ROWS[:1], seq2seq=True)) == ["1 + 1?"]
    file.write_text("{% oops %}")
    with pytest.raises(ValueError, match=r"dataset\.template: line 1"):
        ask(ROWS, dataset={"template": str(file)})


def test_rows_keep_their_numbers_and_what_is_skipped_is_said(ask: Ask) -> None:
    rows = [{"question": " ", "answer": "1"}, *ROWS]
    found = ask(rows, examples=1)
    assert [question.row for question in found.asked] == [1]
    assert "2 rows read, 1 skipped (1 question is empty)" in str(found)
    assert len(ask(rows, dataset={"num_samples": 2}).asked) == 1
    assert ask(rows).fingerprint != found.fingerprint


def test_of_a_conversation_the_first_question_is_asked(ask: Ask) -> None:
    turns = [("system", "Be brief."), ("user", "one?"), ("assistant", "1"), ("user", "two?"), ("assistant", "2")]
    found = ask([{"messages": [{"role": role, "content": content} for role, content in turns]}])
    (question,) = found.asked
    assert (question.system, question.text, question.reference) == ("Be brief.", "one?", "1")
    assert prompts(found) == ["system: Be brief.\nuser: one?\nassistant: "]
    assert "of 1 conversations the first one only" in str(found)


def test_rows_that_ask_nothing(ask: Ask) -> None:
    with pytest.raises(ValueError, match="plain text and ask nothing"):
        ask([{"text": "just text"}])
    with pytest.raises(ValueError, match=r"dataset\.path=.*no row asks anything"):
        ask([{"question": "", "answer": ""}])


def test_a_file_has_no_splits(ask: Ask, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(ask(ROWS, dataset={"split": "test"}).asked) == 2
    assert "dataset.split=test: a file has no splits" in capsys.readouterr().err
