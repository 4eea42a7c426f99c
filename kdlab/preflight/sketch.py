"""Both models as a run would make them, in every shape and with no weight in memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from kdlab.models import dtype as dtypes
from kdlab.models.loading import auto_class, load_config, load_tokenizer, refuse_unless_language_model
from kdlab.models.origins import add_lora
from kdlab.models.pair import check_pair
from kdlab.models.quantization import QuantizationConfig, loading_options, refuse_gguf, saved_method
from kdlab.models.size import Size, measure
from kdlab.models.source import disk_bytes, resolve
from kdlab.models.student import build_student
from kdlab.preflight.live import inner
from kdlab.teachers.cached import CachedTeacher
from kdlab.teachers.opening import open_teacher
from kdlab.training.models import refuse_changed, their_side

if TYPE_CHECKING:
    from kdlab.data.dataset import Side
    from kdlab.teachers.base import Teacher
    from kdlab.training.recipe import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Sketch:
    """A model without weights. `disk_bytes` are those of its files, where they lie here; `missing_bytes` what would
    have to be downloaded first, as far as that is known; `packed` how its weights are held (a kind of
    `quantization.kind`, "files": as the checkpoint has them)."""

    model: Any
    tokenizer: Any
    description: str
    disk_bytes: int | None = None
    missing_bytes: int = 0
    packed: str = "none"

    @property
    def config(self) -> Any:
        return inner(self.model).config

    @property
    def seq2seq(self) -> bool:
        return bool(getattr(self.config, "is_encoder_decoder", False))

    @property
    def size(self) -> Size:
        return measure(self.model)

    @property
    def trainable(self) -> list[torch.nn.Parameter]:
        return [p for p in self.model.parameters() if p.requires_grad]

    @property
    def vocabulary(self) -> int:
        """Entries of the head."""
        return int(inner(self.model).get_output_embeddings().weight.shape[0])

    @property
    def hidden(self) -> int:
        return int(inner(self.model).get_output_embeddings().weight.shape[1])

    @property
    def layers(self) -> int:
        text = self.config.get_text_config()
        return int(text.num_hidden_layers) + int(getattr(text, "num_decoder_layers", None) or 0) * self.seq2seq

    @property
    def heads(self) -> int:
        return int(self.config.get_text_config().num_attention_heads)

    def side(self) -> Side:
        """How the data is read for it."""
        from kdlab.data.dataset import Side

        entries = int(inner(self.model).get_input_embeddings().weight.shape[0])
        return Side(tokenizer=self.tokenizer, seq2seq=self.seq2seq, entries=entries)


@dataclass(frozen=True, kw_only=True)
class Sketches:
    """Student and teacher, on the meta device: shapes, and no memory.

    `teacher` is None where labels alone teach, and where the teacher is no model here: it is then `told`, opened as the
    run opens it. `lender` is the model whose signals a cache holds, where the student is cut from it.
    """

    student: Sketch
    teacher: Sketch | None
    told: Teacher | None = None
    lender: Sketch | None = None

    @property
    def reader(self) -> Sketch | Teacher | None:
        """Whoever teaches: its tokenizer and its vocabulary."""
        return self.teacher or self.told

    def sides(self, pairing: str) -> tuple[Side, Side | None]:
        """How the student reads text, and how a teacher does that has a tokenizer of its own."""
        if self.reader is None or pairing != "cross":
            return self.student.side(), None
        if self.told is not None:
            return self.student.side(), their_side(self.told)
        assert self.teacher is not None
        return self.student.side(), self.teacher.side()


def sketch(config: TrainConfig, device: torch.device) -> Sketches:
    """Both models of a run on `device`. Reads configs and tokenizers, refuses what a run would refuse by then.

    Raises ValueError or FileNotFoundError, each in one line, for models that are nowhere or do not go together.
    """
    if config.teacher.source != "live":
        return _told(config, device)
    check_pair(config.student, config.teacher, pairing=config.loss.pairing)
    told = config.teacher
    assert told.path is not None
    dtype = dtypes.resolve(told.dtype, device)
    if config.quantization.kind == "gguf":
        refuse_gguf(told.path, device=device, name=f"teacher.path={told.path}")
    place = Place(path=told.path, revision=told.revision, trust=told.trust_remote_code, option="teacher.path")
    teacher = _from_config(place, dtype, config.quantization, device)
    teacher.model.requires_grad_(False)
    return Sketches(student=_student(config, teacher, None, device), teacher=teacher)


def _told(config: TrainConfig, device: torch.device) -> Sketches:
    """The student of a teacher that is no model here, or of none."""
    told = open_teacher(config.teacher)
    check_pair(config.student, config.teacher, pairing=config.loss.pairing, opened=told)
    lender = None
    if isinstance(told, CachedTeacher) and config.student.from_teacher is not None:
        of = told.cache.manifest.teacher
        trust, option = config.teacher.trust_remote_code, "student.from_teacher: teacher.path"
        place = Place(path=of["path"], revision=of["revision"], trust=trust, option=option)
        dtype = torch.bfloat16 if of["quantization"] != "none" else dtypes.resolve(of["dtype"], device)
        lender = _from_config(place, dtype, QuantizationConfig(), device)
        if not lender.missing_bytes:
            refuse_changed(told)
    return Sketches(student=_student(config, lender, told, device), teacher=None, told=told, lender=lender)


def _student(config: TrainConfig, teacher: Sketch | None, opened: Teacher | None, device: torch.device) -> Sketch:
    """The student; `teacher` is what it may be cut from, `opened` a teacher that is no model here."""
    told = config.student
    if told.path is not None:
        dtype = dtypes.resolve(told.dtype, device)
        place = Place(path=told.path, revision=told.revision, trust=told.trust_remote_code, option="student.path")
        found = _from_config(place, dtype, QuantizationConfig(kind=told.quantization), device)
        if found.packed == "files":
            raise ValueError(
                f"student.path={told.path}: its weights are saved packed, which do not train; give the checkpoint they "
                "were made from, with student.quantization=nf4 and student.lora.r=8 to hold it packed"
            )
        model, tokenizer = found.model, found.tokenizer
        if told.tokenizer is not None:
            tokenizer = load_tokenizer(told.tokenizer, option="student.tokenizer")
        if told.lora is not None:
            with torch.device("meta"):
                model = add_lora(model, told.lora, seed=config.seed)
        return replace(found, model=model.train(), tokenizer=tokenizer)
    if told.from_teacher is not None and told.from_teacher.pick == "importance":  # needs weights; the size is the same
        told = replace(told, from_teacher=replace(told.from_teacher, pick="even"))
    lends = opened or teacher
    with torch.device("meta"):
        made = build_student(
            told,
            None if teacher is None else teacher.model,
            None if lends is None else lends.tokenizer,
            seed=config.seed,
            device=device,
            pairing=config.loss.pairing,
            teacher_entries=None if opened is None else opened.vocabulary,
        )
    return Sketch(model=made.model, tokenizer=made.tokenizer, description=made.description)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a model is, as the user typed it."""

    path: str
    revision: str | None
    trust: bool
    option: str


def _from_config(place: Place, dtype: torch.dtype, quantization: QuantizationConfig, device: torch.device) -> Sketch:
    """The model of a place, made from its config alone, in eval mode."""
    name = f"{place.option}={place.path}"
    source = resolve(place.path, place.revision, option=place.option)
    config = load_config(source, name, place.trust)
    tokenizer = load_tokenizer(place.path, place.revision, place.trust, option=place.option)
    refuse_unless_language_model(config, name)
    loading_options(quantization, config, dtype=dtype, device=device, name=name)  # refuses what does not go together
    packed = "files" if saved_method(config) is not None else quantization.kind
    stored = getattr(config, "dtype", None)
    if packed == "files":  # the plain architecture; `weights.weight_bytes` knows what packing makes of it
        del config.quantization_config
    try:
        with torch.device("meta"):
            model = auto_class(config).from_config(config, dtype=dtype, trust_remote_code=place.trust).eval()
    except (TypeError, ValueError, RuntimeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{name}: its config makes no model ({reason[:160]})") from error
    here = disk_bytes(source)
    return Sketch(
        model=model,
        tokenizer=tokenizer,
        description=source.description,
        disk_bytes=here,
        missing_bytes=0 if here is not None or source.kind != "hub" else _stored(model, stored),
        packed=packed,
    )


def _stored(model: Any, dtype: Any) -> int:
    """Bytes of a checkpoint's files, by the type its config names."""
    each = dtype.itemsize if isinstance(dtype, torch.dtype) else 2
    return measure(model).parameters * each
