"""What `benchmark.mt_bench` and `benchmark.harness` are told. Importable without torch."""

from __future__ import annotations

from dataclasses import dataclass, field

from kdlab.limits import at_least, one_of
from kdlab.teachers.options import check_reach

JUDGES = ("server", "local")
MODES = ("single", "pairwise")
JUDGE = "benchmark.mt_bench.judge"


@dataclass(kw_only=True)
class JudgeConfig:
    """Who judges: "server" (any OpenAI-compatible endpoint: `url` ends before /chat/completions, `model` is what it
    calls its model; None: the only one that it lists) or "local" (the causal model at `path`).

    `concurrency` requests at a time; each is tried `attempts` times, `pause` seconds after the first failure and twice
    as long after each further one (or as long as the server asks), and given up after `timeout` seconds without a byte.
    A judgement has at most `max_tokens` tokens, drawn at `temperature` (None: the server's own, for models that take
    no other). One that says no rating is asked for again, `tries` times in all, and then counts as unparsed.

    The key, where one is needed, is in the environment variable that `key_variable` names. Prices are in any currency
    per million tokens (None: tokens are counted, cost is not).
    """

    kind: str = "server"
    url: str = "http://localhost:8000/v1"
    model: str | None = None
    path: str | None = None
    max_tokens: int = 2048
    temperature: float | None = 0.0
    tries: int = 3
    concurrency: int = 4
    attempts: int = 6
    pause: float = 0.5
    timeout: float = 120.0
    key_variable: str = "OPENAI_API_KEY"
    price_in: float | None = None
    price_out: float | None = None

    def __post_init__(self) -> None:
        one_of(f"{JUDGE}.kind", self.kind, JUDGES)
        check_reach(JUDGE, self, path="/chat/completions")
        for name in ("max_tokens", "tries"):
            at_least(f"{JUDGE}.{name}", getattr(self, name), 1)
        for name in ("price_in", "price_out", "temperature"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                raise ValueError(f"{JUDGE}.{name}={value}: must be null or a number >= 0")
        if (self.price_in is None) != (self.price_out is None):
            absent = "price_in" if self.price_in is None else "price_out"
            raise ValueError(f"{JUDGE}.{absent} is not set: a cost needs both prices (0 for what is free)")

    def price(self, tokens_in: int, tokens_out: int) -> float | None:
        """Of so many tokens read and written; None without prices."""
        if self.price_in is None or self.price_out is None:
            return None
        return (tokens_in * self.price_in + tokens_out * self.price_out) / 1e6


@dataclass(kw_only=True)
class MTBenchConfig:
    """MT-Bench (Zheng et al., 2023): two-turn questions, answers judged from 1 to 10 a turn ("single"), and before
    against after in both orders ("pairwise").

    `path` is the folder with question.jsonl, judge_prompts.jsonl and reference_answer/, as FastChat's llm_judge/data
    has them. `questions` of them are asked, as many of each category as that allows (None: all), answers of at most
    `max_new_tokens` tokens, greedily, `batch_size` at a time. `teacher`: a teacher that is a model here answers too.
    """

    path: str = ""
    modes: list[str] = field(default_factory=lambda: ["single"])
    questions: int | None = None
    max_new_tokens: int = 1024
    batch_size: int = 8
    teacher: bool = True
    judge: JudgeConfig = field(default_factory=JudgeConfig)

    def __post_init__(self) -> None:
        if not self.modes:
            raise ValueError(f"benchmark.mt_bench.modes=[]: name one of {', '.join(MODES)}, or benchmark.mt_bench=null")
        for mode in self.modes:
            one_of("benchmark.mt_bench.modes", mode, MODES)
        if self.questions is not None:
            at_least("benchmark.mt_bench.questions", self.questions, 1)
        at_least("benchmark.mt_bench.max_new_tokens", self.max_new_tokens, 1)
        at_least("benchmark.mt_bench.batch_size", self.batch_size, 1)


@dataclass(kw_only=True)
class HarnessConfig:
    """Tasks of lm-evaluation-harness (Gao et al., 2021) by name, or from YAML files below `include_path`. `limit`
    examples a task (None: all), `fewshot` shown before (None: the task's own)."""

    tasks: list[str] = field(default_factory=list)
    include_path: str | None = None
    limit: int | None = None
    fewshot: int | None = None
    batch_size: int = 8
    chat_template: bool = False
    teacher: bool = True

    def __post_init__(self) -> None:
        if len(set(self.tasks)) < len(self.tasks):
            raise ValueError(f"benchmark.harness.tasks={self.tasks}: names a task twice")
        if self.limit is not None:
            at_least("benchmark.harness.limit", self.limit, 1)
        if self.fewshot is not None:
            at_least("benchmark.harness.fewshot", self.fewshot, 0)
        at_least("benchmark.harness.batch_size", self.batch_size, 1)
