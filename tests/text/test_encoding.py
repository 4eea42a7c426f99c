from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import processors
from transformers import BertJapaneseTokenizer, PreTrainedTokenizerFast

from kdlab.models.tiny import byte_tokenizer
from kdlab.text.encoding import Encoded, Encoder
from kdlab.text.formats import SkipRow

CHATML = (
    "{% for m in messages %}{{ '<s>' + m['role'] + '\n' + m['content'] + '<e>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<s>assistant\n' }}{% endif %}"
)
TURNS = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Yo"},
    {"role": "user", "content": "Bye"},
    {"role": "assistant", "content": "Ok"},
]


def tokenizer(template: str | None):
    made = byte_tokenizer()
    made.add_special_tokens({"additional_special_tokens": ["<s>", "<e>"]})
    made.chat_template = template
    return made


def spell(encoder: Encoder, encoded: Encoded | SkipRow) -> str:
    """The tokens as text, the supervised ones in brackets."""
    assert isinstance(encoded, Encoded)
    spelt, inside = "", False
    for token, supervised in zip(encoded.input_ids.tolist(), encoded.supervised.tolist(), strict=True):
        spelt += "[" if supervised and not inside else "]" if inside and not supervised else ""
        spelt, inside = spelt + encoder.tokenizer.decode([token]), supervised
    return spelt + ("]" if inside else "")


def encode(own: str | None, messages=TURNS, **options: str) -> str:
    encoder = Encoder(tokenizer(own), **options)
    return spell(encoder, encoder.encode([messages])[0])


def test_only_what_the_assistant_says_and_its_end_token_is_supervised():
    expected = "<s>user\nHi<e>\n<s>assistant\n[Yo<e>]\n<s>user\nBye<e>\n<s>assistant\n[Ok<e>]\n"
    assert encode(CHATML) == expected


def test_token_by_token_by_hand():
    encoder = Encoder(tokenizer(CHATML))
    encoded = encoder.encode([[{"role": "user", "content": "a"}, {"role": "assistant", "content": "bc"}]])[0]
    assert isinstance(encoded, Encoded)
    start, end = (encoder.tokenizer.convert_tokens_to_ids(t) for t in ("<s>", "<e>"))
    letters = {c: encoder.tokenizer(c)["input_ids"][0] for c in "\nabcersuitn"}
    by_hand = [start, *(letters[c] for c in "user\na"), end, letters["\n"]]
    by_hand += [start, *(letters[c] for c in "assistant\nbc"), end, letters["\n"]]
    assert encoded.input_ids.tolist() == by_hand
    assert np.flatnonzero(encoded.supervised).tolist() == [20, 21, 22]


def test_generation_marks_agree_with_rendered_beginnings():
    marked = CHATML.replace(
        "{{ '<s>' + m['role'] + '\n' + m['content'] + '<e>\n' }}",
        "{{ '<s>' + m['role'] + '\n' }}{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] }}"
        "{% endgeneration %}{% else %}{{ m['content'] }}{% endif %}{{ '<e>\n' }}",
    )
    messages = [*TURNS[:3], {"role": "assistant", "content": "naïve 😀"}]  # characters of several tokens
    assert encode(marked, messages) == encode(CHATML, messages)


def test_a_template_of_the_option_replaces_the_tokenizers():
    bars = "{% for m in messages %}|{{ m['content'] }}{% endfor %}{% if add_generation_prompt %}|{% endif %}"
    shown = encode(CHATML, template=bars)
    assert shown == "|Hi|[Yo]|Bye|[Ok<eos>]"  # no end token in the template: EOS closes the last turn


def test_without_a_chat_template_the_plain_one_is_used_and_eos_supervised():
    expected = "### Instruction:\nHi\n\n### Response:\n[Yo<eos>]\n\n### Instruction:\nBye\n\n### Response:\n[Ok<eos>]"
    assert encode(None) == expected


def test_the_plain_template_begins_with_bos_only_where_the_tokenizer_does():
    with_bos = tokenizer(None)
    with_bos.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", with_bos.bos_token_id)]
    )
    encoder = Encoder(with_bos)
    chat, text = encoder.encode([TURNS[:2], "plain"])
    assert spell(encoder, chat) == "<bos>### Instruction:\nHi\n\n### Response:\n[Yo<eos>]"
    assert spell(encoder, text) == "[<bos>plain<eos>]"


def test_a_chat_template_with_bos_gets_no_second_one():
    with_bos = tokenizer("{{ bos_token }}" + CHATML)
    with_bos.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", with_bos.bos_token_id)]
    )
    encoder = Encoder(with_bos)
    assert spell(encoder, encoder.encode([TURNS[:2]])[0]).count("<bos>") == 1


def test_all_supervises_the_prompt_too():
    assert encode(CHATML, supervise="all") == "[" + encode(CHATML).replace("[", "").replace("]", "") + "]"


def test_an_end_token_after_the_marks_is_taken_in_but_the_next_header_is_not():
    template = (
        "{% for m in messages %}{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] }}{% endgeneration %}"
        "<e>{% else %}<s>{{ m['content'] }}{% endif %}{% endfor %}"
    )
    assert encode(template) == "<s>Hi[Yo<e>]<s>Bye[Ok<e>]"


def test_a_template_that_rewrites_earlier_turns_is_an_error_with_remedies():
    forgetful = (
        "{% for m in messages %}{% if loop.last or m['role'] == 'user' %}{{ m['content'] }}{% endif %}{% endfor %}"
    )
    with pytest.raises(ValueError, match=r"dataset.supervise=response: .*dataset.template.*dataset.supervise=all"):
        encode(forgetful)
    assert encode(forgetful, supervise="all") == "[HiByeOk<eos>]"


def test_a_generation_prompt_that_thinks_aloud_is_no_part_of_the_answer():
    thinking = CHATML.replace("{{ '<s>assistant\n' }}", "{{ '<s>assistant\n<think>\n' }}")
    assert encode(thinking) == encode(CHATML)


def test_thoughts_that_only_the_last_turn_is_given_hide_no_earlier_one():
    last = "{{ '<think></think>' if loop.last and m['role'] == 'assistant' else '' }}"
    qwen = CHATML.replace("{{ '<s>' + m['role'] + '\n' + m", "{{ '<s>' + m['role'] + '\n' }}" + last + "{{ m")
    assert encode(qwen) == encode(CHATML).replace("[Ok", "[<think></think>Ok")


def test_a_conversation_the_template_refuses_is_skipped_with_its_words():
    strict = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}" + CHATML
    system = [{"role": "system", "content": "S"}, *TURNS]
    first, second = Encoder(tokenizer(strict)).encode([system, TURNS])
    assert isinstance(first, SkipRow)
    assert "no system" in str(first)
    assert isinstance(second, Encoded)


def test_a_broken_template_is_the_users_mistake():
    with pytest.raises(ValueError, match=r"dataset.template: line 1"):
        encode("{% for m in messages %}")


def test_no_eos_token_is_an_error():
    without = byte_tokenizer()
    without.eos_token = None
    with pytest.raises(ValueError, match="no EOS token"):
        Encoder(without).encode([TURNS])


def test_plain_text_is_supervised_throughout_and_ends():
    encoder = Encoder(tokenizer(CHATML))
    first, chat, last = encoder.encode(["one", TURNS, "two"])
    assert spell(encoder, first) == "[one<eos>]"
    assert spell(encoder, last) == "[two<eos>]"
    assert isinstance(chat, Encoded)
    assert chat.chat


def test_plain_text_gets_no_second_end_and_none_where_the_tokenizer_has_none():
    ending, without = byte_tokenizer(), byte_tokenizer()
    ending.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <eos>", special_tokens=[("<eos>", ending.eos_token_id)]
    )
    without.eos_token = None
    for chosen, expected in ((ending, "[one<eos>]"), (without, "[one]")):
        encoder = Encoder(chosen)
        assert spell(encoder, encoder.encode(["one"])[0]) == expected
    encoder = Encoder(byte_tokenizer())
    assert spell(encoder, encoder.encode(["one<eos>"])[0]) == "[one<eos>]"


def test_without_offsets_the_mask_is_the_same():
    class Slow:
        """A tokenizer that gives no character offsets."""

        is_fast = False

        def __init__(self, inner) -> None:
            self.inner = inner

        def __getattr__(self, name):
            return getattr(self.inner, name)

        def __len__(self):
            return len(self.inner)

        def __call__(self, *args, **options):
            assert not options.get("return_offsets_mapping")
            return self.inner(*args, **options)

    encoder = Encoder(Slow(tokenizer(CHATML)))
    assert spell(encoder, encoder.encode([TURNS])[0]) == encode(CHATML)


def test_the_fingerprint_changes_with_what_changes_tokens_and_nothing_else():
    same = tokenizer(CHATML)
    base = Encoder(same).fingerprint()
    same(["a", "bbb"], padding=True)  # leaves padding switched on in the tokenizer
    assert Encoder(same).fingerprint() == base
    others = [
        Encoder(tokenizer(CHATML + " ")),
        Encoder(tokenizer(CHATML), supervise="all"),
        Encoder(tokenizer(CHATML), template="x"),
        Encoder(byte_tokenizer(), template=CHATML),
        Encoder(tokenizer(CHATML), seq2seq=True),
        Encoder(tokenizer(CHATML), bytes_too=True),
    ]
    assert len({base, *(o.fingerprint() for o in others)}) == 7


def test_the_fingerprint_of_a_tokenizer_in_python_has_its_settings(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "A"]))
    told = {"word_tokenizer_type": "basic", "subword_tokenizer_type": "character"}
    lower, plain, same = (
        BertJapaneseTokenizer(str(tmp_path / "vocab.txt"), do_lower_case=lowers, **told)
        for lowers in (True, False, False)
    )
    assert plain("A")["input_ids"] != lower("A")["input_ids"]
    assert plain("a")["input_ids"] == lower("a")["input_ids"]
    assert Encoder(plain).fingerprint() != Encoder(lower).fingerprint()
    assert Encoder(plain).fingerprint() == Encoder(same).fingerprint()


class Translating(PreTrainedTokenizerFast):
    """Reads a source as it is and puts a language behind a target, as mBART's tokenizer does."""

    language = "<s>"

    def _switch_to_target_mode(self):
        self.put_behind(f"$A <eos> {self.language}")

    def _switch_to_input_mode(self):
        self.put_behind("$A <eos>")

    def put_behind(self, single):
        named = [(token, self.convert_tokens_to_ids(token)) for token in ("<eos>", "<s>", "<e>")]
        self.backend_tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=named)


def test_the_language_of_a_target_is_kept_and_changes_the_fingerprint():
    plain, fingerprints = tokenizer(None), set()
    for language in ("<s>", "<e>"):
        made = Translating(
            tokenizer_object=plain.backend_tokenizer, eos_token="<eos>", bos_token="<s>", pad_token="<e>"
        )
        made.language = language
        made.put_behind("$A <eos>")
        encoder = Encoder(made, seq2seq=True)
        encoded = encoder.encode([TURNS[:2]])[0]
        assert made.decode(encoded.source) == "Hi<eos>"
        assert made.decode(encoded.input_ids) == f"Yo<eos>{language}"
        fingerprints.add(encoder.fingerprint())
    assert len(fingerprints) == 2


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(
    lambda text: text.strip() and "<" not in text
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=3))
def test_whatever_is_said_the_supervised_tokens_spell_the_answers(pairs):
    messages = []
    for prompt, answer in pairs:
        messages += [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    encoder = Encoder(tokenizer(CHATML))
    encoded = encoder.encode([messages])[0]
    assert isinstance(encoded, Encoded)
    decode = encoder.tokenizer.decode
    assert decode(encoded.input_ids[encoded.supervised]) == "".join(answer + "<e>" for _, answer in pairs)
    whole = "".join(f"<s>user\n{prompt}<e>\n<s>assistant\n{answer}<e>\n" for prompt, answer in pairs)
    assert decode(encoded.input_ids) == whole


def ending(single: str):
    """A tokenizer that puts special tokens around every text, as T5's and BART's do."""
    made = byte_tokenizer()
    named = [(token, made.convert_tokens_to_ids(token)) for token in ("<bos>", "<eos>")]
    made.backend_tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=named)
    return made


def pair(document, single: str = "$A <eos>") -> tuple[str, str]:
    encoder = Encoder(ending(single), seq2seq=True)
    encoded = encoder.encode([document])[0]
    assert isinstance(encoded, Encoded)
    assert encoded.source is not None
    return encoder.tokenizer.decode(encoded.source), spell(encoder, encoded)


def test_an_encoder_decoder_reads_plain_text_and_writes_the_answer_and_one_eos():
    assert pair(TURNS[:2]) == ("Hi<eos>", "[Yo<eos>]")
    assert pair(TURNS[:2], "$A") == ("Hi", "[Yo<eos>]")
    assert pair(TURNS[:2], "<bos> $A <eos>") == ("<bos>Hi<eos>", "[<bos>Yo<eos>]")  # BART learns its <s> too
    assert pair(TURNS[:2], "$A <eos> <bos>") == ("Hi<eos><bos>", "[Yo<eos><bos>]")  # mBART's language stands last
    spelt_out = [TURNS[0], {"role": "assistant", "content": "Yo<eos>"}]
    assert pair(spelt_out) == ("Hi<eos>", "[Yo<eos>]")


def test_several_questions_are_told_apart_by_their_roles():
    system = {"role": "system", "content": "S"}
    assert pair([system, *TURNS[:2]])[0] == "S\nHi<eos>"
    assert pair([system, *TURNS]) == ("S\nuser: Hi\nassistant: Yo\nuser: Bye<eos>", "[Ok<eos>]")
    assert pair([*TURNS[:2], TURNS[2]])[1] == "[Yo<eos>]"  # what no one answers is not read


def test_pairs_of_any_length_hold_no_padding():
    encoder = Encoder(ending("$A <eos>"), seq2seq=True)
    same = encoder.tokenizer
    same(["a", "bbb"], padding=True)
    documents = [TURNS[:2], [{"role": "user", "content": "a" * 50}, {"role": "assistant", "content": "b" * 50}]]
    for encoded, size in zip(encoder.encode(documents), (3, 51), strict=True):
        assert isinstance(encoded, Encoded)
        assert encoded.source is not None
        assert (len(encoded.source), len(encoded.input_ids)) == (size, size)
        assert encoded.supervised.all()
        assert encoded.chat
        assert same.pad_token_id not in encoded.input_ids.tolist()


def test_what_an_encoder_decoder_cannot_use_is_said():
    first, second = Encoder(ending("$A <eos>"), seq2seq=True).encode(["plain", TURNS])
    assert isinstance(first, SkipRow)
    assert "plain text: an encoder-decoder model needs a source and a target" in str(first)
    assert isinstance(second, Encoded)
    with pytest.raises(ValueError, match=r"dataset.template: an encoder-decoder"):
        Encoder(byte_tokenizer(), seq2seq=True, template=CHATML)
    with pytest.raises(ValueError, match=r"dataset.supervise=all: an encoder-decoder"):
        Encoder(byte_tokenizer(), seq2seq=True, supervise="all")
    without = byte_tokenizer()
    without.eos_token = None
    with pytest.raises(ValueError, match="no EOS token"):
        Encoder(without, seq2seq=True).encode([TURNS])
