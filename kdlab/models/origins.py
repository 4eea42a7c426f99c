"""Where a student's weights come from: a checkpoint, a cut of the teacher, or a random draw; then LoRA on top."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from kdlab.models import dtype as dtypes
from kdlab.models.cut import cut
from kdlab.models.loading import load_causal, load_tokenizer, refuse_unless_causal
from kdlab.models.pair import named, refuse_unequal
from kdlab.models.source import resolve
from kdlab.models.student import CutConfig, LoraConfig, Student, StudentConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

CALIBRATION_TOKENS = 1024


def build(
    config: StudentConfig,
    teacher: PreTrainedModel | None,
    teacher_tokenizer: PreTrainedTokenizerBase | None,
    *,
    seed: int,
    device: torch.device | str = "cpu",
    pairing: str = "strict",
    calibration_BT: Tensor | None = None,
) -> Student:
    """See `models.student.build_student`."""
    if not config.origins():
        raise ValueError("student: set one of student.path, student.from_teacher and student.architecture")
    if config.from_teacher is not None and teacher is None:
        raise ValueError("student.from_teacher: there is no teacher to cut; set teacher=..., or give student.path")
    tokenizer = _tokenizer(config, teacher_tokenizer)
    dtype = dtypes.resolve(config.dtype, device)
    if config.path is not None:
        model, description = _pretrained(config, dtype)
    elif config.from_teacher is not None:
        assert teacher is not None
        model, description = _cut(config.from_teacher, teacher, tokenizer, dtype, calibration_BT)
    else:
        model, description = _bare(config.architecture or {}, teacher, tokenizer, dtype, seed)
    _check_vocabularies(config, model, tokenizer, teacher, teacher_tokenizer, pairing)
    if config.lora is not None:
        model = add_lora(model, config.lora, seed=seed)
        description += f", LoRA r={config.lora.r}"
    return Student(model=model.train(), tokenizer=tokenizer, description=description)


def _tokenizer(config: StudentConfig, teacher_tokenizer: PreTrainedTokenizerBase | None) -> PreTrainedTokenizerBase:
    if config.tokenizer is not None:
        return load_tokenizer(config.tokenizer, option="student.tokenizer")
    if config.path is not None:
        return load_tokenizer(config.path, config.revision, config.trust_remote_code, option="student.path")
    if teacher_tokenizer is None:
        raise ValueError("student.tokenizer is not set, and there is no teacher to take one from")
    return teacher_tokenizer


def _pretrained(config: StudentConfig, dtype: torch.dtype) -> tuple[PreTrainedModel, str]:
    assert config.path is not None
    model = load_causal(
        config.path,
        revision=config.revision,
        dtype=dtype,
        trust_remote_code=config.trust_remote_code,
        option="student.path",
    )
    return model, resolve(config.path, config.revision, option="student.path").description


def _cut(
    config: CutConfig,
    teacher: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    dtype: torch.dtype,
    calibration_BT: Tensor | None,
) -> tuple[PreTrainedModel, str]:
    if config.pick == "importance" and calibration_BT is None:
        calibration_BT = _calibration(tokenizer)
    whole = _plain(teacher)
    model, kept = cut(whole, config, dtype=dtype, calibration_BT=calibration_BT)
    narrowed = "".join(f", {name} {value}" for name, value in (("ffn", config.ffn), ("heads", config.heads)) if value)
    of = whole.config.get_text_config().num_hidden_layers
    return model, f"cut from the teacher: {len(kept)} of {of} layers {kept}{narrowed}"


def _plain(teacher: PreTrainedModel) -> PreTrainedModel:
    """The teacher itself, or, where its weights are packed (quantised), the same checkpoint read again unpacked."""
    if getattr(teacher.config, "quantization_config", None) is None:
        return teacher
    commit = getattr(teacher.config, "_commit_hash", None)
    return load_causal(teacher.config._name_or_path, revision=commit, dtype="bfloat16", option="student.from_teacher")


def _calibration(tokenizer: PreTrainedTokenizerBase) -> Tensor:
    """`[1, T]` ids of text that ships with every Python: enough to rank layers."""
    from pydoc_data import topics

    text = "\n".join(topics.topics[name] for name in ("assignment", "class", "import", "try"))
    return torch.tensor([tokenizer(text, add_special_tokens=False).input_ids[:CALIBRATION_TOKENS]])


def _bare(
    architecture: dict[str, Any],
    teacher: PreTrainedModel | None,
    tokenizer: PreTrainedTokenizerBase,
    dtype: torch.dtype,
    seed: int,
) -> tuple[PreTrainedModel, str]:
    """A random model. Its vocabulary defaults to the teacher's head (with the tokenizer's padding), else the
    tokenizer's size; its special tokens to the tokenizer's."""
    from transformers import AutoModelForCausalLM

    entries = teacher.config.get_text_config().vocab_size if teacher is not None else len(tokenizer)
    defaults = {"vocab_size": entries} | {
        name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")
    }
    config = _architecture_config(defaults | architecture)
    refuse_unless_causal(config, "student.architecture")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    return model, f"random {config.model_type}"


def _architecture_config(fields: dict[str, Any]) -> Any:
    """A transformers config from `model_type` and its fields, each of which must exist."""
    from transformers import AutoConfig
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    kind = fields["model_type"]
    if kind not in CONFIG_MAPPING:
        near = difflib.get_close_matches(str(kind), list(CONFIG_MAPPING.keys()), n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"student.architecture.model_type={kind}: transformers knows no such architecture{hint}")
    plain = AutoConfig.for_model(kind)
    known = {*plain.to_dict(), *plain.attribute_map, "head_dim", "rope_theta", "rope_scaling"}
    for name, value in fields.items():
        if name not in known:
            near = difflib.get_close_matches(name, sorted(known), n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ValueError(f"student.architecture.{name}={value}: {kind} has no such field{hint}")
    try:
        return AutoConfig.for_model(kind, **{name: value for name, value in fields.items() if name != "model_type"})
    except (TypeError, ValueError) as error:
        raise ValueError(f"student.architecture: {str(error).strip().splitlines()[-1]}") from error


def _check_vocabularies(
    config: StudentConfig,
    student: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    teacher: PreTrainedModel | None,
    teacher_tokenizer: PreTrainedTokenizerBase | None,
    pairing: str,
) -> None:
    """Raise unless every id means the same to student, tokenizer and teacher."""
    mine = student.config.get_text_config().vocab_size
    if len(tokenizer) > mine:
        raise ValueError(f"student: its tokenizer has {len(tokenizer)} entries, its head only {mine}")
    if teacher is None or teacher_tokenizer is None:
        return
    refuse_unequal(
        named(config),
        teacher.config._name_or_path or "teacher.path",
        tokenizer=tokenizer,
        entries=mine,
        teacher_tokenizer=teacher_tokenizer,
        teacher_entries=teacher.config.get_text_config().vocab_size,
    )


def add_lora(model: PreTrainedModel, config: LoraConfig, *, seed: int) -> PreTrainedModel:
    """Wrap `model` in adapters; its own weights, the head among them, are frozen."""
    import peft

    modules = config.target_modules
    head = next((name for name, m in model.named_modules() if m is model.get_output_embeddings()), None)
    if head in modules:
        raise ValueError(f"student.lora.target_modules={modules}: the head ({head}) stays frozen; leave it out")
    lora = peft.LoraConfig(
        r=config.r,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=modules,
        task_type="CAUSAL_LM",
        fan_in_fan_out=type(model).__name__.startswith("GPT2"),  # GPT-2 keeps its matrices transposed
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return peft.get_peft_model(model, lora)
        except ValueError as error:
            raise ValueError(f"student.lora.target_modules={modules}: {str(error).splitlines()[0]}") from error
