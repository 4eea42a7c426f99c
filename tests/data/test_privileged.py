"""One dataset behind two prompts: the teacher reads its own, and predicts the very tokens that the student does."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from kdlab.batch import Batch
from kdlab.data import stream as stream_module
from kdlab.data.collate import padded
from kdlab.data.dataset import Data, DatasetConfig, Side, build
from kdlab.data.loader import StepLoader, heldout_batches, open_loader
from kdlab.data.loader_options import LoaderOptions
from kdlab.data.store import Example
from kdlab.losses import LOSSES
from kdlab.models.student import Student
from kdlab.models.tiny import byte_tokenizer, tiny_model
from kdlab.rows import Dense, Projected, supervised
from kdlab.teachers.live import LiveTeacher
from kdlab.text.prompts import PromptConfig
from kdlab.training.answers import questions
from kdlab.training.evaluation import prompts, teacher_prompts
from kdlab.training.pair import pair_up

sys.path.append(str(Path(__file__).parents[1] / "text"))
from readers import byte_level, spaced

SIDE = Side(tokenizer=byte_tokenizer())
TEXTS = st.text(
    st.one_of(st.sampled_from("{}questionanswer \n<>é漢🙂"), st.characters(exclude_categories=["Cs"])), max_size=12
)
ROWS = [
    {"question": "1+1?", "answer": "2"},
    {"question": "2+3? {answer}", "answer": "it is 5"},
    {"question": "é?", "answer": "漢 🙂"},
]
TOLD = PromptConfig(name="told", teacher="Known: {answer}. Now {question}")


@pytest.fixture
def config(tmp_path):
    def make(rows, **changes) -> DatasetConfig:
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return DatasetConfig(**({"path": str(path), "cache_dir": str(tmp_path / "cache"), "heldout": 1} | changes))

    return make


def examples(data: Data) -> dict[int, Example]:
    found = [store[i] for store in (data.train, data.heldout) for i in range(len(store))]
    return {example.row: example for example in found if example.row is not None}


def targets(example: Example) -> list[int]:
    return example.input_ids[example.supervised].tolist()


def said(example: Example) -> str:
    return str(SIDE.tokenizer.decode(example.input_ids))


def whole(data: Data) -> Batch:
    """All examples in one batch, as the layout of the data has them."""
    return padded(list(examples(data).values()), data.train.layout(pad_id=0))


def test_three_examples_by_hand(config):
    data = build(config(ROWS), SIDE, prompt=TOLD)
    read = {row: (said(e), said(e.teacher)) for row, e in examples(data).items()}
    assert read == {
        0: ("user: 1+1?\nassistant: 2<eos>\n", "user: Known: 2. Now 1+1?\nassistant: 2<eos>"),
        1: (
            "user: 2+3? {answer}\nassistant: it is 5<eos>\n",
            "user: Known: it is 5. Now 2+3? {answer}\nassistant: it is 5<eos>",
        ),
        2: ("user: é?\nassistant: 漢 🙂<eos>\n", "user: Known: 漢 🙂. Now é?\nassistant: 漢 🙂<eos>"),
    }
    for row, example in examples(data).items():
        assert SIDE.tokenizer.decode(targets(example)) == ROWS[row]["answer"] + "<eos>"
        assert targets(example) == targets(example.teacher)
        assert example.teacher.row == row
    assert data.verdict.prompt == "told"
    assert data.verdict.gives_answer
    parts = [data.verdict.train.teacher, data.verdict.heldout.teacher]
    assert max(part.longest for part in parts) == max(len(e.teacher) for e in examples(data).values())
    assert "prompt=told: teacher and student are asked differently; the teacher's holds the answer" in str(data.verdict)
    assert "as the teacher reads it" in str(data.verdict)


def test_the_teachers_rows_are_those_of_reading_its_prompt_and_the_answer(config):
    """Against a plain forward pass of `Known: ... Now ... answer` for one example at a time."""
    data = build(config(ROWS), SIDE, prompt=TOLD)
    student, teacher = tiny_model("llama", seed=1, layers=1), tiny_model("llama", seed=2)
    mine = Student(model=student, tokenizer=SIDE.tokenizer, description="")
    pair = pair_up(LOSSES["forward_kl"](), mine, LiveTeacher(teacher, byte_tokenizer(), description=""))
    rows = pair.rows(whole(data))
    logits, labels = [], []
    for row in examples(data):
        question, answer = ROWS[row]["question"], ROWS[row]["answer"]
        prompt = f"user: Known: {answer}. Now {question}\nassistant: "
        asked, replied = SIDE.tokenizer(prompt)["input_ids"], [*SIDE.tokenizer(answer)["input_ids"], 2]
        with torch.no_grad():
            found = teacher(torch.tensor([asked + replied])).logits[0]
        logits.append(found[len(asked) - 1 : len(asked) + len(replied) - 1])
        labels += replied
    assert rows.labels_N.tolist() == labels
    signal = rows.teacher
    assert isinstance(signal, Projected)
    got = signal.hidden_NH @ signal.weight_VH.T
    assert torch.allclose(got, torch.cat(logits), atol=1e-4, rtol=0)
    assert len(rows.student) == len(labels)


@pytest.mark.parametrize("vocab", ["strict", "shared"])
def test_the_loss_falls_to_nothing_for_a_student_that_is_told_the_same(config, vocab):
    """The same model on both sides: KL is 0 behind one prompt, and not behind two."""
    model = tiny_model("llama", seed=3)
    mine = Student(model=model, tokenizer=SIDE.tokenizer, description="")
    pair = pair_up(LOSSES["forward_kl"](vocab=vocab), mine, LiveTeacher(model, byte_tokenizer(), description=""))
    apart = []
    for prompt in (PromptConfig(student="Now {question}"), PromptConfig(teacher="Now {question}")):
        with torch.no_grad():
            rows = pair.rows(whole(build(config(ROWS), SIDE, prompt=prompt)))
        q, p = (
            side.logits_NV if isinstance(side, Dense) else side.hidden_NH @ side.weight_VH.T
            for side in (rows.student, rows.teacher)
        )
        apart.append(float((p.log_softmax(-1) - q.log_softmax(-1)).abs().max()))
    assert apart[0] < 1e-4
    assert apart[1] > 0.1


def test_the_student_never_reads_the_teachers_words(config):
    rows = [{"question": f"ask {i}?", "answer": f"SECRET{i}"} for i in range(20)]
    data = build(config(rows, heldout=4), SIDE, prompt=PromptConfig(teacher="HINT {answer} {question}"))
    plain = build(config(rows, heldout=4), SIDE)
    for row, example in examples(data).items():
        before, answer, after = said(example).partition(f"SECRET{row}")
        assert answer, "the answer is what is learnt"
        assert "HINT" not in before + after
        assert "SECRET" not in before + after
        assert f"HINT SECRET{row} ask {row}?" in said(example.teacher)
        alone = examples(plain)[row]
        assert alone.teacher is None
        assert np.array_equal(alone.input_ids, example.input_ids)
        assert np.array_equal(alone.supervised, example.supervised)
    assert sorted(e.row for e in map(data.heldout.__getitem__, range(4))) == sorted(
        e.row for e in map(plain.heldout.__getitem__, range(4))
    ), "who is held out depends on the student's side alone"


def test_a_cut_answer_is_cut_at_the_same_token_on_both_sides(config):
    rows = [{"question": "q" * (i % 5), "answer": f"{i} " + "abc" * i} for i in range(1, 20)]
    prompt = PromptConfig(teacher="a longer prompt, by far, which is never cut: {question}")
    data = build(config(rows, max_length=40), SIDE, prompt=prompt)
    cut = 0
    for row, example in examples(data).items():
        ours, theirs = targets(example), targets(example.teacher)
        assert ours == theirs
        assert len(example) <= 40
        full = [*SIDE.tokenizer(rows[row]["answer"])["input_ids"], 2]
        assert ours == full[: len(ours)]
        cut += len(ours) < len(full)
        assert len(example.teacher) == len("user: \nassistant: ") + len(prompt.of_teacher) - 10 + len(
            rows[row]["question"]
        ) + len(ours)
    assert cut > 3
    assert data.verdict.train.teacher.longest > 40


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.tuples(TEXTS, TEXTS), min_size=2, max_size=5),
    before=TEXTS,
    after=TEXTS,
    told=st.booleans(),
    length=st.integers(70, 160),
)
def test_both_predict_the_same_tokens_whatever_is_asked(config, rows, before, after, told, length):
    """A law over random Unicode; the oracle is the same dataset with the teacher's prompt as everyone's."""
    asked = [{"question": f"{i}{q[:4]}", "answer": f"{a}{i}"} for i, (q, a) in enumerate(rows)]
    wording = before.replace("{answer}", "") + "{question}" + after.replace("{answer}", "")
    prompt = PromptConfig(teacher=wording + ("{answer}" if told else ""))
    assume(prompt.privileged)
    side = Side(tokenizer=byte_level())
    data = build(config(asked, max_length=length, heldout=1), side, prompt=prompt)
    tokenizer = side.tokenizer
    for row, example in examples(data).items():
        theirs = example.teacher
        assert targets(example) == targets(theirs) != []
        first = int(np.flatnonzero(theirs.supervised)[0])
        question, answer = asked[row]["question"], asked[row]["answer"]
        told_to_it = question.join(wording.split("{question}")) + (answer if told else "")
        assert tokenizer.decode(theirs.input_ids[:first]) == f"### Instruction:\n{told_to_it}\n\n### Response:\n"
        assert theirs.supervised[first:].all(), "an answer and its end lie side by side"


JOINED = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
"""A template that marks no turn, so that tokens may join across the end of a question."""


def test_rows_whose_answer_reads_otherwise_are_skipped_and_counted(config, tmp_path):
    """Behind "...th" an answer "e ..." would be written "the": the teacher would be asked for other tokens."""
    (tmp_path / "joined.jinja").write_text(JOINED)
    rows = [{"question": f"{i}?", "answer": "e is" if i in (2, 5, 7) else f"5 is {i}"} for i in range(12)]
    options = config(rows, template=str(tmp_path / "joined.jinja"), heldout=5)
    side = Side(tokenizer=byte_level())
    assert len(side.tokenizer("the")["input_ids"]) < len(side.tokenizer("th")["input_ids"]) + 1, "they do join"
    data = build(options, side, prompt=PromptConfig(teacher="{question} th"))
    assert set(examples(data)) == set(range(12)) - {2, 5, 7}
    reason = "that only the teacher's side skips: its prompt makes other tokens of the answer"
    counted = [part.skipped.get(reason, 0) for part in (data.verdict.train, data.verdict.heldout)]
    assert sum(counted) == 3
    assert "3 rows skipped, as only it skips them" in str(data.verdict)


def test_every_turn_of_a_conversation_is_asked_behind_the_prompt(config):
    turns = [("system", "be brief"), ("user", "a?"), ("assistant", "A"), ("user", "b?"), ("assistant", "B")]
    rows = [
        {"messages": [{"role": r, "content": f"{c}{i}" if r != "system" else c} for r, c in turns]} for i in range(3)
    ]
    data = build(config(rows), SIDE, prompt=PromptConfig(teacher="{question}({answer})"))
    for i, example in examples(data).items():
        assert said(example.teacher) == (
            f"system: be brief\nuser: a?{i}(A{i})\nassistant: A{i}<eos>\nuser: b?{i}(B{i})\nassistant: B{i}<eos>"
        )
        assert SIDE.tokenizer.decode(targets(example)) == f"A{i}<eos>B{i}<eos>"
        assert targets(example) == targets(example.teacher)


def test_an_encoder_reads_its_own_source_whole_and_the_targets_are_one(config):
    rows = [{"source": f"{i} " + "word " * i, "target": f"{i} it is"} for i in range(8)]
    side = Side(tokenizer=byte_tokenizer(), seq2seq=True)
    prompt = PromptConfig(teacher="Shorten ({answer}): {question}")
    data = build(config(rows, max_length=16, max_target_length=5), side, prompt=prompt)
    for i, example in examples(data).items():
        theirs = example.teacher
        assert SIDE.tokenizer.decode(theirs.source_ids) == f"Shorten ({i} it is): {rows[i]['source']}"
        assert SIDE.tokenizer.decode(example.source_ids) == rows[i]["source"][:16]
        assert theirs.input_ids.tolist() == example.input_ids.tolist() == SIDE.tokenizer(f"{i} it is"[:5])["input_ids"]
    teacher, student = tiny_model("t5", seed=1), tiny_model("t5", seed=2)
    mine = Student(model=student, tokenizer=side.tokenizer, description="")
    pair = pair_up(LOSSES["forward_kl"](), mine, LiveTeacher(teacher, byte_tokenizer(), description=""))
    rows_N = pair.rows(whole(data))
    assert len(rows_N.student) == len(rows_N.labels_N) == 5 * 8
    assert rows_N.teacher.hidden_NH.shape == rows_N.student.hidden_NH.shape


def test_a_teacher_with_its_own_tokenizer_has_its_own_prompt(config):
    rows = [{"question": f"ask {i}?", "answer": f"value {i}"} for i in range(8)]
    teacher = Side(tokenizer=spaced())
    one = build(config(rows), SIDE, teacher)
    two = build(config(rows), SIDE, teacher, prompt=PromptConfig(teacher="hello {answer} {question}"))
    for row, example in examples(two).items():
        alone = examples(one)[row]
        assert np.array_equal(example.input_ids, alone.input_ids)
        assert targets(example.teacher) == targets(alone.teacher)
        assert f"hello value {row} ask {row}?" in teacher.tokenizer.decode(example.teacher.input_ids)
        ours, theirs = (e.ends[e.supervised].max() for e in (example, example.teacher))
        assert ours == theirs == len(rows[row]["answer"]) + 1


def test_the_teacher_is_asked_its_own_question(config):
    data = build(config(ROWS, heldout=2), SIDE, prompt=TOLD)
    tokenizer = SIDE.tokenizer
    asked = teacher_prompts(data.heldout, 2, tokenizer, tokenizer)
    for example, ours, theirs, question in zip(
        map(data.heldout.__getitem__, range(2)),
        prompts(data.heldout, 2),
        asked,
        questions(data.heldout, tokenizer, examples=None),
        strict=True,
    ):
        row = ROWS[example.row]
        assert tokenizer.decode(ours) == f"user: {row['question']}\nassistant: "
        assert tokenizer.decode(theirs) == f"user: Known: {row['answer']}. Now {row['question']}\nassistant: "
        assert question.prompt == ours
        assert question.teacher_prompt == theirs
        assert question.reference == row["answer"]


def test_tokens_of_each_prompt_are_kept_apart(config):
    one, two = (PromptConfig(teacher=f"{word} {{question}}") for word in ("one", "two"))
    found = [build(config(ROWS), SIDE, prompt=prompt) for prompt in (one, two, one)]
    assert [data.verdict.cached for data in found] == [False, False, True]
    hashes = [data.train.content_hash for data in found]
    assert hashes[0] == hashes[2] != hashes[1]
    assert found[0].train.content_hash != build(config(ROWS), SIDE).train.content_hash


def test_loaders_bring_both_sides(config):
    rows = [{"question": "q" * i, "answer": "a" * (i % 7 + 1)} for i in range(1, 24)]
    data = build(config(rows, heldout=3, group_by_length=True), SIDE, prompt=TOLD)
    options = LoaderOptions(batch_size=2, accumulate=2, seed=0, pad_id=0, group_by_length=True, world=2)
    batches = [batch for step in StepLoader(data.train, options) for batch in step]
    batches += heldout_batches(data.heldout, batch_size=2, pad_id=0)
    for batch in batches:
        assert batch.teacher is not None
        (_, ours), (_, theirs) = (supervised(b.labels_BT, shift=b.shift) for b in (batch, batch.teacher))
        assert torch.equal(ours, theirs)


def test_a_stream_brings_both_sides(config, monkeypatch):
    monkeypatch.setattr(stream_module, "BLOCK_ROWS", 8)
    rows = [{"question": f"{i}?", "answer": f"it is {i}"} for i in range(40)]
    data = build(config(rows, heldout=5, streaming=True), SIDE, prompt=TOLD)
    stored = examples(build(config(rows), SIDE, prompt=TOLD))
    loader = open_loader(data.train, LoaderOptions(batch_size=2, accumulate=1, pad_id=0, max_steps=17))
    seen = set()
    for (batch,) in loader:
        theirs = batch.teacher
        assert theirs is not None
        (_, ours_N), (_, theirs_N) = (supervised(b.labels_BT, shift=b.shift) for b in (batch, theirs))
        assert torch.equal(ours_N, theirs_N)
        for k, row in enumerate(batch.example_ids):
            ids = theirs.input_ids_BT[k][theirs.attention_mask_BT[k].bool()]
            assert ids.tolist() == stored[row].teacher.input_ids.tolist()
            seen.add(row)
    assert len(seen) == 34
    assert loader.counts["teacher_tokens"] > loader.counts["tokens"]
    other = build(config(rows, heldout=5, streaming=True), SIDE, prompt=PromptConfig(teacher="Else {question}"))
    again = open_loader(other.train, LoaderOptions(batch_size=2, accumulate=1, pad_id=0, max_steps=17))
    with pytest.raises(ValueError, match="another stream"):
        again.load_state_dict(loader.state_dict())


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"pack": True}, "dataset.pack=true: prompt=told"), ({"supervise": "all"}, "dataset.supervise=all: prompt=told")],
)
def test_what_two_prompts_cannot_have_is_refused(config, changes, message):
    with pytest.raises(ValueError, match=f"^{message}") as raised:
        build(config(ROWS, **changes), SIDE, prompt=TOLD)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("prompt", [TOLD, PromptConfig(student="Read: {question}")])
def test_plain_text_is_refused_before_it_is_read_whole(config, prompt):
    with pytest.raises(ValueError, match=r"^dataset.path=.*plain text.*prompt=base"):
        build(config([{"text": "a b c"}] * 30), SIDE, prompt=prompt)


def test_a_wording_of_both_is_no_privilege(config):
    data = build(config(ROWS), SIDE, prompt=PromptConfig(student="Solve: {question}"))
    assert {row: said(e) for row, e in examples(data).items()}[0] == "user: Solve: 1+1?\nassistant: 2<eos>\n"
    assert data.heldout[0].teacher is None
    assert data.verdict.prompt is None
