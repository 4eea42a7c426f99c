"""`check_run`: everything that can be known of a run before it begins.

findings = check_run(config, overrides=["experiment=smoke"], output_dir=Path("multirun/smoke/default"))
findings.status, findings.as_dict()
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from kdlab.preflight.benchmark_lines import say_benchmarks
from kdlab.preflight.benchmarks import Suites
from kdlab.preflight.class_lines import build_classes, say_classes
from kdlab.preflight.data_lines import build_data
from kdlab.preflight.disk_lines import say_disk
from kdlab.preflight.findings import Findings, Section, size
from kdlab.preflight.machine import Room, host, resident, room
from kdlab.preflight.memory import CONTEXT, Memory, predict
from kdlab.preflight.memory_lines import autocast_of, say_memory
from kdlab.preflight.model_lines import say_limits, say_models
from kdlab.preflight.sketch import Sketches, sketch
from kdlab.preflight.time_lines import say_time
from kdlab.preflight.tokenizers import say_tokenizers
from kdlab.preflight.workload import Workload
from kdlab.training.device import choose_device, quiet_libraries

if TYPE_CHECKING:
    from kdlab.data.labelled.rows import Labelled
    from kdlab.training.recipe import TrainConfig

OURS = (ValueError, FileNotFoundError)
"""What a run is refused with, in one line with its remedy."""


def check_run(
    config: TrainConfig,
    *,
    overrides: list[str],
    output_dir: Path,
    memory_bytes: int | None = None,
    probe: bool = True,
) -> Findings:
    """Would this run fit and work? Models are built without weights, the dataset as the run builds it.

    `memory_bytes` is the memory of the device to assume (None: that of the one here); without `probe` nothing is timed.
    Raises nothing that a run would be refused with: that is a finding.
    """
    import kdlab.training.session  # noqa: F401  what a run imports is part of its memory

    findings = Findings(name=config.name, overrides=list(overrides))
    with quiet_libraries():
        _Check(findings, config).run(output_dir, memory_bytes=memory_bytes, probe=probe)
    return findings


class _Check:
    """The sections, one after the other."""

    def __init__(self, findings: Findings, config: TrainConfig) -> None:
        self.findings, self.config = findings, config
        self.labelled: Labelled | None = None

    def run(self, output_dir: Path, *, memory_bytes: int | None, probe: bool) -> None:
        config = self.config
        if config.dataset.labels is not None:
            self.labelled = self.attempt("classes", lambda section: say_classes(section, config.dataset))
            if self.labelled is None:
                self.unchecked("models, data, memory, time and disk: they need the classes")
                return
            self.note("classes", self.labelled.as_dict())
        found = self.attempt("models", self.models)
        if found is None:
            self.unchecked("tokenizers, data, memory, time and disk: they need the models")
            return
        device, models = found
        self.note("tokenizers", self.attempt("tokenizers", lambda section: say_tokenizers(section, config, models)))
        work = self.attempt("data", lambda section: self.data(section, models))
        suites = self.suites(models, device)
        if work is None:
            self.unchecked("memory and time: they need the data")
        else:
            base = resident()  # libraries, tokenizers and data are there by now, and no weights
            memory = self.attempt(
                "memory", lambda section: self.memory(section, models, work, device, base, memory_bytes)
            )
            if probe and memory is not None:
                self.note(
                    "time",
                    self.attempt(
                        "time", lambda section: say_time(section, config, models, work, device, memory, suites)
                    ),
                )
        self.note("disk", self.attempt("disk", lambda section: say_disk(section, config, models, output_dir)))

    def attempt(self, title: str, work: Callable[[Section], Any]) -> Any:
        """What `work` gives for a new section; None, and a line, where a run would be refused there."""
        section = self.findings.section(title)
        try:
            return work(section)
        except OURS as error:
            section.say("failure", str(error))
            return None

    def note(self, title: str, numbers: dict[str, Any] | None) -> None:
        if numbers is not None:
            self.findings.numbers[title] = numbers

    def unchecked(self, what: str) -> None:
        self.findings.section("not checked").say("unknown", what)

    def models(self, section: Section) -> tuple[torch.device, Sketches]:
        """Both models, and where they would be; on the host where the device asked for is not here."""
        config = self.config
        try:
            device = choose_device(config.trainer)
        except ValueError as error:
            section.say("failure", str(error))
            device = torch.device("cpu")
        models = sketch(config, device, task=None if self.labelled is None else self.labelled.task)
        self.note("models", say_models(section, models))
        say_limits(section, config, models, device)
        return device, models

    def data(self, section: Section, models: Sketches) -> Workload:
        if self.labelled is None:
            work, numbers = build_data(section, self.config, models)
        else:
            work, numbers = build_classes(section, self.config, models, self.labelled)
        self.note("data", numbers)
        return work

    def suites(self, models: Sketches, device: torch.device) -> Suites | None:
        """The benchmarks of others, where some are asked for."""
        benchmark = self.config.benchmark
        if benchmark.mt_bench is None and benchmark.harness is None:
            return None
        found: Suites | None = self.attempt(
            "benchmarks", lambda section: say_benchmarks(section, self.config, models, device)
        )
        self.note("benchmarks", None if found is None else found.as_dict())
        return found

    def memory(
        self,
        section: Section,
        models: Sketches,
        work: Workload,
        device: torch.device,
        base: int,
        memory_bytes: int | None,
    ) -> Memory:
        on_gpu = device.type == "cuda"
        held = CONTEXT if on_gpu else base
        autocast = autocast_of(self.config, device)
        memory = predict(self.config, models, work, device=device, autocast=autocast, base=held)
        there = room(device)
        if memory_bytes is not None:
            there = Room(total=memory_bytes, free=None, where="the device assumed")
        say_memory(section, memory, there)
        self.note("memory", {**memory.as_dict(), "total_bytes": there.total, "device": device.type})
        if on_gpu:
            sides = [side for side in (models.student, models.teacher) if side is not None]
            needed, total = base + max(side.size.bytes for side in sides), host().total
            if needed > total:
                section.say("failure", f"the host needs {size(needed)} to read the models, and has {size(total)}")
        return memory
