"""What a job is told that lets a model write: `kdlab generate` keeps the answers, `kdlab evaluate` judges them."""

from __future__ import annotations

from dataclasses import dataclass, field

from kdlab.data.dataset import DatasetConfig
from kdlab.limits import at_least, one_of
from kdlab.models import dtype as dtypes
from kdlab.models.quantization import QuantizationConfig
from kdlab.text.prompts import PromptConfig
from kdlab.training.recipe import ACCELERATORS, ClusterConfig

RULES = ("s1", "boxed_last")


@dataclass(kw_only=True)
class ModelConfig:
    """The model that writes: a hub id, a folder (such as the `model/` of a run), a GGUF file or `tiny:llama`."""

    path: str | None = None
    revision: str | None = None
    trust_remote_code: bool = False
    dtype: str = "auto"

    def __post_init__(self) -> None:
        dtypes.check("model.dtype", self.dtype)


@dataclass(kw_only=True)
class WritingConfig:
    """How a model writes, the same for every model: greedily (`draws` 0), or `draws` texts for each question, drawn at
    `temperature` from the most likely tokens that hold `top_p` of the probability, each by a seed of its own.

    `examples` questions (None: all; of rows with labels so many are drawn), `max_new_tokens` at most, `batch_size` at a
    time.
    """

    draws: int = 0
    temperature: float = 1.0
    top_p: float = 1.0
    examples: int | None = None
    max_new_tokens: int = 350
    batch_size: int = 16
    accelerator: str = "auto"
    threads: int | None = None
    progress: bool = True

    def __post_init__(self) -> None:
        at_least("writing.draws", self.draws, 0)
        at_least("writing.examples", self.examples, 1, unset=True)
        at_least("writing.max_new_tokens", self.max_new_tokens, 1)
        at_least("writing.batch_size", self.batch_size, 1)
        at_least("writing.threads", self.threads, 1, unset=True)
        one_of("writing.accelerator", self.accelerator, ACCELERATORS)
        if not self.temperature > 0:
            raise ValueError(f"writing.temperature={self.temperature}: must be > 0; greedy is writing.draws=0")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"writing.top_p={self.top_p}: must be above 0 and at most 1")


@dataclass(kw_only=True)
class AnswerConfig:
    """What `kdlab generate` and `kdlab evaluate` have in common.

    `rules` extract the number that an answer comes to, and that of the reference (`text.final_numbers`).
    """

    name: str
    seed: int = 0
    rules: str = "boxed_last"
    model: ModelConfig = field(default_factory=ModelConfig)
    quantization: QuantizationConfig = field(default_factory=QuantizationConfig)
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    prompt: PromptConfig = field(default_factory=PromptConfig)
    writing: WritingConfig = field(default_factory=WritingConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed={self.seed}: must be between 0 and 4294967295")
        one_of("rules", self.rules, RULES)


@dataclass(kw_only=True)
class GenerateConfig(AnswerConfig):
    """`keep`: "all" answers, or only those that come to the reference's number ("correct")."""

    name: str = "generate"
    keep: str = "all"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("keep", self.keep, ("all", "correct"))


@dataclass(kw_only=True)
class EvaluateConfig(AnswerConfig):
    """`manual` is the CSV of unresolved answers with the grades that a person filled in (None: not graded yet)."""

    name: str = "evaluate"
    manual: str | None = None
