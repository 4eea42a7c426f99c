"""Where a student's weights come from: a checkpoint, a cut of the teacher, or a random draw; then LoRA on top."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from kdlab.models import dtype as dtypes
from kdlab.models.classifier import load_classifier
from kdlab.models.cut import cut, find_stacks
from kdlab.models.label_names import refuse_no_classifier, tell
from kdlab.models.loading import (
    auto_class,
    load_config,
    load_language_model,
    load_tokenizer,
    refuse_unless_language_model,
)
from kdlab.models.lora import add_lora, name_base
from kdlab.models.pair import bare_entries, named, refuse_foreign_tokenizer, refuse_pair, size
from kdlab.models.quantization import QuantizationConfig, prepare, saved_method
from kdlab.models.seq2seq import decoder_start, is_seq2seq, refuse_unlike
from kdlab.models.source import resolve
from kdlab.models.student import CutConfig, Student, StudentConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from kdlab.text.task import Task

CALIBRATION_TOKENS = 1024
SPECIAL_IDS = ("pad_token_id", "bos_token_id", "eos_token_id")


def build(
    config: StudentConfig,
    teacher: PreTrainedModel | None,
    teacher_tokenizer: PreTrainedTokenizerBase | None,
    *,
    seed: int,
    device: torch.device | str = "cpu",
    pairing: str = "strict",
    teacher_entries: int | None = None,
    calibration_BT: Tensor | None = None,
    task: Task | None = None,
) -> Student:
    """See `models.student.build_student`."""
    if not config.origins():
        raise ValueError("student: set one of student.path, student.from_teacher and student.architecture")
    if config.from_teacher is not None and teacher is None:
        raise ValueError("student.from_teacher: there is no teacher to cut; set teacher=..., or give student.path")
    tokenizer = _tokenizer(config, teacher_tokenizer)
    dtype = dtypes.resolve(config.dtype, device)
    if config.path is not None:
        model, description = _pretrained(config, dtype, device, task, tokenizer, seed)
    elif config.from_teacher is not None:
        assert teacher is not None
        model, description = _cut(config.from_teacher, teacher, tokenizer, dtype, calibration_BT, task)
    else:
        entries = size(tokenizer)
        theirs = teacher_entries if teacher is None else teacher.config.get_text_config().vocab_size
        if theirs is not None and (task is None or teacher is not None):  # a classifier's entries are its classes
            entries = bare_entries(tokenizer, teacher_tokenizer, teacher_entries=theirs)
        model, description = _bare(config.architecture or {}, entries, tokenizer, dtype, seed, task)
    if task is None:
        if teacher is not None and pairing != "cross":
            name = teacher.config._name_or_path or "teacher.path"
            refuse_unlike(named(config), is_seq2seq(model), name, is_seq2seq(teacher))
        _check_vocabularies(config, model, tokenizer, teacher, teacher_tokenizer, pairing)
    else:
        tell(model.config, task, pad=tokenizer.pad_token_id)
        cut_with = teacher_tokenizer if config.from_teacher is not None else None
        _check_reader(model, tokenizer, cut_with)
    if config.lora is not None:
        if config.quantization != "none":
            prepare(model)
        model = add_lora(model, config.lora, seed=seed)
        if config.path is not None:
            name_base(model, config)
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


def _pretrained(
    config: StudentConfig,
    dtype: torch.dtype,
    device: torch.device | str,
    task: Task | None,
    tokenizer: PreTrainedTokenizerBase,
    seed: int,
) -> tuple[PreTrainedModel, str]:
    """The checkpoint on the CPU; packed where it is to be, on `device`, because packed weights stay where they are."""
    assert config.path is not None
    source, name = resolve(config.path, config.revision, option="student.path"), f"student.path={config.path}"
    saved = saved_method(load_config(source, name, config.trust_remote_code))
    if saved is not None:
        raise ValueError(
            f"{name}: its weights are saved packed ({saved}), which neither train nor merge; give the checkpoint they "
            "were made from, with student.quantization=nf4 and student.lora.r=8 to hold it packed"
        )
    packed = config.quantization != "none"
    if source.base is not None and config.lora is not None:
        raise ValueError(
            f"{name}: an adapter, and student.lora would put another upon it; set student.lora=null, or give the two "
            "merged (model/ of the same run)"
        )
    told: dict[str, Any] = {
        "revision": config.revision,
        "dtype": dtype,
        "trust_remote_code": config.trust_remote_code,
        "quantization": QuantizationConfig(kind=config.quantization),
        "device": device if packed else "cpu",
        "option": "student.path",
    }
    if task is None:
        model = load_language_model(config.path, **told)
    else:
        model = load_classifier(config.path, task=task, fresh_head=True, seed=seed, tokenizer=tokenizer, **told)
    return model, source.description + (f", {config.quantization}" if packed else "")


def _cut(
    config: CutConfig,
    teacher: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    dtype: torch.dtype,
    calibration_BT: Tensor | None,
    task: Task | None,
) -> tuple[PreTrainedModel, str]:
    if config.pick == "importance" and calibration_BT is None:
        calibration_BT = _calibration(tokenizer)
    whole = _plain(teacher, task)
    model, kept = cut(whole, config, dtype=dtype, calibration_BT=calibration_BT)
    narrowed = "".join(f", {name} {value}" for name, value in (("ffn", config.ffn), ("heads", config.heads)) if value)
    of = {stack.part: len(stack.layers) for stack in find_stacks(whole)}
    told = [f"{part} {len(of_part)} of {of[part]} layers {of_part}".lstrip() for part, of_part in kept.items()]
    return model, f"cut from the teacher: {', '.join(told)}{narrowed}"


def _plain(teacher: PreTrainedModel, task: Task | None) -> PreTrainedModel:
    """The teacher itself, or, where its weights are packed (quantised), the same checkpoint read again unpacked."""
    if getattr(teacher.config, "quantization_config", None) is None:
        return teacher
    path, commit = teacher.config._name_or_path, getattr(teacher.config, "_commit_hash", None)
    saved = saved_method(teacher.config)
    if saved != "gguf":
        saved = saved_method(load_config(resolve(path, commit, option="student.from_teacher"), "student.from_teacher"))
    if saved is not None:
        raise ValueError(
            f"student.from_teacher: the teacher's file holds packed weights ({saved}), which cannot be cut; "
            "give a plain teacher, or student.path"
        )
    told: dict[str, Any] = {"revision": commit, "dtype": "bfloat16", "option": "student.from_teacher"}
    if task is not None:
        return load_classifier(path, task=task, fresh_head=False, **told)
    return load_language_model(path, **told)


def _calibration(tokenizer: PreTrainedTokenizerBase) -> Tensor:
    """`[1, T]` ids of text that ships with every Python: enough to rank layers."""
    from pydoc_data import topics

    text = "\n".join(topics.topics[name] for name in ("assignment", "class", "import", "try"))
    return torch.tensor([tokenizer(text, add_special_tokens=False).input_ids[:CALIBRATION_TOKENS]])


def _bare(
    architecture: dict[str, Any],
    entries: int,
    tokenizer: PreTrainedTokenizerBase,
    dtype: torch.dtype,
    seed: int,
    task: Task | None,
) -> tuple[PreTrainedModel, str]:
    """A random model. Its vocabulary defaults to `entries`, its special tokens to the tokenizer's, that which its
    decoder begins with too."""
    defaults = {"vocab_size": entries} | {name: getattr(tokenizer, name) for name in SPECIAL_IDS}
    from transformers import AutoModelForSequenceClassification

    config = _architecture_config(architecture, defaults)
    if task is None:
        refuse_unless_language_model(config, "student.architecture")
    else:
        refuse_no_classifier(config, "student.architecture")
        tell(config, task, pad=tokenizer.pad_token_id)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        auto = auto_class(config) if task is None else AutoModelForSequenceClassification
        model = auto.from_config(config, dtype=dtype)
    return model, f"random {config.model_type}"


def _architecture_config(architecture: dict[str, Any], defaults: dict[str, Any]) -> Any:
    """A transformers config from `model_type` and its fields, each of which must exist."""
    from transformers import AutoConfig
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    kind = architecture["model_type"]
    if kind not in CONFIG_MAPPING:
        near = difflib.get_close_matches(str(kind), list(CONFIG_MAPPING.keys()), n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"student.architecture.model_type={kind}: transformers knows no such architecture{hint}")
    plain = AutoConfig.for_model(kind)
    if getattr(plain, "is_encoder_decoder", False):
        special = {name.removesuffix("_token_id"): defaults[name] for name in SPECIAL_IDS}
        defaults = defaults | {"decoder_start_token_id": decoder_start(plain, **special)}
        if "forced_eos_token_id" in plain.to_dict():
            defaults["forced_eos_token_id"] = defaults["eos_token_id"]
    fields = defaults | architecture
    known = {*plain.to_dict(), *plain.attribute_map, "head_dim", "rope_theta", "rope_scaling"}
    known |= defaults.keys()
    for name, value in architecture.items():
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
    """Raise unless student, tokenizer and teacher fit together as `pairing` wants."""
    mine = student.config.get_text_config().vocab_size
    if teacher is None or teacher_tokenizer is None:
        if size(tokenizer) > mine:
            raise ValueError(f"student: its tokenizer has {size(tokenizer)} entries, its head only {mine}")
        return
    if config.from_teacher is not None and pairing == "cross":
        refuse_foreign_tokenizer(tokenizer, teacher_tokenizer)
    refuse_pair(
        named(config),
        teacher.config._name_or_path or "teacher.path",
        tokenizer=tokenizer,
        entries=mine,
        teacher_tokenizer=teacher_tokenizer,
        teacher_entries=teacher.config.get_text_config().vocab_size,
        pairing=pairing,
    )


def _check_reader(
    student: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, cut_with: PreTrainedTokenizerBase | None
) -> None:
    """Raise unless a classifier has an embedding for all that its tokenizer writes, and one that is cut from a teacher
    the teacher's tokenizer."""
    entries = student.get_input_embeddings().weight.shape[0]
    if size(tokenizer) > entries:
        raise ValueError(f"student: its tokenizer has {size(tokenizer)} entries, its embedding only {entries}")
    if cut_with is not None:
        refuse_foreign_tokenizer(tokenizer, cut_with)
