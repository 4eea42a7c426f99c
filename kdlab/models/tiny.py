"""Tiny random models and a byte-level tokenizer: tests and `experiment=smoke` run on them without a download.

`tiny:llama`, `tiny:gpt2`, `tiny:t5` and `tiny:bart` are accepted wherever the path of a language model is.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

KINDS = ("llama", "gpt2", "t5", "bart", "bert")
SPECIAL_TOKENS = ("<pad>", "<bos>", "<eos>")
VOCABULARY = 256 + len(SPECIAL_TOKENS)

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] + ': ' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + eos_token }}{% endgeneration %}{{ '\\n' }}"
    "{% else %}{{ message['content'] + '\\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte after `<pad>` 0, `<bos>` 1, `<eos>` 2: any text comes back as it was. It adds no special token
    by itself; its chat template marks what the assistant says."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*SPECIAL_TOKENS, *letters])}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    pad, bos, eos = SPECIAL_TOKENS
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token=pad, bos_token=bos, eos_token=eos, clean_up_tokenization_spaces=False
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def tiny_model(
    kind: str, *, seed: int = 0, vocab_size: int = VOCABULARY, layers: int = 2, hidden: int = 64
) -> PreTrainedModel:
    """A random `kind` (llama, gpt2, t5, bart, bert) in float32, eval mode, the same for the same arguments.

    Its weights are drawn wider than a real initialisation (standard deviation 0.2, not 0.02), so that two of them
    disagree clearly and a loss has something to lower. The global random state is left as it was.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM

    config = tiny_config(kind, vocab_size=vocab_size, layers=layers, hidden=hidden)
    auto = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    auto = AutoModelForMaskedLM if kind == "bert" else auto
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return auto.from_config(config, dtype=torch.float32).eval()


def tiny_config(kind: str, *, vocab_size: int = VOCABULARY, layers: int = 2, hidden: int = 64) -> Any:
    """The config of `tiny_model` with the same arguments."""
    from transformers import AutoConfig

    if kind not in KINDS:
        raise ValueError(f"tiny:{kind}: must be one of {', '.join(f'tiny:{k}' for k in KINDS)}")
    return AutoConfig.for_model(kind, **_fields(kind, vocab_size, layers, hidden))


def _fields(kind: str, vocab_size: int, layers: int, hidden: int) -> dict[str, Any]:
    heads = 4
    shared = {"vocab_size": vocab_size, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    sizes: dict[str, Any]
    if kind == "llama":
        sizes = {
            "hidden_size": hidden,
            "intermediate_size": 2 * hidden,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": heads // 2,
            "max_position_embeddings": 2048,
            "tie_word_embeddings": True,
            "initializer_range": 0.2,
        }
    elif kind == "gpt2":
        dropouts = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
        sizes = {"n_embd": hidden, "n_layer": layers, "n_head": heads, "n_positions": 2048, "initializer_range": 0.2}
        sizes = sizes | dropouts
    elif kind == "t5":
        sizes = {"d_model": hidden, "d_ff": 2 * hidden, "d_kv": hidden // heads, "num_layers": layers}
        sizes = sizes | {"num_heads": heads, "dropout_rate": 0.0, "decoder_start_token_id": 0}
        sizes |= {"initializer_factor": 1.5}
    elif kind == "bart":
        sizes = {"d_model": hidden, "max_position_embeddings": 2048, "init_std": 0.2, "dropout": 0.0}
        for stack in ("encoder", "decoder"):
            sizes |= {f"{stack}_layers": layers, f"{stack}_attention_heads": heads, f"{stack}_ffn_dim": 2 * hidden}
        sizes |= {"decoder_start_token_id": 2, "forced_eos_token_id": None}
    else:
        sizes = {"hidden_size": hidden, "intermediate_size": 2 * hidden, "num_hidden_layers": layers}
        sizes = sizes | {"num_attention_heads": heads, "initializer_range": 0.2}
    return shared | sizes


def save_tiny(kind: str, folder: Path | str, *, seed: int = 0) -> Path:
    """Write the tiny model and the byte tokenizer as a plain folder that `from_pretrained` reads."""
    folder = Path(folder)
    tiny_model(kind, seed=seed).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder
