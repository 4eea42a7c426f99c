"""Both models as a run would make them, in every shape and with no weight in memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from kdlab.models import dtype as dtypes
from kdlab.models.label_names import tell
from kdlab.models.loading import auto_class, load_config, load_tokenizer, refuse_unless_language_model
from kdlab.models.lora import add_lora
from kdlab.models.pair import check_pair, reads_alike
from kdlab.models.quantization import QuantizationConfig, loading_options, refuse_gguf, saved_method
from kdlab.models.size import Size, measure
from kdlab.models.source import disk_bytes, resolve, weights_optional
from kdlab.models.student import build_student
from kdlab.preflight.live import head_of, inner
from kdlab.teachers.cached import CachedTeacher
from kdlab.teachers.opening import open_teacher
from kdlab.training.models import refuse_changed, their_side

if TYPE_CHECKING:
    from kdlab.data.dataset import Side
    from kdlab.teachers.base import Teacher
    from kdlab.text.task import Task
    from kdlab.training.recipe import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Sketch:
    """A model without weights. `disk_bytes` are those of its files, where they lie here; `missing_bytes` what would
    have to be downloaded first, as far as that is known; `packed` how its weights are held (a kind of
    `quantization.kind`, "files": as the checkpoint has them); `weightless` that its folder has a config alone."""

    model: Any
    tokenizer: Any
    description: str
    disk_bytes: int | None = None
    missing_bytes: int = 0
    packed: str = "none"
    weightless: bool = False

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
        """Entries of the head: of a classifier its classes."""
        head = head_of(self.model)
        return int(self.config.num_labels if head is None else head.weight.shape[0])

    @property
    def hidden(self) -> int:
        head = head_of(self.model)
        return int(self.config.get_text_config().hidden_size if head is None else head.weight.shape[1])

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

    def reading_sides(self) -> tuple[Side, Side | None]:
        """As `training.deciding.reading_sides`: a classifier's teacher reads for itself unless it reads alike."""
        reader = self.reader
        if reader is None or reads_alike(self.student.tokenizer, reader.tokenizer):
            return self.student.side(), None
        return self.student.side(), reader.side() if isinstance(reader, Sketch) else their_side(reader)


def sketch(config: TrainConfig, device: torch.device, *, task: Task | None = None) -> Sketches:
    """Both models of a run on `device`, classifiers where there is a `task`. Reads configs and tokenizers, refuses what
    a run would refuse by then. A folder may have a config and no weights: `Sketch.weightless`.

    Raises ValueError or FileNotFoundError, each in one line, for models that are nowhere or do not go together.
    """
    with weights_optional():
        return _sketch(config, device, task)


def _sketch(config: TrainConfig, device: torch.device, task: Task | None) -> Sketches:
    if config.teacher.source != "live":
        return _told(config, device, task)
    check_pair(config.student, config.teacher, pairing=config.loss.pairing, task=task)
    told = config.teacher
    assert told.path is not None
    dtype = dtypes.resolve(told.dtype, device)
    if config.quantization.kind == "gguf":
        refuse_gguf(told.path, device=device, name=f"teacher.path={told.path}")
    place = Place(path=told.path, revision=told.revision, trust=told.trust_remote_code, option="teacher.path")
    teacher = _from_config(place, dtype, config.quantization, device, task)
    teacher.model.requires_grad_(False)
    return Sketches(student=_student(config, teacher, None, device, task), teacher=teacher)


def _told(config: TrainConfig, device: torch.device, task: Task | None) -> Sketches:
    """The student of a teacher that is no model here, or of none."""
    told = open_teacher(config.teacher)
    check_pair(config.student, config.teacher, pairing=config.loss.pairing, opened=told, task=task)
    lender = None
    if isinstance(told, CachedTeacher) and config.student.from_teacher is not None:
        of = told.cache.manifest.teacher
        trust, option = config.teacher.trust_remote_code, "student.from_teacher: teacher.path"
        place = Place(path=of["path"], revision=of["revision"], trust=trust, option=option)
        dtype = torch.bfloat16 if of["quantization"] != "none" else dtypes.resolve(of["dtype"], device)
        lender = _from_config(place, dtype, QuantizationConfig(), device, task)
        if not lender.missing_bytes:
            refuse_changed(told)
    return Sketches(student=_student(config, lender, told, device, task), teacher=None, told=told, lender=lender)


def sketch_model(path: str, *, option: str, device: torch.device) -> Sketch:
    """A language model that a run reads besides student and teacher. Raises as `sketch`."""
    place = Place(path=path, revision=None, trust=False, option=option)
    return _from_config(place, dtypes.resolve("auto", device), QuantizationConfig(), device, None)


def _student(
    config: TrainConfig, teacher: Sketch | None, opened: Teacher | None, device: torch.device, task: Task | None
) -> Sketch:
    """The student; `teacher` is what it may be cut from, `opened` a teacher that is no model here."""
    told = config.student
    if told.path is not None:
        dtype = dtypes.resolve(told.dtype, device)
        place = Place(path=told.path, revision=told.revision, trust=told.trust_remote_code, option="student.path")
        packing = QuantizationConfig(kind=told.quantization)
        found = _from_config(place, dtype, packing, device, task, reader=told.tokenizer)
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
            task=task,
        )
    return Sketch(model=made.model, tokenizer=made.tokenizer, description=made.description)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a model is, as the user typed it."""

    path: str
    revision: str | None
    trust: bool
    option: str


def _from_config(
    place: Place,
    dtype: torch.dtype,
    quantization: QuantizationConfig,
    device: torch.device,
    task: Task | None,
    *,
    reader: str | None = None,
) -> Sketch:
    """The model of a place, made from its config alone, in eval mode; `reader` is another tokenizer than its own."""
    name = f"{place.option}={place.path}"
    source = resolve(place.path, place.revision, option=place.option)
    config = load_config(source, name, place.trust)
    tokenizer = load_tokenizer(place.path, place.revision, place.trust, option=place.option)
    if task is None:
        refuse_unless_language_model(config, name)
    else:
        read_by = tokenizer if reader is None else load_tokenizer(reader, option="student.tokenizer")
        tell(config, task, pad=read_by.pad_token_id)
    loading_options(quantization, config, dtype=dtype, device=device, name=name)  # refuses what does not go together
    from transformers import AutoModelForSequenceClassification

    packed = "files" if saved_method(config) is not None else quantization.kind
    stored = getattr(config, "dtype", None)
    if packed == "files":  # the plain architecture; `weights.weight_bytes` knows what packing makes of it
        del config.quantization_config
    try:
        with torch.device("meta"):
            auto = auto_class(config) if task is None else AutoModelForSequenceClassification
            model = auto.from_config(config, dtype=dtype, trust_remote_code=place.trust).eval()
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:  # an embedding asserts its padding
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
        weightless=here == 0 and source.kind == "folder",
    )


def _stored(model: Any, dtype: Any) -> int:
    """Bytes of a checkpoint's files, by the type its config names."""
    each = dtype.itemsize if isinstance(dtype, torch.dtype) else 2
    return measure(model).parameters * each
