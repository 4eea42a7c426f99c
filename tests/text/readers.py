"""Tokenizers that write the same text in different ways, trained on the spot."""

from __future__ import annotations

import functools
import json
from typing import Any

import torch
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from kdlab.text.alignment import Stretch

CORPUS = [
    "The quick brown fox jumps over the lazy dog. Hello world, hello there; the world is wide.",
    "naïve café über 漢字 漢語 字 emoji 👩 👧 😀 done\n\nnew lines  and   blanks",
    "def function(value):\n    return value + 1\n",
] * 20
SPECIAL = ["<pad>", "<bos>", "<eos>", "<unk>"]
HARD = "naïve 👩‍👩‍👧 漢字"

LETTERS = "👩👧😀\u200d漢字ï\u0301e豈½ﬁ▁Ġ \n\thellotA"
TEXTS = st.text(st.one_of(st.sampled_from(LETTERS), st.characters(exclude_categories=["Cs"])), max_size=16)
"""Random Unicode without half surrogates; it never spells a special token."""


def _wrapped(core: Tokenizer, **special: str) -> Any:
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", eos_token="<eos>", clean_up_tokenization_spaces=False, **special
    )


@functools.cache
def _byte_level(size: int, nfc: bool) -> str:
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.post_processor = processors.ByteLevel(trim_offsets=True)
    core.decoder = decoders.ByteLevel()
    if nfc:
        core.normalizer = normalizers.NFC()
    letters = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=size, initial_alphabet=letters, special_tokens=SPECIAL)
    )
    return core.to_str()


def byte_level(size: int = 400, *, nfc: bool = False) -> Any:
    """As GPT-2 and SmolLM write (with `nfc`, as Qwen): a character may be cut between its bytes."""
    return _wrapped(Tokenizer.from_str(_byte_level(size, nfc)), bos_token="<bos>")


@functools.cache
def _unigram(fallback: bool) -> str:
    core = Tokenizer(models.Unigram())
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=120, special_tokens=SPECIAL, unk_token="<unk>")
    core.train_from_iterator(CORPUS, trainer)
    state = json.loads(core.to_str())
    if fallback:
        state["model"]["vocab"] += [[f"<0x{byte:02X}>", -20.0] for byte in range(256)]
        state["model"]["byte_fallback"] = True
    return json.dumps(state)


def spaced(*, fallback: bool = True) -> Any:
    """As Llama 2 writes: ▁ for blanks, one more in front, unknown characters as <0xNN> (without `fallback`: <unk>)."""
    core = Tokenizer.from_str(_unigram(fallback))
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    core.decoder = decoders.Sequence(steps)
    return _wrapped(core, bos_token="<bos>", unk_token="<unk>")


def rewriting() -> Any:
    """As T5 writes: compatible characters made one, unknown ones <unk>, EOS put behind every text."""
    core = Tokenizer.from_str(_unigram(False))
    core.normalizer = normalizers.NFKC()
    core.post_processor = processors.TemplateProcessing(
        single="$A <eos>", special_tokens=[("<eos>", core.token_to_id("<eos>"))]
    )
    return _wrapped(core, unk_token="<unk>")


def word_pieces() -> Any:
    """As BERT writes: lower case, no accents, no blanks."""
    core = Tokenizer(models.WordPiece(unk_token="<unk>"))
    core.normalizer = normalizers.BertNormalizer(lowercase=True)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.train_from_iterator(CORPUS, trainers.WordPieceTrainer(vocab_size=200, special_tokens=SPECIAL))
    return _wrapped(core, unk_token="<unk>")


def stretch(*examples: list[tuple[int, int]]) -> Stretch:
    """Examples given as byte ranges."""
    rows = [(e, *span) for e, spans in enumerate(examples) for span in spans]
    example_N, start_N, end_N = torch.tensor(rows, dtype=torch.long).reshape(-1, 3).T
    return Stretch(example_N=example_N, start_N=start_N, end_N=end_N)
