"""Tasks of lm-evaluation-harness (Gao et al., 2021) on a model in memory, through the package's Python API.

    Harness(config).run(model, tokenizer)   # {"arc_easy": {"acc": 0.61, "acc_stderr": 0.02, ...}}

The model is left as it was: its modes, its generation config, and its tokenizer, of which a copy is used.
"""

from __future__ import annotations

import copy
import io
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdlab.benchmarking.harness_items import Items, items_of
from kdlab.benchmarking.harness_requests import Requests, count_requests
from kdlab.models.head import evaluating
from kdlab.models.seq2seq import is_seq2seq

if TYPE_CHECKING:
    from kdlab.benchmarking.recipe import HarnessConfig

OPTION = "benchmark.harness.tasks"
BOOTSTRAPS = 1000
"""Samples for the standard error of metrics that are no means (of means it is exact)."""


class Harness:
    """The tasks that the options name. Raises ValueError for a name that no task has."""

    def __init__(self, config: HarnessConfig) -> None:
        self.config = config
        self.about: dict[str, Any] = {}
        """For the record, once a model has run: the package's version and, of each task, its version and examples."""
        self.items: dict[str, Items] = {}
        """Of each task of that run, how every example came out."""

    def run(self, model: Any, tokenizer: Any) -> dict[str, dict[str, float | None]]:
        """Of each task (and group of tasks) every metric and its standard error, as `metric` and `metric_stderr`; None
        where the task gives none. A metric after another filter than "none" is called "metric,filter"."""
        import lm_eval
        from lm_eval.models.huggingface import HFLM

        inner = model.get_base_model() if hasattr(model, "get_base_model") else model  # under a peft wrapper
        with _quiet(), _as_it_was(inner):
            reader = HFLM(
                pretrained=inner,
                backend="seq2seq" if is_seq2seq(inner) else "causal",
                tokenizer=copy.deepcopy(tokenizer),
                batch_size=self.config.batch_size,
                max_length=getattr(inner.config, "max_position_embeddings", None),
            )
            with self._refusals():
                found = lm_eval.evaluate(
                    lm=reader,
                    task_dict=self._load(),
                    limit=self.config.limit,
                    bootstrap_iters=BOOTSTRAPS,
                    log_samples=True,
                    apply_chat_template=self.config.chat_template,
                    fewshot_as_multiturn=self.config.chat_template,
                )
        assert found is not None, "one process alone evaluates"
        self.about = {
            "lm_eval": lm_eval.__version__,
            "versions": {task: found["versions"].get(task) for task in found["results"]},
            "examples": {task: counts["effective"] for task, counts in found["n-samples"].items()},
            "fewshot": dict(found["n-shot"]),
        }
        metrics = {task: _metrics(values) for task, values in found["results"].items()}
        self.items = {task: items_of(samples, metrics[task]) for task, samples in found["samples"].items()}
        return metrics

    def requests(self, tokenizer: Any) -> dict[str, Requests]:
        """Of each task, those of groups too, how much it would ask of a model with this tokenizer; raises as `run`."""
        with _quiet(), self._refusals():
            return {
                name: count_requests(
                    task,
                    copy.deepcopy(tokenizer),
                    limit=self.config.limit,
                    batch_size=self.config.batch_size,
                    chat=self.config.chat_template,
                )
                for name, task in self._load()["tasks"].items()
            }

    def _load(self) -> Any:
        """The tasks, as fresh objects: they keep what was asked of them."""
        loaded = self._manager.load(list(self.config.tasks))
        for task in loaded["tasks"].values():
            own = task.get_config("num_fewshot")
            # a task that says 0 means it: its prompt already holds the examples, or must have none
            if self.config.fewshot is not None and own != 0:
                task.set_config(key="num_fewshot", value=self.config.fewshot)
            elif own is None:
                task.set_config(key="num_fewshot", value=0)
            task.set_fewshot_seed(seed=1234)
        return loaded

    @cached_property
    def _manager(self) -> Any:
        """The index of tasks: those below `include_path`, and the package's own (thousands: it takes seconds) only
        where one that is asked for is not among them."""
        from lm_eval.tasks import TaskManager

        place = self.config.include_path
        folder = None if place is None else str(Path(place).expanduser().resolve())
        manager = TaskManager(include_path=folder, include_defaults=False)
        if not set(self.config.tasks) <= set(manager.all_tasks):
            manager = TaskManager(include_path=folder, include_defaults=True)
        known = manager.all_tasks
        for task in self.config.tasks:
            if task not in known:
                near = get_close_matches(task, known, n=3)
                hint = f"did you mean {' or '.join(near)}?" if near else "`lm_eval ls tasks` lists all"
                raise ValueError(f"{OPTION}=[{task}]: lm-evaluation-harness has no such task; {hint}")
        return manager

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        """What a task cannot do, or data that cannot be had, in one line."""
        asked = f"{OPTION}={self.config.tasks}"
        try:
            yield
        except OSError as error:
            raise ValueError(
                f"{asked}: the data of a task cannot be had ({_short(error)}); connect to the hub, or give tasks whose "
                "files lie here (benchmark.harness.include_path)"
            ) from error
        except (ValueError, KeyError, TypeError, ImportError) as error:
            if str(error).startswith("benchmark."):
                raise
            raise ValueError(f"{asked}: {_short(error)}") from error


def _metrics(values: Mapping[str, Any]) -> dict[str, float | None]:
    """`{"acc,none": 0.5, "acc_stderr,none": 0.1, "alias": ...}` as `{"acc": 0.5, "acc_stderr": 0.1}`."""
    found: dict[str, float | None] = {}
    for key, value in values.items():
        metric, comma, filtered = key.partition(",")
        if not comma:
            continue
        after = "" if filtered == "none" else f",{filtered}"
        bare = metric.removesuffix("_stderr")
        name = f"{bare}{after}" if bare == metric else f"{bare}{after}_stderr"
        found[name] = float(value) if isinstance(value, int | float) else None
    return found


@contextmanager
def _as_it_was(model: Any) -> Iterator[None]:
    """Every module's mode and the generation config, put back after."""
    import torch

    own = model.generation_config
    model.generation_config = copy.deepcopy(own)
    try:
        with evaluating(model), torch.no_grad():
            yield
    finally:
        model.generation_config = own


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the package's log lines and bars, of which a run writes hundreds."""
    names = ("lm_eval", "datasets", "huggingface_hub", "transformers", "urllib3", "filelock", "fsspec")
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    said = io.StringIO()
    try:
        with redirect_stderr(said), redirect_stdout(said):
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def _short(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {(lines or ['no reason given'])[0][:200]}"
