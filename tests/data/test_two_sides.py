"""One dataset as two tokenizers read it: examples that cover the same bytes."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from kdlab.data.dataset import DatasetConfig, Side, build
from kdlab.data.loader import StepLoader, heldout_batches, open_loader
from kdlab.data.loader_options import LoaderOptions
from kdlab.data.pairing import within
from kdlab.models.tiny import byte_tokenizer
from kdlab.rows import IGNORE, supervised
from kdlab.text.alignment import Stretch, align

TEACHERS_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if 'refused' in m['content'] %}{{ raise_exception('I will not') }}{% endif %}"
    "[{{ m['role'] }}] {{ m['content'] }}{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}[assistant] {% endif %}"
)
WORDS = ["the", "house", "stands", "by", "a", "sea", "and", "wind", "é", "漢字", "🙂", "blows", "it", "all", "night"]


def sentence(i: int, count: int) -> str:
    return " ".join(WORDS[(i * 5 + k * k) % len(WORDS)] for k in range(count))


def teachers_tokenizer(vocabulary: int = 330):
    """Byte-level BPE with merges, BOS in front of a text, and a chat template that refuses some rows."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    special = ["<s>", "</s>", "<none>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    core.train_from_iterator([sentence(i, 12) for i in range(40)], trainer)
    core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", pad_token="<none>")
    tokenizer.chat_template = TEACHERS_TEMPLATE
    return tokenizer


STUDENT, TEACHER = Side(tokenizer=byte_tokenizer()), Side(tokenizer=teachers_tokenizer())
BOS, EOS, PAD = 0, 1, 2


@pytest.fixture
def config(tmp_path):
    def make(rows, **changes) -> DatasetConfig:
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return DatasetConfig(**({"path": str(path), "cache_dir": str(tmp_path / "cache"), "heldout": 2} | changes))

    return make


def chats(count: int) -> list[dict[str, str]]:
    return [{"prompt": f"Say {i}", "completion": f"{i} " + sentence(i, 3 + i % 9)} for i in range(count)]


def texts(count: int) -> list[dict[str, str]]:
    return [{"text": f"{i} " + sentence(i, 20 + i)} for i in range(count)]


def examples(data) -> list:
    return [store[i] for store in (data.train, data.heldout) for i in range(len(store))]


def spelt(example, side: Side) -> dict[int, str]:
    """What is spelt from each byte on."""
    decode = side.tokenizer.decode
    return {int(a): decode([i]) for i, a in zip(example.input_ids, example.starts, strict=True) if a >= 0}


def stretch(batch) -> tuple[Stretch, torch.Tensor]:
    positions, labels = supervised(batch.labels_BT, shift=batch.shift)
    at = positions + 1 if batch.shift else positions
    places = (bytes_.reshape(-1)[at] for bytes_ in (batch.starts_BT, batch.ends_BT))
    start, end = places
    return Stretch(example_N=positions // batch.labels_BT.shape[1], start_N=start, end_N=end), labels


def aligned_bytes_are_equal(batch) -> tuple[int, int]:
    """Spans of a batch whose labels spell the same on both sides, and all spans."""
    ours, our_labels = stretch(batch)
    theirs, their_labels = stretch(batch.teacher)
    span_N, span_M, count = align(ours, theirs)
    same = 0
    for span in range(count):
        our_ids, their_ids = our_labels[span_N == span].tolist(), their_labels[span_M == span].tolist()
        left = STUDENT.tokenizer.decode(our_ids).replace("<eos>", "$")
        right = TEACHER.tokenizer.decode(their_ids).replace("</s>", "$")
        same += left == right and left != ""
    return same, count


@pytest.mark.parametrize(("rows", "changes"), [(chats, {}), (chats, {"max_length": 48}), (texts, {"max_length": 32})])
def test_aligned_spans_spell_the_same(config, rows, changes):
    data = build(config(rows(20), **changes), STUDENT, TEACHER)
    found = [
        aligned_bytes_are_equal(b)
        for s in (data.train, data.heldout)
        for b in heldout_batches(s, batch_size=4, pad_id=0)
    ]
    assert sum(count for _, count in found) >= 100
    assert all(same == count for same, count in found)


def test_a_whole_conversation_is_each_ones_own(config):
    data = build(config(chats(8)), STUDENT, TEACHER)
    for example in examples(data):
        i, theirs = example.row, example.teacher
        said = chats(8)[i]["completion"]
        assert STUDENT.tokenizer.decode(example.input_ids) == f"user: Say {i}\nassistant: {said}<eos>\n"
        assert TEACHER.tokenizer.decode(theirs.input_ids) == f"<s>[user] Say {i}\n[assistant] {said}</s>\n"
        assert TEACHER.tokenizer.decode(theirs.input_ids[theirs.supervised]) == f"{said}</s>"
        assert max(theirs.ends) == max(example.ends) == len(said.encode()) + 1
        assert theirs.row == example.row
        assert theirs.starts.dtype == np.int32


def test_a_cut_conversation_is_cut_at_the_same_byte(config):
    whole, cut = (build(config(chats(12), max_length=n), STUDENT, TEACHER) for n in (200, 40))
    before = {example.row: example.teacher for example in examples(whole)}
    shorter = 0
    for example in examples(cut):
        theirs, all_of_it, last = example.teacher, before[example.row], example.ends.max()
        n = len(theirs.input_ids)
        assert theirs.input_ids.tolist() == all_of_it.input_ids[:n].tolist(), "from its own beginning"
        if n < len(all_of_it.input_ids):
            shorter += 1
            assert theirs.ends.max() == theirs.ends[-1] <= last
            assert all_of_it.ends[n] > last, "no token more would fit"
    assert shorter > 5


def test_windows_of_a_text_share_it_out(config):
    rows = texts(12)
    data = build(config(rows, max_length=24), STUDENT, TEACHER)
    seen: dict[int, list] = {}
    for example in examples(data):
        seen.setdefault(example.row, []).append(example)
    assert len(seen) == 12
    lost = 0
    for row, parts in seen.items():
        parts.sort(key=lambda example: example.starts[0])
        ids = [*TEACHER.tokenizer(rows[row]["text"])["input_ids"][1:], EOS]
        covered = []
        for example in parts:
            theirs, first, last = example.teacher, example.starts[0], example.ends[-1]
            assert (theirs.input_ids[0], theirs.starts[0], theirs.supervised[0]) == (BOS, -1, False)
            assert theirs.supervised[1:].all(), "behind BOS every token is predicted"
            assert not example.supervised[0]
            assert (theirs.starts[1:] >= first).all()
            assert (theirs.ends <= last).all()
            covered += theirs.input_ids[1:].tolist()
        assert parts[-1].teacher.input_ids[-1] == EOS
        lost += len(ids) - len(covered)
        rest = iter(ids)
        assert all(i in rest for i in covered), "in order, none twice"
        assert len(ids) - len(covered) < len(parts), "at most one straddles each edge"
    assert lost > 0
    assert data.verdict.train.teacher.longest <= 25


def test_without_bos_a_text_begins_with_itself(config):
    side = Side(tokenizer=teachers_tokenizer())
    side.tokenizer.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    data = build(config(texts(12), max_length=24), STUDENT, side)
    for example in examples(data):
        assert example.teacher.input_ids[0] != BOS
        assert not example.teacher.supervised[0]
    assert data.verdict.train.teacher.supervised == data.train.teacher.supervised_tokens
    assert data.train.teacher.supervised_tokens == sum(
        int(data.train[i].teacher.supervised.sum()) for i in range(len(data.train))
    )


def test_counts_are_those_of_the_examples(config):
    data = build(config(texts(12), max_length=24), STUDENT, TEACHER)
    for store, part in ((data.train, data.verdict.train), (data.heldout, data.verdict.heldout)):
        theirs = [store[i].teacher for i in range(len(store))]
        assert part.teacher.tokens == sum(len(example.input_ids) for example in theirs)
        assert part.teacher.supervised == sum(int(example.supervised.sum()) for example in theirs)
        assert part.teacher.longest == max(len(example.input_ids) for example in theirs)
    ratio = (data.verdict.train.teacher.tokens + data.verdict.heldout.teacher.tokens) / (
        data.train.tokens + data.heldout.tokens
    )
    assert f"as the teacher reads it: {ratio:.2f} tokens for one of the student's, at most" in str(data.verdict)


def test_a_row_that_one_side_skips_is_skipped_on_both(config):
    rows = chats(20)
    for i in (3, 7, 11):
        rows[i]["completion"] += " refused"
    rows[5]["completion"] = ""
    alone = build(config(rows, heldout=8), STUDENT)
    data = build(config(rows, heldout=8), STUDENT, TEACHER)
    assert {example.row for example in examples(data)} == {*range(20)} - {3, 5, 7, 11}
    assert {example.row for example in examples(alone)} == {*range(20)} - {5}
    held = {alone.heldout[i].row for i in range(8)}
    assert {data.heldout[i].row for i in range(len(data.heldout))} == held - {3, 7, 11}, "the same rows are held out"
    skipped = data.verdict.train.skipped, data.verdict.heldout.skipped
    reason = "that only the teacher's side skips: the chat template refused it (I will not)"
    assert sum(part.get(reason, 0) for part in skipped) == 3
    assert skipped[1].get(reason, 0) == len(held & {3, 7, 11})
    assert data.verdict.reading.skipped == {"completion is empty": 1}
    assert "3 rows skipped, as only it skips them" in str(data.verdict)
    content = json.loads(json.dumps(data.verdict.as_dict()))
    assert content["train"]["teacher"]["tokens"] == data.train.teacher.tokens


def test_a_row_that_only_the_student_skips_is_not_the_teachers(config):
    rows = chats(12)
    rows[4]["completion"] += " refused"
    data = build(config(rows), TEACHER, STUDENT)
    assert {example.row for example in examples(data)} == {*range(12)} - {4}
    assert data.verdict.reading.skipped == {"the chat template refused it (I will not)": 1}
    for example in examples(data):
        assert chats(12)[example.row]["completion"] in STUDENT.tokenizer.decode(example.teacher.input_ids)


def test_both_sides_are_kept_and_hashed(config):
    cfg = config(chats(12))
    one, again = build(cfg, STUDENT, TEACHER), build(cfg, STUDENT, TEACHER)
    assert (one.verdict.cached, again.verdict.cached) == (False, True)
    assert one.train.content_hash == again.train.content_hash
    other = build(cfg, STUDENT, Side(tokenizer=teachers_tokenizer(280)))
    assert other.train.content_hash != one.train.content_hash
    assert other.train.file.content_hash == one.train.file.content_hash
    assert isinstance(one.train.teacher.file.starts_T, np.memmap)


def loader(store, **changes) -> StepLoader:
    return StepLoader(store, LoaderOptions(**({"batch_size": 4, "pad_id": 0} | changes)))


def told(batch) -> list:
    tensors = [
        tensor
        for side in (batch, batch.teacher)
        for tensor in (side.input_ids_BT, side.labels_BT, side.attention_mask_BT, side.starts_BT, side.ends_BT)
    ]
    return [batch.example_ids, *(tensor.tolist() for tensor in tensors)]


def test_a_batch_holds_both_sides_of_its_examples(config):
    store = build(config(chats(12)), STUDENT, TEACHER).train
    by_row = {store[i].row: store[i] for i in range(len(store))}
    for step in loader(store, accumulate=2):
        for batch in step:
            assert batch.teacher.example_ids == batch.example_ids
            assert batch.teacher.input_ids_BT.shape[1] % 8 == 0
            for side, pad in ((batch, 0), (batch.teacher, PAD)):
                for b, row in enumerate(batch.example_ids):
                    example = by_row[row] if side is batch else by_row[row].teacher
                    n = len(example.input_ids)
                    assert side.input_ids_BT[b].tolist()[:n] == example.input_ids.tolist()
                    assert set(side.input_ids_BT[b].tolist()[n:]) <= {pad}
                    assert side.attention_mask_BT[b].sum() == n
                    assert (
                        side.labels_BT[b, :n].tolist()
                        == np.where(example.supervised, example.input_ids, IGNORE).tolist()
                    )
                    for places, wanted in ((side.starts_BT, example.starts), (side.ends_BT, example.ends)):
                        assert places[b].tolist() == [*wanted.tolist(), *[-1] * (places.shape[1] - n)]


@pytest.mark.parametrize("workers", [0, 2])
def test_resuming_gives_the_steps_that_would_have_come(config, workers):
    store = build(config(texts(10), max_length=32), STUDENT, TEACHER).train
    whole = loader(store, accumulate=2)
    expected = [[told(b) for b in step] for _ in range(2) for step in whole]
    broken, seen = loader(store, accumulate=2, workers=workers), []
    for step in broken:
        seen.append([told(b) for b in step])
        if len(seen) == 3:
            break
    resumed = loader(store, accumulate=2, workers=workers)
    resumed.load_state_dict(broken.state_dict())
    for _ in range(2):
        seen += [[told(b) for b in step] for step in resumed]
    assert seen == expected
    alone = build(config(texts(10), max_length=32), STUDENT).train
    with pytest.raises(ValueError, match="made with other training data"):
        loader(alone, accumulate=2).load_state_dict(broken.state_dict())


def labelled(step) -> tuple[list, list]:
    """Every label of a step with its example, on either side."""
    sides: tuple[list, list] = [], []
    for batch in step:
        for k, side in enumerate((batch, batch.teacher)):
            for b, row in enumerate(batch.example_ids):
                places = zip(side.labels_BT[b].tolist(), side.starts_BT[b].tolist(), strict=True)
                sides[k].extend((row, at, i) for i, at in places if i != IGNORE)
    return sorted(sides[0]), sorted(sides[1])


def test_eight_by_one_is_one_by_eight_is_two_ranks_by_four(config):
    store = build(config(chats(21)), STUDENT, TEACHER).train
    big, small = loader(store, batch_size=8), loader(store, batch_size=1, accumulate=8)
    ranks = [loader(store, batch_size=4, rank=rank, world=2) for rank in range(2)]
    for one, eight, *parts in zip(big, small, *ranks, strict=True):
        assert labelled(one) == labelled(eight) == labelled([batch for part in parts for batch in part])


def test_a_rank_without_an_example_computes_one_that_weighs_nothing(config):
    store = build(config(chats(5)), STUDENT, TEACHER).train
    last = [list(loader(store, batch_size=1, rank=rank, world=2))[-1][0] for rank in range(2)]
    assert [batch.rows > 0 for batch in last] == [True, False]
    empty = last[1]
    assert (empty.input_ids_BT.tolist(), empty.teacher.input_ids_BT.tolist()) == ([[0]], [[PAD]])
    assert (empty.rows, empty.teacher.rows) == (0, 0)
    assert empty.starts_BT.tolist() == empty.teacher.ends_BT.tolist() == [[-1]]
    assert align(stretch(empty)[0], stretch(empty.teacher)[0])[2] == 0


@pytest.mark.parametrize(("rows", "longest"), [(chats, 48), (texts, 32)])
def test_a_stream_gives_the_examples_of_the_store(config, rows, longest):
    lines = rows(14)
    if rows is chats:
        lines[9]["completion"] += " refused"
    stored = build(config(lines, max_length=longest, heldout=3), STUDENT, TEACHER)
    streamed = build(config(lines, max_length=longest, heldout=3, streaming=True), STUDENT, TEACHER)
    wanted = sorted((e.row, e.input_ids.tolist(), e.teacher.input_ids.tolist()) for e in examples(stored) if e.row >= 3)
    options = LoaderOptions(batch_size=1, pad_id=0, max_steps=len(wanted))
    made = open_loader(streamed.train, options)
    found = []
    for step in made:
        for batch in step:
            sides = [side.input_ids_BT[0][side.attention_mask_BT[0].bool()].tolist() for side in (batch, batch.teacher)]
            found.append((batch.example_ids[0], *sides))
    assert sorted(found) == wanted
    assert made.counts["teacher_tokens"] == sum(len(theirs) for _, _, theirs in wanted)
    if rows is chats:
        reason = "that only the teacher's side skips: the chat template refused it (I will not)"
        assert made.counts[f"skipped: {reason}"] == 1


def test_encoder_decoders_with_two_tokenizers(config):
    rows = [{"source": sentence(i, 24), "target": f"{i} " + sentence(i + 1, 4 + i % 5)} for i in range(12)]
    sides = [Side(tokenizer=side.tokenizer, seq2seq=True) for side in (STUDENT, TEACHER)]
    data = build(config(rows, max_length=16, max_target_length=20), *sides)
    for batch in heldout_batches(data.train, batch_size=4, pad_id=0):
        assert not batch.shift
        assert not batch.teacher.shift
        assert batch.teacher.starts_BT.shape == batch.teacher.labels_BT.shape
        same, count = aligned_bytes_are_equal(batch)
        assert same == count >= 4
    for example in examples(data):
        assert len(example.source_ids) == 16
        assert len(example.teacher.source_ids) <= 16
        assert example.teacher.ends.max() <= example.ends.max()
        assert example.teacher.supervised.all()
    assert data.verdict.train.teacher.cut_sources > 0
    assert "of its sources by" in str(data.verdict)


def test_a_teacher_without_an_entry_for_its_pad_token_is_padded_by_another(config):
    for entries, pad in ((None, PAD), (330, PAD), (PAD, EOS), (EOS, 0)):
        data = build(config(chats(12)), STUDENT, Side(tokenizer=TEACHER.tokenizer, entries=entries))
        padding = [
            int(i)
            for batch in heldout_batches(data.train, batch_size=4, pad_id=0)
            for i in batch.teacher.input_ids_BT[batch.teacher.attention_mask_BT == 0]
        ]
        assert set(padding) == {pad}


def test_packing_two_sides_is_refused(config):
    with pytest.raises(ValueError, match=r"^dataset.pack=true: teacher and student have tokenizers") as error:
        build(config(texts(12), pack=True), STUDENT, TEACHER)
    assert "\n" not in str(error.value)


def test_which_tokens_lie_within_by_hand():
    ends = np.array([-1, 2, 5, 6, 9, 10], np.int32)  # a prompt, then tokens of 2, 3, 1, 3 and 1 bytes
    their_starts = np.array([-1, -1, 0, 4, 6, -1, 9, -1], np.int32)
    their_ends = np.array([-1, -1, 4, 6, 9, -1, 10, -1], np.int32)

    def found(*ranges: tuple[int, int]) -> list[list[int]]:
        starts, stops = np.array(ranges, np.int64).T
        return np.stack(within(ends, their_starts, their_ends, starts=starts, stops=stops), axis=1).tolist()

    assert found((0, 6)) == [[0, 8]], "the whole is the whole"
    assert found((0, 3), (3, 6)) == [[0, 3], [4, 8]], "[4, 6) straddles byte 5"
    assert found((0, 5)) == [[0, 5]], "what lies nowhere behind the last is left out"
    assert found((0, 1)) == [[0, 0]]
    assert found((0, 2), (2, 4), (4, 6)) == [[0, 0], [3, 4], [4, 8]]


SIZES = st.lists(st.integers(1, 4), min_size=1, max_size=12)


@given(SIZES, SIZES, st.data())
def test_windows_hold_what_lies_in_their_bytes_and_nothing_twice(sizes, their_sizes, data):
    ends, their_ends = (np.cumsum(s).astype(np.int32) for s in (sizes, their_sizes))
    their_starts = (their_ends - their_sizes).astype(np.int32)
    cuts = sorted(data.draw(st.sets(st.integers(1, max(len(sizes) - 1, 1)), max_size=3)) - {len(sizes)})
    edges = np.array([0, *cuts, len(sizes)], np.int64)
    first, last = within(ends, their_starts, their_ends, starts=edges[:-1], stops=edges[1:])
    for a, b, i, j in zip(edges[:-1], edges[1:], first, last, strict=True):
        low = -1 if a == 0 else ends[a - 1]
        high = max(ends[-1], their_ends[-1]) if b == len(sizes) else ends[b - 1]
        inside = (their_starts >= low) & (their_ends <= high)
        assert np.flatnonzero(inside).tolist() == list(range(i, j))
