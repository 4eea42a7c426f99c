from __future__ import annotations

import pytest
from readers import byte_level, rewriting, spaced, word_pieces
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from kdlab.models.tiny import byte_tokenizer
from kdlab.text.vocabulary import audit, match, special_ids, spelling, token_bytes

CHATML = "{% for m in messages %}{{ '<s>' + m['content'] + '<e>' }}{% endfor %}"
PAIRS = {
    "byte level": (byte_level(300), byte_level(500)),
    "spaces": (spaced(), byte_level(500)),
    "pieces": (word_pieces(), byte_level(500)),
    "unlike": (byte_tokenizer(), rewriting()),
}


def chatml(made):
    made.add_special_tokens({"additional_special_tokens": ["<s>", "<e>"]})
    made.chat_template = CHATML
    return made


def ids(tokenizer, *tokens: str) -> list[int]:
    return [tokenizer.convert_tokens_to_ids(token) for token in tokens]


@pytest.mark.parametrize(
    ("tokenizer", "kind"),
    [(byte_level(), "bytes"), (byte_tokenizer(), "bytes"), (spaced(), "spaces"), (word_pieces(), "pieces")],
)
def test_how_a_tokenizer_writes_bytes_is_seen(tokenizer, kind):
    assert spelling(tokenizer) == kind


def test_a_tokenizer_of_whole_characters_is_plain():
    core = Tokenizer(models.WordLevel({"a": 0, "漢": 1, "<unk>": 2}, unk_token="<unk>"))
    plain = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>")
    assert spelling(plain) == "plain"
    assert token_bytes(plain) == [b"a", "漢".encode(), None]


def test_the_bytes_of_a_byte_level_token_are_those_it_is_decoded_to():
    tokenizer = byte_level(500)
    table = token_bytes(tokenizer)
    assert len(table) == len(tokenizer)
    special = special_ids(tokenizer)
    for i, spelt in enumerate(table):
        if i in special:
            assert spelt is None
            continue
        assert spelt
        decoded = tokenizer.decode([i])
        assert decoded == spelt.decode(errors="replace")
    assert set(range(256)) == {spelt[0] for spelt in table if spelt is not None and len(spelt) == 1}


def test_blanks_and_bytes_of_the_other_spellings_by_hand():
    tokenizer = spaced()
    table = token_bytes(tokenizer)
    byte, blank, letter = ids(tokenizer, "<0xE6>", "▁", "o")
    assert (table[byte], table[blank], table[letter]) == (b"\xe6", b" ", b"o")
    assert table[tokenizer.eos_token_id] is None
    pieces = word_pieces()
    inner = next(token for token in pieces.get_vocab() if token.startswith("##"))
    assert token_bytes(pieces)[ids(pieces, inner)[0]] == inner[2:].encode()
    assert token_bytes(pieces)[ids(pieces, "the")[0]] == b" the"


def test_a_token_added_by_hand_means_what_it_says():
    tokenizer = byte_level()
    tokenizer.add_tokens(["<think>", "é "])
    table = token_bytes(tokenizer)
    assert [table[i] for i in ids(tokenizer, "<think>", "é ")] == [b"<think>", "é ".encode()]


@pytest.mark.parametrize("name", PAIRS)
def test_matched_ids_mean_the_same_and_all_that_do_are_matched(name):
    student, teacher = PAIRS[name]
    matched = match(student, teacher)
    ours, theirs = token_bytes(student), token_bytes(teacher)
    pairs = list(zip(matched.student_K.tolist(), matched.teacher_K.tolist(), strict=True))
    assert len({i for i, _ in pairs}) == len({j for _, j in pairs}) == len(matched) == len(pairs)
    assert [i for i, _ in pairs] == sorted(i for i, _ in pairs)
    assert (student.eos_token_id, teacher.eos_token_id) in pairs
    special = special_ids(student)
    assert all(ours[i] == theirs[j] for i, j in pairs if i not in special)
    both = {spelt for spelt in ours if spelt is not None} & {spelt for spelt in theirs if spelt is not None}
    assert {ours[i] for i, _ in pairs if i not in special} == both


def test_leading_blanks_meet_however_they_are_written():
    student, teacher = PAIRS["spaces"]
    pairs = dict(
        zip(
            *(side.tolist() for side in (match(student, teacher).student_K, match(student, teacher).teacher_K)),
            strict=True,
        )
    )
    shared = [
        t[1:]
        for t in student.get_vocab()
        if t.startswith("▁") and "Ġ" + t[1:] in teacher.get_vocab() and t[1:].isascii()
    ]
    assert len(shared) > 3
    for word in shared:
        assert pairs[ids(student, "▁" + word)[0]] == ids(teacher, "Ġ" + word)[0]


def test_a_letter_counts_before_its_byte():
    student = spaced()
    letter, byte = ids(student, "o", "<0x6F>")
    matched = match(student, byte_tokenizer()).student_K.tolist()
    assert letter in matched
    assert byte not in matched


def test_a_tokenizer_with_itself_is_matched_whole():
    tokenizer = chatml(byte_level())
    matched = match(tokenizer, tokenizer)
    expected = set(range(len(tokenizer))) - special_ids(tokenizer)
    expected |= set(ids(tokenizer, "<bos>", "<eos>", "<e>"))
    assert set(matched.student_K.tolist()) == expected
    assert matched.student_K.tolist() == matched.teacher_K.tolist()


def test_ends_of_turns_are_matched_first_and_no_id_twice():
    student, teacher = byte_level(300), chatml(byte_level(500))  # the plain template ends a turn with EOS
    pairs = dict(
        zip(match(student, teacher).student_K.tolist(), match(student, teacher).teacher_K.tolist(), strict=True)
    )
    assert pairs[student.eos_token_id] == ids(teacher, "<e>")[0]
    assert teacher.eos_token_id not in pairs.values()
    assert pairs[student.bos_token_id] == teacher.bos_token_id
    moved = match(student, teacher).to("cpu")
    assert len(moved) == len(pairs)


def test_the_students_template_may_be_given():
    student, teacher = chatml(byte_level(300)), chatml(byte_level(500))
    student.chat_template = None
    for template, token in ((None, "<eos>"), (CHATML, "<e>")):
        matched = match(student, teacher, template=template)
        pairs = dict(zip(matched.student_K.tolist(), matched.teacher_K.tolist(), strict=True))
        assert pairs[ids(student, token)[0]] == ids(teacher, "<e>")[0]
    assert pairs[student.eos_token_id] == teacher.eos_token_id


def test_the_audit_says_what_meets_and_what_does_not():
    student, teacher = byte_level(300), chatml(spaced())
    told = audit(student, teacher)
    assert (told.student.entries, told.teacher.entries) == (len(student), len(teacher))
    assert (told.student.eos, told.student.bos, told.student.pad) == ("<eos>", "<bos>", "<pad>")
    assert (told.student.turn_end, told.teacher.turn_end) == ("<eos>", "<e>")
    assert (told.student.own_template, told.teacher.own_template) == (False, True)
    assert told.matched == len(match(student, teacher))
    assert told.student_share == told.matched / len(student)
    assert told.teacher_share == told.matched / len(teacher)
    assert 0 < len(told.unmatched_teacher) <= 8
    there = {spelt.decode(errors="backslashreplace") for spelt in token_bytes(student) if spelt is not None}
    assert not there & set(told.unmatched_teacher)
