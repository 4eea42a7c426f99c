"""How long a run takes: its operations over what a short probe of the device gives.

Forward of a model: 2 operations a weight of its layers for every position it reads, and 4 T W a layer for attention
over T positions (W: heads times their size). A student's step is three forwards, four with gradient checkpointing
(Kaplan et al., 2020, section 2.1). A head costs 2 V H a supervised row: one product for the teacher, three for a
student whose head is trained, two else. The rest is counted in logits (a handful of passes of the loss over each) and
bytes (the optimiser reads and writes all it has).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kdlab.preflight.live import head_of, inner
from kdlab.preflight.machine import Speed
from kdlab.preflight.signals import kept_hidden
from kdlab.preflight.sketch import Sketch, Sketches
from kdlab.preflight.workload import Reading, Workload

if TYPE_CHECKING:
    from kdlab.training.recipe import TrainConfig

SLOWER = 1.45
"""A step's time over that of its products, logits and bytes: norms, rotations, activations, their gradients, products
of other shapes. Fitted to experiment=quickstart: 1.23 s a step on two cores that a probe sees at 100 GFLOP/s each."""
PASSES = 4
"""Softmaxes of a row that cost what a loss does: two of them, exponentials, the gradient."""
START = 10.0
"""Seconds to import and to open everything. Measured on a laptop's processor: 8 to 12."""
UNCERTAIN = 1.6
"""The prediction may be off by this factor either way: processors slow down, others work beside us."""


@dataclass(frozen=True, kw_only=True)
class Duration:
    """Seconds: of the whole, of one step, of training, of one pass over held-out data (`once`), of all
    evaluations; `evaluations` counts these, the one before
    training included."""

    step: float
    train: float
    once: float
    evaluate: float
    total: float
    evaluations: int

    @property
    def between(self) -> tuple[float, float]:
        return self.total / UNCERTAIN, self.total * UNCERTAIN

    def as_dict(self) -> dict[str, Any]:
        low, high = self.between
        return {
            "seconds": self.total,
            "seconds_low": low,
            "seconds_high": high,
            "step_seconds": self.step,
            "train_seconds": self.train,
            "evaluate_seconds": self.evaluate,
            "evaluations": self.evaluations,
        }


def predict_time(
    config: TrainConfig,
    models: Sketches,
    work: Workload,
    *,
    speed: Speed,
    teacher_speed: Speed,
    optimizer_bytes: int,
    suites: float = 0.0,
) -> Duration:
    """The time of a run. `optimizer_bytes` are what a step of the optimiser reads and writes, `suites` the seconds that
    benchmarks of others take (`benchmarks.suites_seconds`)."""
    student, teacher = models.student, models.teacher
    asks = config.loss.asks_teacher or bool(config.inner.terms())
    passes = 4 if config.trainer.gradient_checkpointing else 3
    lm_head = head_of(student.model)
    trained_head = lm_head is None or lm_head.weight.requires_grad  # a classifier's always is
    step = (passes * forward(student, work.student, width=work.largest.width)) / speed.products
    step += (3 if trained_head else 2) * head(student, work.student) / speed.products
    step += PASSES * work.student.rows * student.vocabulary / speed.softmaxes + optimizer_bytes / speed.copied
    if teacher is not None and asks:
        both = forward(teacher, work.teacher, width=work.teacher_largest.width) + head(teacher, work.teacher)
        step += both / teacher_speed.products
    # A row's logits, where a cache keeps hidden states.
    product = 2.0 * student.vocabulary * kept_hidden(models) / speed.products
    step += product * work.teacher.rows if asks else 0.0
    step *= SLOWER

    def reading(held: Reading, theirs: Reading) -> float:
        seconds = (forward(student, held, width=work.heldout.width) + head(student, held)) / speed.products
        if teacher is not None:
            both = forward(teacher, theirs, width=work.teacher_heldout.width) + head(teacher, theirs)
            seconds += both / teacher_speed.products
        seconds += product * theirs.rows
        return SLOWER * (seconds + PASSES * held.rows * student.vocabulary / speed.softmaxes)

    once = reading(work.student_evaluation, work.teacher_evaluation)
    evaluations = 1 + evaluations_while(config, work)
    tests = 2 * reading(work.student_test, work.teacher_test)  # before and after
    evaluate = evaluations * once + tests + writing(config, models, speed) + suites
    train = work.steps * step
    return Duration(
        step=step,
        train=train,
        once=once,
        evaluate=evaluate,
        total=START + train + evaluate,
        evaluations=evaluations,
    )


def evaluations_while(config: TrainConfig, work: Workload) -> int:
    """How often held-out data is read while training: by steps, or at every epoch's end; and after the last step."""
    every = config.trainer.evaluate_every or work.steps_per_epoch
    return -(-work.steps // every) if every else 1


def forward(side: Sketch, reads: Reading, *, width: int) -> float:
    """Operations of the layers, without the head."""
    bare = inner(side.model)
    lm_head = head_of(side.model)
    heads = {id(bare.get_input_embeddings().weight), *([] if lm_head is None else [id(lm_head.weight)])}
    text = side.config.get_text_config()
    across = side.heads * int(getattr(text, "head_dim", None) or side.hidden // side.heads)
    attention = 4 * width * across * side.layers
    if not side.seq2seq:
        weights = sum(p.numel() for p in side.model.parameters() if id(p) not in heads and p.ndim >= 2)
        return float(2 * weights + attention / 2) * reads.positions  # half: a causal layer looks only back
    encoder = {id(p) for p in bare.get_encoder().parameters()} - heads
    decoder = {id(p) for p in side.model.parameters()} - heads - encoder
    weights_of = {id(p): p.numel() for p in side.model.parameters() if p.ndim >= 2}
    read = sum(weights_of.get(i, 0) for i in encoder) * reads.source
    written = sum(weights_of.get(i, 0) for i in decoder) * reads.positions
    return float(2 * (read + written) + attention / 2 * (reads.source + reads.positions))


def head(side: Sketch, reads: Reading) -> float:
    """Operations of one product with the head."""
    return 2.0 * side.vocabulary * side.hidden * reads.rows


def writing(config: TrainConfig, models: Sketches, speed: Speed) -> float:
    """Seconds to continue prompts and to time forward passes. A token that is written reads every weight once."""
    from kdlab.training.evaluation import SPEED_SECONDS

    benchmark = config.benchmark
    student = models.student.size.bytes
    teacher = 0 if models.teacher is None else models.teacher.size.bytes
    timed = SPEED_SECONDS * (2 + (teacher > 0)) if benchmark.speed else 0.0
    tokens = benchmark.max_new_tokens if benchmark.samples and config.dataset.labels is None else 0
    if benchmark.generation is not None and benchmark.generation.examples is not None:
        batches = -(-benchmark.generation.examples // benchmark.generation.batch_size)
        tokens += batches * benchmark.generation.max_new_tokens
    return timed + tokens * (2 * student + teacher) / (speed.copied / 2)
