"""The student: pretrained, cut from the teacher, or a bare architecture; trained whole or through LoRA."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kdlab.models import dtype as dtypes
from kdlab.models.quantization import TRAINABLE

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from kdlab.text.task import Task

PICKS = ("even", "ends", "importance")


@dataclass(kw_only=True)
class CutConfig:
    """Cut the student out of the teacher: keep some layers, optionally narrow them by importance.

    `layers` is how many (spread by `pick`) or a list of layer indices. `pick`: "even" keeps the first, the last and
    evenly spaced ones; "ends" the first half and the last half of the count; "importance" drops the layers that change
    their input least. `ffn` and `heads` are the new intermediate size and number of attention heads; None keeps the
    teacher's. Embeddings, final norm and head are copied.
    """

    layers: Any = 6
    pick: str = "even"
    ffn: int | None = None
    heads: int | None = None

    def __post_init__(self) -> None:
        asked = self.layers
        if asked != "???":
            wanted = asked if isinstance(asked, list) else [asked]
            if not wanted or any(isinstance(i, bool) or not isinstance(i, int) for i in wanted):
                raise ValueError(f"student.from_teacher.layers={asked}: must be a whole number or a list of them")
            if not isinstance(asked, list) and asked < 1:
                raise ValueError(f"student.from_teacher.layers={asked}: must be at least 1")
        if self.pick not in ("???", *PICKS):
            raise ValueError(f"student.from_teacher.pick={self.pick}: must be one of {', '.join(PICKS)}")
        for name, value in (("ffn", self.ffn), ("heads", self.heads)):
            if value is not None and value < 1:
                raise ValueError(f"student.from_teacher.{name}={value}: must be at least 1, or null to keep all")


@dataclass(kw_only=True)
class LoraConfig:
    """Low-rank adapters (Hu et al., 2021), trained by peft; everything else is frozen, the head of a language model too
    (a classifier's is trained whole).

    `target_modules` is "all-linear" or a list of module names.
    """

    r: int = 8
    alpha: int = 16
    dropout: float = 0.0
    target_modules: Any = "all-linear"

    def __post_init__(self) -> None:
        if self.r < 1:
            raise ValueError(f"student.lora.r={self.r}: must be at least 1")
        if self.alpha < 1:
            raise ValueError(f"student.lora.alpha={self.alpha}: must be at least 1")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"student.lora.dropout={self.dropout}: must be at least 0 and below 1")
        modules = self.target_modules
        names = isinstance(modules, list) and modules and all(isinstance(name, str) for name in modules)
        if modules not in ("all-linear", "???") and not names:
            raise ValueError(f"student.lora.target_modules={modules}: must be all-linear or a list of module names")


@dataclass(kw_only=True)
class StudentConfig:
    """Exactly one of `path` (hub id, folder, GGUF file), `from_teacher` and `architecture` (a bare model config,
    `model_type` and its fields, randomly initialised) says where the student comes from.

    `tokenizer` is a path; None takes the student's own, or the teacher's where the student brings none. `dtype` is that
    of the trained weights: float32 unless memory forbids it. `quantization` (a `quantization.kind`) holds the frozen
    base weights of a LoRA student packed (QLoRA; Dettmers et al., 2023): bnb8, nf4 or torchao_int8. They are multiplied
    in `dtype`; the adapters are float32. What is saved as the model is the adapters added to the base read again plain.
    """

    path: str | None = None
    revision: str | None = None
    trust_remote_code: bool = False
    tokenizer: str | None = None
    from_teacher: CutConfig | None = None
    architecture: dict[str, Any] | None = None
    lora: LoraConfig | None = None
    quantization: str = "none"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        dtypes.check("student.dtype", self.dtype)
        given = self.origins()
        if len(given) > 1:
            drop = " and ".join(f"student.{name}=null" for name in given[1:])
            raise ValueError(f"student.{' and student.'.join(given)} are all set: keep one, e.g. with {drop}")
        if self.architecture is not None and not self.architecture.get("model_type"):
            raise ValueError("student.architecture: needs model_type, e.g. student.architecture.model_type=llama")
        if self.quantization != "none":
            self._check_quantization(f"student.quantization={self.quantization}", given)

    def _check_quantization(self, named: str, given: list[str]) -> None:
        if self.quantization not in TRAINABLE:
            raise ValueError(f"{named}: must be one of {', '.join(TRAINABLE)}")
        if given and self.path is None:
            raise ValueError(
                f"{named}: packs a checkpoint while it is read, and student.{given[0]} is not one; "
                f"save it first and give student.path"
            )
        if self.lora is None:
            raise ValueError(f"{named}: packed weights do not train; add adapters with student.lora.r=8")

    def origins(self) -> list[str]:
        """The names of the origins that are set; a student needs exactly one."""
        return [name for name in ("path", "from_teacher", "architecture") if getattr(self, name) is not None]


@dataclass(frozen=True, kw_only=True)
class Student:
    """A trainable model in train mode, its tokenizer, and one phrase on where it came from."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    description: str


def build_student(
    config: StudentConfig,
    teacher_model: PreTrainedModel | None,
    teacher_tokenizer: PreTrainedTokenizerBase | None,
    *,
    seed: int,
    device: torch.device | str = "cpu",
    pairing: str = "strict",
    teacher_entries: int | None = None,
    calibration_BT: Tensor | None = None,
    task: Task | None = None,
) -> Student:
    """Make the student that `config` names, on the CPU, in train mode. The same arguments give the same weights.

    `device` is where it will train: `student.dtype=auto` is what that device multiplies natively.

    `pairing` is how its vocabulary meets the teacher's (`losses.base.Loss.pairing`). `teacher_entries` is how many
    entries a teacher predicts that has no model here.

    With a `task` the student is a classifier of its classes, whose head is trained whatever `lora` says: the teacher's
    where it is cut from one, its own where it has one of these classes, else one drawn from `seed`. Each model then
    reads with its own tokenizer, and `pairing` says nothing.

    `calibration_BT` are token ids that `from_teacher.pick=importance` judges layers on; None takes a page of the Python
    language reference. Raises ValueError when no origin is set, when a cut has no teacher, and when student and teacher
    do not predict over the same vocabulary.
    """
    from kdlab.models import origins

    return origins.build(
        config,
        teacher_model,
        teacher_tokenizer,
        seed=seed,
        device=device,
        pairing=pairing,
        teacher_entries=teacher_entries,
        calibration_BT=calibration_BT,
        task=task,
    )
