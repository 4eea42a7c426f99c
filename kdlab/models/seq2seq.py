"""What an encoder-decoder model needs beyond a causal one: what its decoder reads, and its body in one call.

Shape letters: B batch, S source time, T target time, H hidden.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from kdlab.rows import IGNORE

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def is_seq2seq(model: Any) -> bool:
    """Whether `model` has an encoder for the source and a decoder for the target."""
    return bool(getattr(model.config, "is_encoder_decoder", False))


def refuse_unlike(student: str, student_seq2seq: bool, teacher: str, teacher_seq2seq: bool) -> None:
    """Raise where one of student and teacher has an encoder and the other has none: they then read other batches.

    Cross-tokenizer losses take such a pair: there each model gets its own reading of the text.
    """
    if student_seq2seq != teacher_seq2seq:
        kinds = {True: "an encoder-decoder model", False: "a causal one"}
        raise ValueError(
            f"{student} is {kinds[student_seq2seq]} and the teacher ({teacher}) {kinds[teacher_seq2seq]}; "
            "choose two of one kind, or a cross-tokenizer loss such as loss=uld_hybrid"
        )


def decoder_inputs(model: PreTrainedModel, labels_BT: Tensor) -> Tensor:
    """What the decoder reads `[B, T]` so that position t predicts label t: the labels one place to the right.

    By the model's own rule where it has one: T5, BART, Pegasus and Marian begin with `decoder_start_token_id`, mBART
    with the last label of the row (the language). `IGNORE` becomes the pad token; a decoder looks only to the left, so
    what stands behind the last label changes nothing. Raises ValueError where the config names no start or pad token.
    """
    config = model.config
    if config.pad_token_id is None:
        raise ValueError(f"{type(model).__name__}: its config names no pad_token_id, which its decoder needs")
    empty_B = (labels_BT == IGNORE).all(dim=1)
    if bool(empty_B.any()):  # mBART looks for the last label of every row
        labels_BT = labels_BT.clone()
        labels_BT[empty_B, 0] = _first(config.eos_token_id) or 0
    own = getattr(model, "prepare_decoder_input_ids_from_labels", None)
    if own is not None:
        try:
            shifted: Tensor = own(labels=labels_BT)
        except (TypeError, ValueError) as error:  # no start token: T5 says so, BART stumbles over None
            raise ValueError(_no_start(model)) from error
        return shifted
    start = getattr(config, "decoder_start_token_id", None)
    if start is None:
        raise ValueError(_no_start(model))
    shifted = labels_BT.roll(1, dims=1)
    shifted[:, 0] = start
    return shifted.masked_fill(shifted == IGNORE, config.pad_token_id)


def _no_start(model: PreTrainedModel) -> str:
    return f"{type(model).__name__}: its config names no decoder_start_token_id, with which its decoder begins"


def _first(ids: int | list[int] | None) -> int | None:
    return ids[0] if isinstance(ids, list) else ids


@dataclass(frozen=True, kw_only=True)
class EncoderDecoder:
    """The two stacks of an encoder-decoder model, run as one body."""

    encoder: nn.Module
    decoder: nn.Module

    def __call__(
        self,
        *,
        input_ids: Tensor,
        decoder_input_ids: Tensor,
        attention_mask: Tensor | None = None,
        use_cache: bool = False,
    ) -> Any:
        """The decoder's output; its `last_hidden_state` is `[B, T, H]`. Both stacks see the source's mask `[B, S]`."""
        read = self.encoder(input_ids=input_ids, attention_mask=attention_mask)
        return self.decoder(
            input_ids=decoder_input_ids,
            encoder_hidden_states=read.last_hidden_state,
            encoder_attention_mask=attention_mask,
            use_cache=use_cache,
        )


def stacks(model: PreTrainedModel) -> EncoderDecoder | None:
    """The encoder and the decoder of `model`; None where it does not name both."""
    encoder, decoder = model.get_encoder(), model.get_decoder()
    if not isinstance(encoder, nn.Module) or not isinstance(decoder, nn.Module):
        return None
    if encoder is model or decoder is model or encoder is decoder:
        return None
    return EncoderDecoder(encoder=encoder, decoder=decoder)


def decoder_start(config: Any, *, pad: int | None, bos: int | None, eos: int | None) -> int | None:
    """The id that an architecture's decoder begins with, told in the ids of another tokenizer.

    `config` is a fresh config of the architecture: BART begins with its end-of-text token, Pegasus and Marian with
    their pad token, T5, whose config leaves it open, with its pad token too; mBART with a language.
    """
    start = getattr(config, "decoder_start_token_id", None)
    if start is None:
        return pad if config.model_type != "mbart" else None
    known = {config.pad_token_id: pad, _first(config.eos_token_id): eos, config.bos_token_id: bos}
    return known.get(start, pad)
