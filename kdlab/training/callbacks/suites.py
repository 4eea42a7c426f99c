"""Benchmarks of others (MT-Bench, lm-evaluation-harness) on teacher and student, before training and after.

Both times the same items are asked, and what moved is told item by item. What teacher and untrained student are worth
is kept in benchmarks.json, so a run that is continued does not ask again; MT-Bench keeps every answer and every
judgement besides.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdlab.benchmarking import harness_items, scores
from kdlab.benchmarking.lines import key_of
from kdlab.benchmarking.telling import told_lines
from kdlab.durable import read_json, write_json
from kdlab.models.weights_hash import tensors_hash
from kdlab.text.templates import read_template
from kdlab.training.callbacks.random_state import restore, seed_all, state

if TYPE_CHECKING:
    import torch

    from kdlab.benchmarking.harness import Harness
    from kdlab.benchmarking.mt_bench import MTBench
    from kdlab.benchmarking.writing import Answerer
    from kdlab.training.pair import ModelPair
    from kdlab.training.recipe import TrainConfig

KEPT = "benchmarks.json"
Metrics = dict[str, Any]
"""What a model's metrics in run.json get: "mt_bench" and "harness", and after training "pairwise" and "moved"."""
Items = dict[str, Any]
"""Item by item: of MT-Bench `scores.Ratings`, of the harness `harness_items.Items` by task."""


class Suites:
    """The benchmarks of one run; without any, `before` and `after` do nothing.

    `options` are those that decide what the run computes, `record` is the content of run.json, `say` prints a line.
    """

    def __init__(
        self,
        config: TrainConfig,
        folder: Path,
        *,
        options: Mapping[str, Any],
        device: torch.device,
        record: dict[str, Any],
        say: Callable[[str], None],
    ) -> None:
        self.config, self.folder, self.options, self.device = config, folder, options, device
        self.record, self.say = record, say
        self.wanted = config.benchmark.mt_bench is not None or config.benchmark.harness is not None

    def before(self, pair: ModelPair, tokenizer: Any) -> None:
        """Ask the teacher, where it is a model here, and the student as it is; both into the record."""
        if not self.wanted:
            return
        student = self._student(pair, tokenizer)
        self._kept = self._measure_before(student, self._teacher(pair))
        if self._bench is not None:
            if "pairwise" in self._bench.config.modes:  # where they are gone, only this model can give them again
                self._answers = self._bench.answer("before", self._answerer(student))
            self._bench.dismiss()
        self.record["benchmarks"] = self._kept["about"]
        self.record["files"]["benchmarks"] = KEPT
        self._enter("teacher", self._kept["teacher"])
        self._enter("before", self._kept["before"])

    def after(self, pair: ModelPair, tokenizer: Any) -> None:
        """Ask the student with the weights that it ends with, and compare its answers with those from before."""
        if not self.wanted:
            return
        began = time.perf_counter()
        if self._bench is not None:
            self._bench.same_judge(self._kept["about"]["mt_bench"])
        model = self._student(pair, tokenizer)
        found, items = self._measure("after", model)
        found["moved"] = self._moved(items)
        if self._bench is not None and "pairwise" in self._bench.config.modes:
            found["pairwise"] = self._bench.compare(self._answers, self._bench.answer("after", self._answerer(model)))
        self.record["benchmarks"]["seconds"]["after"] = time.perf_counter() - began
        self._enter("after", found)

    def _moved(self, items: Items) -> Metrics:
        """How far each measure moved over the same items."""
        found: Metrics = {}
        if self._bench is not None and "mt_bench" in items:
            found["mt_bench"] = scores.moved(
                self._bench.bench.questions, self._kept["items"]["mt_bench"], items["mt_bench"]
            )
        if "harness" in items:
            before = self._kept["items"]["harness"]
            found["harness"] = harness_items.moved(before, items["harness"])
            for task in harness_items.otherwise(before, items["harness"]):
                self.say(f"lm-evaluation-harness: {task} does not ask what it asked before training; no difference")
        return found

    def _measure_before(self, student: Asked, teacher: Asked | None) -> dict[str, Any]:
        """What is kept of an earlier process, where it asked the same of the same models; else measured and kept."""
        benchmark = self.config.benchmark
        mt_bench = None if self._bench is None else self._bench.depends()
        harness = None if benchmark.harness is None else asdict(benchmark.harness)
        key = key_of(student.identity, None if teacher is None else teacher.identity, mt_bench, harness)
        path = self.folder / KEPT
        kept = read_json(path)
        if isinstance(kept, dict) and kept.get("key") == key and kept.pop("sum", None) == key_of(kept):
            return self._at_prices_of_now(kept)
        if path.is_file():
            but = "" if mt_bench is None else ", but for the answers and judgements that MT-Bench has kept"
            self.say(f"{path}: of other options, damaged or edited; measured again{but}")
        began = time.perf_counter()
        of_teacher = {} if teacher is None else self._measure("teacher", teacher)[0]
        of_student, items = self._measure("before", student)
        about: dict[str, Any] = {"seconds": {"before": time.perf_counter() - began}}
        if self._bench is not None:
            about["mt_bench"] = self._bench.about()
        if benchmark.harness is not None:
            about["harness"] = self._harness.about
        kept = {"key": key, "teacher": of_teacher, "before": of_student, "items": items, "about": about}
        write_json(path, kept | {"sum": key_of(kept)})
        return kept

    def _at_prices_of_now(self, kept: dict[str, Any]) -> dict[str, Any]:
        """Prices change no number but the cost, and are no part of the key."""
        for found in (kept["teacher"], kept["before"]):
            if self._bench is not None and "mt_bench" in found:
                found["mt_bench"] = self._bench.priced(found["mt_bench"])
        return kept

    def _measure(self, stage: str, asked: Asked) -> tuple[Metrics, Items]:
        """All benchmarks of one model, and its items. The random state is as it was after it."""
        found: Metrics = {}
        items: Items = {}
        mt_bench, harness = self.config.benchmark.mt_bench, self.config.benchmark.harness
        others = stage != "teacher"
        saved = state()
        seed_all(0)
        try:
            if mt_bench is not None and self._bench is not None and (others or mt_bench.teacher):
                if others or "single" in mt_bench.modes:
                    given = self._bench.answer(stage, self._answerer(asked))
                if "single" in mt_bench.modes:
                    found["mt_bench"] = self._bench.rate(stage, given)
                    items["mt_bench"] = self._bench.ratings(stage, given)
            if harness is not None and (others or harness.teacher):
                self.say(f"lm-evaluation-harness, {stage}: {', '.join(harness.tasks)}")
                found["harness"] = self._harness.run(asked.model, asked.tokenizer)
                items["harness"] = self._harness.items
        finally:
            restore(saved)
        return found, items

    @cached_property
    def _bench(self) -> MTBench | None:
        from kdlab.benchmarking.mt_bench import FOLDER, MTBench

        config = self.config.benchmark.mt_bench
        if config is None:
            return None
        return MTBench(config, self.folder / FOLDER, device=self.device, progress=self.config.trainer.progress)

    @cached_property
    def _harness(self) -> Harness:
        from kdlab.benchmarking.harness import Harness

        assert self.config.benchmark.harness is not None
        return Harness(self.config.benchmark.harness)

    def _student(self, pair: ModelPair, tokenizer: Any) -> Asked:
        """The student as it is now: what a run trains, on top of what its options fix."""
        model = pair.split.model
        trained = tensors_hash((name, weight) for name, weight in model.named_parameters() if weight.requires_grad)
        return Asked(
            model=model, tokenizer=tokenizer, identity=key_of(dict(self.options), trained), template=self._template
        )

    def _teacher(self, pair: ModelPair) -> Asked | None:
        teacher = pair.teacher
        if teacher is None or teacher.model is None:
            return None
        template = None if self.config.loss.pairing == "cross" else self._template
        return Asked(
            model=teacher.model, tokenizer=teacher.tokenizer, identity=str(teacher.identity), template=template
        )

    @cached_property
    def _template(self) -> str | None:
        path = self.config.dataset.template
        return None if path is None else read_template(path)

    def _answerer(self, asked: Asked) -> Answerer:
        from kdlab.benchmarking.writing import Answerer

        return Answerer(
            asked.model, asked.tokenizer, identity=asked.identity, template=asked.template, device=self.device
        )

    def _enter(self, stage: str, found: Metrics) -> None:
        """Into the record, and in words."""
        if found:
            self.record["metrics"][stage] = (self.record["metrics"][stage] or {}) | found
        for line in told_lines(stage, found):
            self.say(line)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A model that is asked, the tokenizer that it reads with, what names its weights, and a chat template in place of
    the tokenizer's own."""

    model: Any
    tokenizer: Any
    identity: str
    template: str | None
