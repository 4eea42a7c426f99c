"""The most memory that a run holds: what each part takes, when it is there, and what would lower it.

A run's peak is that of its worst moment. With W the weights of both models, O the optimiser's state and the average of
the weights, G the gradients:

    reading the teacher    base + W(teacher) + its files, mapped while they are read
    cutting the student    base + W + the files of the model that a cache is of, or of a packed teacher
    a training step        base + W + O + the largest of
                               the teacher's forward pass
                               the forward pass, + the loss's chunks of logits at its end   (+ G when accumulating)
                               the backward pass, in which G comes to be
                               G and what the optimiser's step makes
    an evaluation          base + W + O + G + forward passes + 3 chunks of 256 rows of logits (+ weights set aside for
                           the average), or the caches of what is generated
    the best checkpoint    base + W + O + G + the checkpoint read back

On a GPU everything but the base lies on the device.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from kdlab.losses.base import RowLoss
from kdlab.losses.sides import math_dtype, spans, tile_rows
from kdlab.models.self_attention import attend_eagerly
from kdlab.models.size import measure
from kdlab.preflight.findings import size
from kdlab.preflight.inner_terms import inner_bytes
from kdlab.preflight.live import Passes, Shape, by_formula, head_of, inner, passes, pretend
from kdlab.preflight.signals import DECODED, kept_hidden, signals_of
from kdlab.preflight.sketch import Sketch, Sketches
from kdlab.preflight.weights import gradient_bytes, state_bytes, step_bytes, weight_bytes
from kdlab.preflight.workload import Workload
from kdlab.training.evaluation import CHUNK_ROWS

if TYPE_CHECKING:
    from kdlab.training.recipe import TrainConfig

HEAP_SHARE = 0.03
"""Of the tensors' bytes, what the heap keeps besides: blocks too small to be given back, and gaps. Measured on
experiment=quickstart: 2 to 4 %."""
FIRST_USE = 24 * 2**20
"""Resident after the first steps on a CPU, and not before: threads, kernels, the code of Lightning, generation and
checkpoints. Measured on experiment=smoke, whose tensors are a few MiB: 18 MiB."""
CONTEXT = 600 * 2**20
"""What a CUDA context and its libraries take of a GPU before the first tensor. An estimate, not measured by us."""
TILE_TENSORS = 6
"""Float32 tensors of a tile's size that the arithmetic of a loss holds at once (`losses.tile`)."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """`bytes` of one thing; `lower` says what makes it less."""

    name: str
    bytes: int
    lower: str | None = None
    exact: bool = True


@dataclass(kw_only=True)
class Memory:
    """`parts` by what they are; `moments` the bytes held at each, the base among them; `estimated` says why activations
    come from a formula, where they do."""

    base: int
    parts: list[Part] = field(default_factory=list)
    moments: dict[str, int] = field(default_factory=dict)
    estimated: str | None = None

    @property
    def peak(self) -> int:
        return max(self.moments.values())

    @property
    def moment(self) -> str:
        """When the peak is."""
        return max(self.moments, key=lambda name: self.moments[name])

    def largest(self, number: int) -> list[Part]:
        return sorted(self.parts, key=lambda part: -part.bytes)[:number]

    def as_dict(self) -> dict[str, Any]:
        parts = {part.name: part.bytes for part in self.parts}
        moments = dict(self.moments)
        return {"peak_bytes": self.peak, "at": self.moment, "base_bytes": self.base, "parts": parts, "moments": moments}


def predict(
    config: TrainConfig,
    models: Sketches,
    work: Workload,
    *,
    device: torch.device,
    autocast: torch.dtype | None,
    base: int,
) -> Memory:
    """The memory of a run on `device`, whose process holds `base` bytes before any weight."""
    memory = Memory(base=base)
    teacher, student, trainer = models.teacher, models.student, config.trainer
    W_teacher, exact = (0, True)
    if teacher is not None:
        W_teacher, exact = weight_bytes(teacher.model, teacher.packed, disk_bytes=teacher.disk_bytes)
    W_student, student_exact = weight_bytes(student.model, student.packed)
    trainable = student.trainable
    projections = inner_bytes(config.inner, models, work.largest)
    entries = sum(p.numel() for p in trainable)
    G = gradient_bytes(trainable) + projections.weights
    state = state_bytes(config.optimizer, trainable) + 2 * projections.weights
    average = 4 * entries if trainer.ema is not None else 0
    ours, theirs = _run(memory, config, models, work, autocast=autocast, device=device, gradients=G)
    loss = loss_bytes(config, models, work, autocast=autocast, device=device)
    kept = signals_of(config, models, device)
    signals = DECODED * kept.row * max(work.largest.rows, work.heldout.rows)
    # Each process of a DistributedDataParallel job gathers gradients in buckets beside the gradients themselves.
    buckets = G if trainer.devices > 1 else 0
    held = W_teacher + kept.head + W_student + projections.weights + state + average + buckets
    again = G if trainer.accumulate > 1 else 0
    W_kept = W_teacher + kept.head + W_student
    evaluation = evaluation_bytes(models, work) + signals + (gradient_bytes(trainable) if average else 0)
    files = (teacher.disk_bytes or 0) if teacher is not None and device.type != "cuda" else 0
    read_back = gradient_bytes(trainable) + state if trainer.checkpoint.final == "best" and device.type != "cuda" else 0
    moments = {
        "reading the teacher": W_teacher + files,
        "the teacher's forward pass": held + again + theirs.read,
        "the loss": held + again + max(ours.forward, ours.kept + loss) + projections.activations + signals,
        "the backward pass": held + max(ours.backward + again, G) + projections.activations + signals,
        "the optimiser's step": held + G + step_bytes(config.optimizer, trainable),
        "an evaluation": held + G + max(ours.read, theirs.read) + evaluation,
        "generated answers": held + G + generation_bytes(config, models),
        "reading the best checkpoint": W_kept + state + G + read_back,
    }
    if teacher is not None and teacher.packed != "none" and config.student.from_teacher is not None:
        moments["cutting the student"] = W_teacher + W_student + 2 * teacher.size.parameters  # read again, in bfloat16
    if models.lender is not None:
        on_disk = (models.lender.disk_bytes or 0) if device.type != "cuda" else 0
        moments["cutting the student"] = W_student + measure(models.lender.model).bytes + on_disk
    if teacher is None:
        del moments["reading the teacher"], moments["the teacher's forward pass"]
    if not read_back:
        del moments["reading the best checkpoint"]
    over = (FIRST_USE, HEAP_SHARE) if device.type != "cuda" else (0, 0.0)
    memory.moments = {name: int(base + over[0] + (1 + over[1]) * held_then) for name, held_then in moments.items()}
    lower_batch = "trainer.batch_size, with trainer.accumulate to match; dataset.max_length"
    checkpoint = "" if trainer.gradient_checkpointing else "trainer.gradient_checkpointing=true; "
    activations = max(ours.kept - _head_gradient(student), 0)
    memory.parts = [
        Part(
            name="teacher weights",
            bytes=W_teacher,
            exact=exact,
            lower="teacher.dtype=bfloat16; quantization=...; a smaller teacher",
        ),
        Part(name="the teacher's head", bytes=kept.head, lower="a cache of codec=topk"),
        Part(name="signals", bytes=signals, lower=lower_batch),
        Part(name="student weights", bytes=W_student, exact=student_exact, lower="a smaller student"),
        Part(name="gradients", bytes=G, lower="student.lora.r=8"),
        Part(name="optimiser state", bytes=state, lower="student.lora.r=8; optimizer=adamw_8bit, adafactor or sgd"),
        Part(name="averaged weights", bytes=average, lower="trainer.ema=null"),
        Part(name="gradient buckets", bytes=buckets, lower="trainer.devices=1"),
        Part(
            name="student activations",
            bytes=activations,
            lower=checkpoint + lower_batch,
        ),
        Part(name="teacher activations", bytes=theirs.read, lower=lower_batch),
        Part(name="loss chunks", bytes=loss, lower="loss.chunk_rows"),
        Part(name="inner layers", bytes=projections.activations, lower="inner=none; " + lower_batch),
        Part(name="evaluation", bytes=evaluation),
        Part(name="libraries and data", bytes=base + over[0]),
    ]
    memory.parts = [part for part in memory.parts if part.bytes]
    return memory


def _head_gradient(student: Sketch) -> int:
    head = head_of(student.model)
    if head is None or not head.weight.requires_grad:
        return 0
    return int(head.weight.numel() * head.weight.element_size())


def _run(
    memory: Memory,
    config: TrainConfig,
    models: Sketches,
    work: Workload,
    *,
    autocast: torch.dtype | None,
    device: torch.device,
    gradients: int,
) -> tuple[Passes, Passes]:
    """The passes of student and teacher, run on fake tensors; by formula where that fails."""
    from torch._subclasses.fake_tensor import FakeTensorMode  # takes tens of MiB that a run does not need

    fake = FakeTensorMode()
    checkpointing = config.trainer.gradient_checkpointing
    student = models.student
    for side in (student, models.teacher):
        if side is not None:
            pretend(side.model, fake)
    if config.inner.attention is not None and models.teacher is not None:
        attend_eagerly(inner(student.model))
        attend_eagerly(inner(models.teacher.model))
    if checkpointing and getattr(inner(student.model), "supports_gradient_checkpointing", False):
        student.model.activation_checkpointing_enable({"use_reentrant": False})

    def run(side: Sketch, shape: Shape, *, train: bool) -> Passes:
        dtype = autocast if train else None
        try:
            return passes(side.model, shape, fake=fake, autocast=dtype, train=train)
        except (RuntimeError, TypeError, ValueError, AttributeError, NotImplementedError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
            memory.estimated = f"{side.config.model_type} does not run on tensors without numbers ({reason})"
            return by_formula(
                layers=side.layers,
                hidden=side.hidden,
                heads=side.heads,
                shape=shape,
                bytes_each=2 if dtype else side.model.dtype.itemsize,
                checkpointing=checkpointing,
                gradients=gradients,
            )

    ours = run(student, work.largest, train=True)
    theirs = Passes(read=0)
    if models.teacher is not None:
        widest = max(work.teacher_largest, work.teacher_heldout, key=lambda s: s.batch * (s.width + (s.source or 0)))
        theirs = run(models.teacher, widest, train=False)
    return ours, theirs


def loss_bytes(
    config: TrainConfig, models: Sketches, work: Workload, *, autocast: torch.dtype | None, device: torch.device
) -> int:
    """The loss engine's buffers: a chunk of logits of either side, [n, V] each, n rows as `losses.sides.spans` cuts
    them; a tile's temporaries; and where products are narrower than float32, the head in that type and its sums."""
    loss, teacher = config.loss, models.teacher
    sides = [(models.student, work.largest.rows, autocast or models.student.model.dtype)]
    if teacher is not None and loss.asks_teacher:
        sides.append((teacher, work.teacher_largest.rows, teacher.model.dtype))
    total, widest = 0, max(side.vocabulary for side, _, _ in sides)
    for side, rows, dtype in sides:
        chunks = spans(rows, widest, loss.chunk_rows, device)
        longest = max(end - start for start, end in chunks)
        total += longest * side.vocabulary * dtype.itemsize
        if side is models.student and math_dtype(dtype) != dtype:
            total += side.vocabulary * side.hidden * (dtype.itemsize + 4)
        if side is models.student:
            whole = isinstance(loss, RowLoss) and loss.compile
            tile = longest if whole else min(longest, tile_rows(side.vocabulary, device))
            total += TILE_TENSORS * 4 * tile * side.vocabulary
    if kept_hidden(models) and loss.asks_teacher:
        chunks = spans(work.teacher_largest.rows, widest, loss.chunk_rows, device)
        total += max(end - start for start, end in chunks) * widest * 4
    return total


def evaluation_bytes(models: Sketches, work: Workload) -> int:
    """Three chunks of at most 256 rows in float32 (`metrics.heldout`), two where there is no teacher."""
    rows = min(CHUNK_ROWS, max(work.heldout.rows, 1))
    entries = max(side.vocabulary for side in (models.student, models.reader) if side is not None)
    return rows * entries * 4 * (3 if models.reader is not None else 2)


def generation_bytes(config: TrainConfig, models: Sketches) -> int:
    """Keys and values of every layer for what is continued at once: 2 L B T heads d, of the larger model."""
    benchmark = config.benchmark
    if config.dataset.labels is not None:  # a classifier writes nothing
        return 0
    batch, new = benchmark.samples, benchmark.max_new_tokens
    if benchmark.generation is not None:
        batch = max(batch, benchmark.generation.batch_size * benchmark.generation.beams)
        new = max(new, benchmark.generation.max_new_tokens)
    length = config.dataset.max_length + new
    found = 0
    for side in (models.student, models.teacher):
        if side is not None:
            text = side.config.get_text_config()
            width = side.hidden * int(getattr(text, "num_key_value_heads", None) or side.heads) // side.heads
            found = max(found, 2 * side.layers * batch * length * width * int(side.model.dtype.itemsize))
    return found


def told(part: Part) -> str:
    """One part in a few words."""
    return f"{part.name} {'' if part.exact else 'about '}{size(part.bytes)}"
