from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from readers import HARD, TEXTS, byte_level, rewriting, spaced, stretch
from tokenizers import processors

from kdlab.models.tiny import byte_tokenizer
from kdlab.text.alignment import align
from kdlab.text.byte_spans import ByteSpans
from kdlab.text.encoding import Encoded, Encoder
from kdlab.text.streams import Stream

CHATML = (
    "{% for m in messages %}{{ '<s>' + m['role'] + '\n' + m['content'] + '<e>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<s>assistant\n' }}{% endif %}"
)
TRIMMED = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}"
    "{{ '[INST] ' + m['content'] | trim + ' [/INST]' }}{% else %}"
    "{{ ' ' + m['content'] | trim + ' ' + eos_token }}{% endif %}{% endfor %}"
)
OPEN = "{% for m in messages %}|{{ m['content'] }}{% endfor %}{% if add_generation_prompt %}|{% endif %}"


def chat(*turns: str) -> list[dict[str, str]]:
    return [{"role": "user" if i % 2 == 0 else "assistant", "content": t} for i, t in enumerate(turns)]


def chatml():
    made = byte_level(400)
    made.add_special_tokens({"additional_special_tokens": ["<s>", "<e>"]})
    made.chat_template = CHATML
    return made


def trimmed():
    made = spaced()
    made.chat_template = TRIMMED
    return made


def encode(encoder: Encoder, document) -> Encoded:
    encoded = encoder.encode([document])[0]
    assert isinstance(encoded, Encoded)
    assert encoded.starts is not None
    assert encoded.ends is not None
    assert encoded.starts.dtype == encoded.ends.dtype == np.int32
    return encoded


def ranges(encoded: Encoded) -> list[tuple[int, int]]:
    assert encoded.starts is not None
    assert encoded.ends is not None
    return list(zip(encoded.starts.tolist(), encoded.ends.tolist(), strict=True))


def rows(encoded: Encoded) -> list[tuple[int, int]]:
    """The ranges of the supervised tokens, the first token of all aside."""
    return [r for r, supervised in list(zip(ranges(encoded), encoded.supervised, strict=True))[1:] if supervised]


READERS = {
    "generation marks": Encoder(byte_tokenizer(), bytes_too=True),
    "chatml": Encoder(chatml(), bytes_too=True),
    "trimmed": Encoder(trimmed(), bytes_too=True),
    "plain template": Encoder(byte_level(300), bytes_too=True),
}


@pytest.mark.parametrize("name", READERS)
def test_a_conversation_lies_in_the_bytes_of_what_the_assistant_says(name):
    messages = chat("Wer?", HARD, "Und?", "ich, die Katze")
    size = len(HARD.encode())
    held = [r for r in rows(encode(READERS[name], messages)) if r[0] >= 0]
    assert [start for start, _ in held] == [0, *(end for _, end in held[:-1])]
    assert {(size, size + 1), (size + 15, size + 16)} <= set(held)
    assert held[-1] == (size + 15, size + 16)


def test_by_hand_with_two_templates():
    encoder = READERS["generation marks"]
    encoded = encode(encoder, chat("q", "é"))
    assert encoder.tokenizer.decode(encoded.input_ids) == "user: q\nassistant: é<eos>\n"
    where = [r for r in enumerate(ranges(encoded)) if r[1][0] >= 0]
    assert where == [(19, (0, 1)), (20, (1, 2)), (21, (2, 3))]
    open_ended = Encoder(byte_tokenizer(), template=OPEN, bytes_too=True)
    encoded = encode(open_ended, chat("q", "é", "q", "ab"))
    assert ranges(encoded) == [(-1, -1)] * 3 + [(0, 1), (1, 2)] + [(-1, -1)] * 3 + [(3, 4), (4, 5), (5, 6)]


def test_trimmed_content_keeps_its_place():
    messages = chat("q", " ab \n", "q", "c")
    assert [r for r in rows(encode(READERS["generation marks"], messages)) if r[0] >= 0][:6] == [
        (i, i + 1) for i in range(6)
    ]
    held = [r for r in rows(encode(READERS["trimmed"], messages)) if r[0] >= 0]
    assert held[-1] == (7, 8)
    assert (5, 6) in held
    assert min(start for start, _ in held) <= 1


def test_a_repeated_answer_lies_where_it_was_said():
    last_only = (
        "{% for m in messages %}{{ '<s>' }}{% if loop.last and m['role'] == 'assistant' %}{% generation %}"
        "{{ m['content'] }}{% endgeneration %}{% else %}{{ m['content'] }}{% endif %}{{ '<e>' }}{% endfor %}"
    )
    messages = chat("q", "ok", "q", "ok")
    for chosen, expected in ((CHATML, [(0, 2), (2, 3), (3, 5), (5, 6)]), (last_only, [(3, 5), (5, 6)])):
        encoder = Encoder(chatml(), template=chosen, bytes_too=True)
        edges = align(stretch(rows(encode(encoder, messages))), stretch(expected))
        assert edges[2] == len(expected)


@pytest.mark.parametrize("blank", ["", "  "])
def test_a_turn_that_says_nothing_is_its_end_alone(blank):
    messages = chat("q", "ab", "q", blank, "q", "c")
    size = len(blank)
    for name, encoder in READERS.items():
        held = [r for r in rows(encode(encoder, messages)) if r[0] >= 0]
        assert {(2, 3), (3 + size, 4 + size), (5 + size, 6 + size)} <= set(held), name
    unmarked = "{% for m in messages %}<s>{% generation %}{{ m['content'] }}{% endgeneration %}{% endfor %}"
    held = rows(encode(Encoder(chatml(), template=unmarked, bytes_too=True), chat("q", "", "q", "c")))
    assert held[-2:] == [(1, 2), (2, 3)]


def test_what_is_supervised_does_not_move_the_bytes():
    messages = chat("q", HARD, "q", "b")
    everything = Encoder(chatml(), supervise="all", bytes_too=True)
    assert ranges(encode(everything, messages)) == ranges(encode(READERS["chatml"], messages))
    forgetful = (
        "{% for m in messages %}{% if loop.last or m['role'] == 'user' %}{{ m['content'] }}{% endif %}{% endfor %}"
    )
    hidden = Encoder(chatml(), template=forgetful, supervise="all", bytes_too=True)
    with pytest.raises(ValueError, match=r"dataset.supervise=all: .*cannot be told; mark it") as error:
        hidden.encode([messages])
    assert "or use" not in str(error.value)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(TEXTS, TEXTS.filter(str.strip)), min_size=1, max_size=3),
    st.sampled_from([("chatml", "trimmed"), ("plain template", "chatml"), ("trimmed", "generation marks")]),
)
def test_two_templates_meet_in_the_same_bytes(pairs, names):
    messages = chat(*(text for pair in pairs for text in pair))
    stream = b"".join(answer.encode() + b"$" for _, answer in pairs)
    sides = [stretch(rows(encode(READERS[name], messages))) for name in names]
    ours, theirs, spans = align(*sides)
    for k in range(spans):
        found = {
            stream[int(side.start_N[number == k].min()) : int(side.end_N[number == k].max())]
            for side, number in zip(sides, (ours, theirs), strict=True)
        }
        assert len(found) == 1
    ends = {number for number in range(len(stream)) if stream[number : number + 1] == b"$"}
    closed = {int(s) for s, n in zip(sides[0].start_N, ours, strict=True) if n >= 0}
    last = len(stream) - 1
    assert last in ends
    assert last in closed


def test_a_text_ends_with_one_byte_for_eos_and_bos_is_nowhere():
    with_both = byte_tokenizer()
    with_both.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", 1), ("<eos>", 2)]
    )
    assert ranges(encode(Encoder(with_both, bytes_too=True), "ab")) == [(-1, -1), (0, 1), (1, 2), (2, 3)]
    assert ranges(encode(Encoder(byte_tokenizer(), bytes_too=True), "ab")) == [(0, 1), (1, 2), (2, 3)]
    assert ranges(encode(Encoder(byte_tokenizer(), bytes_too=True), "")) == [(0, 1)]
    endless = byte_tokenizer()
    endless.eos_token = None
    assert ranges(encode(Encoder(endless, bytes_too=True), "ab")) == [(0, 1), (1, 2)]


def test_eos_spelt_in_a_text_is_text():
    assert ranges(encode(Encoder(byte_tokenizer(), bytes_too=True), "a<eos>b")) == [(0, 1), (1, 6), (6, 7), (7, 8)]


def test_without_it_there_are_no_ranges():
    for document in ("a", chat("a", "b")):
        encoded = Encoder(byte_tokenizer()).encode([document])[0]
        assert isinstance(encoded, Encoded)
        assert encoded.starts is None
        assert encoded.ends is None


def test_the_target_of_a_pair_lies_where_the_conversation_has_it():
    messages = chat("q", "ab", "q", "hello")
    pair = Encoder(rewriting(), seq2seq=True, bytes_too=True)
    held = [r for r in ranges(encode(pair, messages)) if r[0] >= 0]
    assert (held[0][0], held[-1]) == (3, (8, 9))
    causal = encode(READERS["chatml"], messages)
    ours, _, spans = align(stretch(rows(causal)), stretch(held))
    assert spans >= 2
    assert int(ours.max()) == spans - 1


def test_a_stream_is_found_without_offsets():
    tokenizer = byte_tokenizer()
    stream = Stream.of_text("aé", ends=[2])
    spans = Encoder(tokenizer, bytes_too=True)
    ids = encode(spans, "aé").input_ids
    starts, ends = stream.places(ByteSpans(tokenizer), ids, None, special=frozenset(tokenizer.all_special_ids))
    assert (starts.tolist(), ends.tolist()) == ([0, 1, 2, 3], [1, 2, 3, 4])
