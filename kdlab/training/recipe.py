"""What a training job is told: the typed root of `kdlab train` and the options of the trainer."""

from __future__ import annotations

from dataclasses import dataclass, field

from kdlab.benchmarking.recipe import HarnessConfig, MTBenchConfig
from kdlab.data.dataset import DatasetConfig
from kdlab.limits import at_least, one_of
from kdlab.losses.base import Loss
from kdlab.losses.inner import InnerConfig
from kdlab.losses.kullback_leibler import ForwardKL
from kdlab.models.quantization import QuantizationConfig
from kdlab.models.student import StudentConfig
from kdlab.teachers.options import TeacherConfig
from kdlab.text.final_numbers import RULES
from kdlab.text.prompts import PromptConfig
from kdlab.training.optimizers import AdamW, OptimizerConfig
from kdlab.training.schedulers import SchedulerConfig

HIGHER = ("top1_agreement", "accuracy", "macro_f1", "weighted_f1")
"""Monitors of which more is better; of the others less is."""
OF_CLASSES = ("accuracy", "macro_f1", "weighted_f1", "ece")
OF_NUMBERS = ("rmse", "mae")
MONITORS = ("auto", "kl", "nll", "perplexity", "top1_agreement", *OF_CLASSES, *OF_NUMBERS)
PRECISIONS = ("auto", "32", "bf16-mixed", "16-mixed")
ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")
GENERATION_METRICS = ("rouge", "bleu", "chrf", "accuracy")
LOGGERS = ("tensorboard", "wandb", "wandb_offline")


@dataclass(kw_only=True)
class CheckpointConfig:
    """When to write a resumable checkpoint; None switches a rule off. The last step always writes one.

    `monitor` is the held-out metric that decides which checkpoint is the best: "auto" is `kl` with a teacher and `nll`
    without, of a regression `rmse`; lower is better but for agreement, accuracy and F1. `final` is the weights that
    become `model/`: "last" or "best".
    """

    every_steps: int | None = None
    every_epochs: int | None = 1
    every_minutes: float | None = 10.0
    monitor: str = "auto"
    best: bool = True
    final: str = "last"

    def __post_init__(self) -> None:
        at_least("trainer.checkpoint.every_steps", self.every_steps, 1, unset=True)
        at_least("trainer.checkpoint.every_epochs", self.every_epochs, 1, unset=True)
        at_least("trainer.checkpoint.every_minutes", self.every_minutes, 0, unset=True)
        one_of("trainer.checkpoint.monitor", self.monitor, MONITORS)
        one_of("trainer.checkpoint.final", self.final, ("last", "best"))
        if self.final == "best" and not self.best:
            raise ValueError("trainer.checkpoint.final=best: needs trainer.checkpoint.best=true")


@dataclass(kw_only=True)
class EarlyStoppingConfig:
    """Stop when `monitor` has not improved by more than `min_delta` in `patience` evaluations."""

    monitor: str = "auto"
    patience: int = 3
    min_delta: float = 0.0

    def __post_init__(self) -> None:
        one_of("trainer.early_stopping.monitor", self.monitor, MONITORS)
        at_least("trainer.early_stopping.patience", self.patience, 1)
        at_least("trainer.early_stopping.min_delta", self.min_delta, 0)


@dataclass(kw_only=True)
class TrainerConfig:
    """`batch_size` examples a micro-batch and device; `accumulate` micro-batches an optimiser step.

    `max_steps` optimiser steps, over as many epochs as that takes; where it is None, `max_epochs` epochs. `clip` is the
    largest gradient norm (0: off). `ema` is the decay of the averaged weights (None: off). `evaluate_every` counts
    optimiser steps (None: at every epoch's end); the last step is always evaluated. `precision` "auto" is bf16-mixed
    where the device does it natively, else 32.
    """

    max_steps: int | None = None
    max_epochs: int = 1
    batch_size: int = 8
    accumulate: int = 1
    precision: str = "auto"
    clip: float = 1.0
    gradient_checkpointing: bool = False
    ema: float | None = None
    evaluate_every: int | None = None
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    early_stopping: EarlyStoppingConfig | None = None
    accelerator: str = "auto"
    devices: int = 1
    threads: int | None = None
    workers: int = 0
    progress: bool = True
    loggers: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        at_least("trainer.max_steps", self.max_steps, 1, unset=True)
        at_least("trainer.max_epochs", self.max_epochs, 1)
        at_least("trainer.batch_size", self.batch_size, 1)
        at_least("trainer.accumulate", self.accumulate, 1)
        at_least("trainer.clip", self.clip, 0)
        at_least("trainer.evaluate_every", self.evaluate_every, 1, unset=True)
        at_least("trainer.devices", self.devices, 1)
        at_least("trainer.threads", self.threads, 1, unset=True)
        at_least("trainer.workers", self.workers, 0)
        one_of("trainer.precision", self.precision, PRECISIONS)
        one_of("trainer.accelerator", self.accelerator, ACCELERATORS)
        if self.ema is not None and not 0 < self.ema < 1:
            raise ValueError(f"trainer.ema={self.ema}: must be null or between 0 and 1 (such as 0.999)")
        for logger in self.loggers:
            one_of("trainer.loggers", logger, LOGGERS)
        if "wandb" in self.loggers and "wandb_offline" in self.loggers:
            raise ValueError("trainer.loggers: wandb and wandb_offline exclude each other")


@dataclass(kw_only=True)
class GenerationConfig:
    """Written answers to held-out prompts, judged against the references: `examples` of them (None: all), greedily, or
    with `beams` beams, `max_new_tokens` at most, `batch_size` at a time. `metrics`: rouge (1, 2 and L, F-measure with
    stemming), bleu, chrf, and accuracy: how many answers come to the number of their reference, extracted by `rules`
    (`text.final_numbers`: s1 or boxed_last)."""

    examples: int | None = 200
    metrics: list[str] = field(default_factory=lambda: ["rouge"])
    rules: str = "boxed_last"
    max_new_tokens: int = 64
    beams: int = 1
    batch_size: int = 16

    def __post_init__(self) -> None:
        at_least("benchmark.generation.examples", self.examples, 1, unset=True)
        at_least("benchmark.generation.max_new_tokens", self.max_new_tokens, 1)
        at_least("benchmark.generation.beams", self.beams, 1)
        at_least("benchmark.generation.batch_size", self.batch_size, 1)
        for metric in self.metrics:
            one_of("benchmark.generation.metrics", metric, GENERATION_METRICS)
        one_of("benchmark.generation.rules", self.rules, tuple(RULES))


@dataclass(kw_only=True)
class BenchmarkConfig:
    """What is measured on held-out data for teacher, student before and student after.

    `tokens` caps the tokens read of the held-out rows, and of those of the test (None: all). `samples` prompts are
    continued by all three, `max_new_tokens` each, greedily. `speed` times a forward pass of each. `generation` judges
    written answers (None: not). `mt_bench` and `harness` are benchmarks of others, run before and after training on the
    same items (None: not).
    """

    tokens: int | None = None
    samples: int = 4
    max_new_tokens: int = 64
    speed: bool = True
    generation: GenerationConfig | None = None
    mt_bench: MTBenchConfig | None = None
    harness: HarnessConfig | None = None

    def __post_init__(self) -> None:
        at_least("benchmark.tokens", self.tokens, 1, unset=True)
        at_least("benchmark.samples", self.samples, 0)
        at_least("benchmark.max_new_tokens", self.max_new_tokens, 1)


@dataclass(kw_only=True)
class ClusterConfig:
    """Where the job runs."""

    name: str = "local"


@dataclass(kw_only=True)
class TrainConfig:
    """Everything `kdlab train` needs."""

    name: str = "train"
    seed: int = 0
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    student: StudentConfig = field(default_factory=StudentConfig)
    quantization: QuantizationConfig = field(default_factory=QuantizationConfig)
    loss: Loss = field(default_factory=ForwardKL)
    inner: InnerConfig = field(default_factory=InnerConfig)
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    prompt: PromptConfig = field(default_factory=PromptConfig)
    optimizer: OptimizerConfig = field(default_factory=AdamW)
    scheduler: SchedulerConfig = field(default_factory=SchedulerConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    benchmark: BenchmarkConfig = field(default_factory=BenchmarkConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed={self.seed}: must be between 0 and 4294967295")
