"""One process's work on a run: load, measure before, train, measure after, save."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from kdlab.data.dataset import build
from kdlab.data.labelled.build import build_labelled
from kdlab.data.labelled.rows import read_labelled
from kdlab.data.labels import FOLDS
from kdlab.durable import disk_is_full
from kdlab.losses import loss_name
from kdlab.teachers.cached import CachedTeacher
from kdlab.text.templates import read_template
from kdlab.training import answers, before, trainer
from kdlab.training.after import measure_after
from kdlab.training.callbacks.checkpoint import BEST, find_checkpoint, read_checkpoint
from kdlab.training.callbacks.fold import FoldCallback
from kdlab.training.callbacks.random_state import seed_all
from kdlab.training.callbacks.suites import Suites
from kdlab.training.data import DistillData
from kdlab.training.deciding import deciding, described, reading_sides, seen_lines
from kdlab.training.device import choose_device, quiet_libraries
from kdlab.training.loaded import Loaded
from kdlab.training.lookup import refuse_missing
from kdlab.training.manifest import Manifest, describe, describe_device, forget_peak, peak_memory
from kdlab.training.metrics_file import MetricsFile
from kdlab.training.models import heldout_judge, load_models, refuse_other, sides
from kdlab.training.module import Distiller, inner_layers
from kdlab.training.options import binding, refuse_changes
from kdlab.training.pair import pair_up
from kdlab.training.ranks import rank
from kdlab.training.remembered import remembering
from kdlab.training.saving import save_model, save_projections
from kdlab.training.stopping import NotFinite, RunFailed
from kdlab.training.summary import heldout_line, stream_line

if TYPE_CHECKING:
    from kdlab.training.recipe import TrainConfig


class Session:
    """`run()` does everything once; `began` is True from the moment that run.json is ours.

    `started` is when the work began, by `time.perf_counter`.
    """

    def __init__(
        self, config: TrainConfig, *, output_dir: Path, resolved: dict[str, Any], manifest: Manifest, started: float
    ) -> None:
        self.config, self.output_dir, self.resolved, self.manifest = config, output_dir, resolved, manifest
        self.record = manifest.content
        self.rank = rank(config.trainer.devices)
        self.began = False
        self._started = started
        self._earlier_seconds = float(manifest.earlier.get("seconds", {}).get("total", 0.0))

    def run(self) -> dict[str, Any]:
        with quiet_libraries():
            return self._run()

    def _run(self) -> dict[str, Any]:
        config = self.config
        if config.trainer.threads is not None:
            torch.set_num_threads(config.trainer.threads)
        self.device = choose_device(config.trainer)
        forget_peak(self.device)
        self.options = binding(self.resolved)
        self.found = find_checkpoint(self.output_dir / "checkpoints", options=self.options)
        if self.found is not None:
            self.manifest.carry_over()
        self.record["hardware"] |= describe_device(self.device)
        self.record["loss"] = self.record["loss"] | {"name": loss_name(config.loss)}
        if self.found is not None:
            self.record["resumed"] += 1
            self.say(f"continuing from {self.found[0]}, step {self.found[1]['kdlab']['step']}")
        self.began = True
        self.write()
        self.suites = Suites(
            config, self.output_dir, options=self.options, device=self.device, record=self.record, say=self.say
        )
        loaded = self.load()
        # Ranks above 0 train, and leave measuring and writing to the first.
        measured = self.measure_before(loaded) if self.rank == 0 else None
        module, callbacks = self.fit(loaded, measured)
        if self.rank == 0:
            assert measured is not None
            self.finish(loaded, measured, module, callbacks)
        return self.record

    def load(self) -> Loaded:
        """Models and data, and how many steps they make."""
        config = self.config
        labelled = None if config.dataset.labels is None else read_labelled(config.dataset)
        teacher, student = load_models(config, device=self.device, task=labelled.task if labelled else None)
        if self.found is not None:
            refuse_other(teacher, self.found[1]["kdlab"].get("teacher"), config, where=self.output_dir)
        if teacher is not None and teacher.model is None:
            self.say(f"teacher: {teacher.description}; it is no model here: its own texts and speed are left out")
        template = None if config.dataset.template is None else read_template(config.dataset.template)
        pair = replace(pair_up(config.loss, student, teacher, template=template), judge=heldout_judge(config, teacher))
        inner = inner_layers(config, pair)  # before the data: a layer that is not there is refused at once
        if labelled is None:
            data = build(config.dataset, *sides(config, teacher, student), prompt=config.prompt)
        else:
            data = build_labelled(labelled, *reading_sides(teacher, student))
            pair = replace(pair, deciding=deciding(data))
        self.say(str(data.verdict))
        if isinstance(teacher, CachedTeacher):
            refuse_missing(teacher, pair.judge, config, data, student.tokenizer)
        module = DistillData(config, data, pad_id=_pad_id(student.tokenizer))
        fold = None if labelled is None else FoldCallback(data, self.output_dir if self.rank == 0 else None)
        if labelled is not None and fold is not None:
            self.say("\n".join([str(labelled), *seen_lines(config, labelled)]))
            fold.apply(module)  # at once: the models are measured on its rows before Lightning begins
            self.record["files"]["folds"] = FOLDS
        steps_per_epoch = len(module.loader(rank=0, world=config.trainer.devices))
        total_steps = config.trainer.max_steps or config.trainer.max_epochs * steps_per_epoch
        if self.found is not None:
            was = {f"dataset ({split})": found for split, found in self.found[1]["kdlab"]["data"].items()}
            now = {f"dataset ({split})": found for split, found in module.hashes.items()}
            refuse_changes(was, now, what="the checkpoint", where=str(self.output_dir))
            module.counted = self.found[1]["kdlab"]["stream"] or {}
        self.record["data"] = data.verdict.as_dict() | ({} if labelled is None else described(config, labelled))
        if module.stream_counts is not None:
            self.record["data"]["stream"] = module.stream_counts
        self.record["models"] = models = describe(teacher, student)
        if models["teacher"] is not None and models["teacher"]["parameters"] is not None:
            self.record["compression_ratio"] = models["teacher"]["parameters"] / models["student"]["parameters"]
        self.record["seconds"]["load"] = time.perf_counter() - self._started
        self.write()
        return Loaded(
            pair=pair,
            inner=inner,
            tokenizer=student.tokenizer,
            data=module,
            fold=fold,
            steps_per_epoch=steps_per_epoch,
            total_steps=total_steps,
        )

    def measure_before(self, loaded: Loaded) -> before.Before:
        """Teacher and untrained student, measured once a run and kept."""
        key = {
            "options": self.options,
            "benchmark": self.resolved["benchmark"],
            "data": loaded.data.hashes,
            "teacher": loaded.teacher_identity,
            "judge": None if loaded.pair.judge is None else loaded.pair.judge.identity,
        }
        measured = before.measure(
            self.config.benchmark,
            loaded.pair,
            loaded.tokenizer,
            loaded.data,
            loss=self.config.loss,
            device=self.device,
            path=self.output_dir / "before.json",
            key=hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest(),
        )
        self.record["metrics"] |= {"teacher": measured.teacher, "before": measured.student}
        self.record["tokens"]["heldout"] = measured.student["tokens"]
        self.record["samples"] = [dict(sample) for sample in measured.samples]
        self.record["seconds"]["evaluate"] = measured.seconds
        self.write()
        self.say(heldout_line("before", measured.student))
        before.refuse_cut_mass(self.config.loss, measured)
        self.suites.before(loaded.pair, loaded.tokenizer)
        self.write()
        return measured

    def fit(self, loaded: Loaded, measured: before.Before | None) -> tuple[Distiller, trainer.Callbacks]:
        """Train to the last step, unless the checkpoint is of that step already."""
        config = self.config
        pair = remembering(config, loaded, self.output_dir, device=self.device)
        module = Distiller(config, pair, inner=loaded.inner, total_steps=loaded.total_steps)
        step = self.found[1]["kdlab"]["step"] if self.found else -1
        file = MetricsFile(self.output_dir / "metrics.csv", step=step) if self.rank == 0 else None
        try:
            callbacks = trainer.build_callbacks(
                config,
                loaded,
                file,
                folder=self.output_dir / "checkpoints",
                options=self.options,
                manifest=self.manifest if self.rank == 0 else None,
            )
            if self.found is None and measured is not None:
                callbacks.metrics.heldout(0, measured.student, measured.heldout_seconds)
            if self.found is not None and self.found[1]["kdlab"]["complete"]:
                trainer.restore(module, callbacks, self.found[1], everything=True)
            else:
                self.train(loaded, module, callbacks)
        finally:
            if file is not None:
                file.close()
        return module, callbacks

    def train(self, loaded: Loaded, module: Distiller, callbacks: trainer.Callbacks) -> None:
        config = self.config
        self.say(f"training: {loaded.total_steps} steps, {loaded.steps_per_epoch} an epoch, on {self.device}")
        seed_all(config.seed + self.rank)
        try:
            trainer.fit(
                config,
                module,
                loaded.data,
                callbacks,
                output_dir=self.output_dir,
                resolved=self.resolved,
                device=self.device,
                found=self.found,
            )
        except NotFinite as error:
            raise RunFailed(
                f"{error}; {callbacks.checkpoints.last_good()}. "
                "Lower optimizer.lr, lengthen the warm-up or use trainer.precision=32"
            ) from error

    def finish(self, loaded: Loaded, measured: before.Before, module: Distiller, callbacks: trainer.Callbacks) -> None:
        """Choose the weights, measure them, save them, close run.json."""
        config, record, benchmark = self.config, self.record, callbacks.benchmark
        module.to(self.device)
        if config.trainer.checkpoint.final == "best" and benchmark.best_step != benchmark.latest_step:
            best = read_checkpoint(self.output_dir / "checkpoints" / BEST)
            trainer.restore(module, callbacks, best, everything=False)
            benchmark.latest = benchmark.best
        if callbacks.ema is not None:
            callbacks.ema.copy_to(module.student)
        callbacks.manifest.note(module, step=callbacks.checkpoints.last_step, evaluated_before=measured.seconds)
        after, written = measure_after(
            config.benchmark, loaded.pair, loaded.tokenizer, loaded.data, measured, device=self.device
        )
        record["metrics"]["after"] |= after
        record["samples"] = [
            {**sample, "after": after} for sample, after in zip(measured.samples, written, strict=True)
        ]
        self.answer(loaded, measured)
        self.say(heldout_line("after", record["metrics"]["after"]))
        if loaded.data.stream_counts:
            self.say(stream_line(loaded.data.stream_counts))
        try:
            task = None if loaded.pair.deciding is None else loaded.pair.deciding.task
            saved = save_model(loaded.pair.split.model, loaded.tokenizer, self.output_dir, task)
            record["models"]["student"]["disk_bytes"] = saved
            if (self.output_dir / "adapter").is_dir():
                record["files"]["adapter"] = "adapter/"
            projections = save_projections(module.inner, self.output_dir)
            if projections is not None:
                record["files"]["projections"] = projections
        except OSError as error:
            raise RunFailed(
                f"{self.output_dir / 'model'}: could not be written ({error.strerror or error}); "
                f"{callbacks.checkpoints.last_good()}. "
                f"{'Make room and rerun' if disk_is_full(error) else 'Rerun'} the same command"
            ) from error
        self.suites.after(loaded.pair, loaded.tokenizer)  # the model is safe by now, should a judge be away
        self.write(finished="stopped_early" if benchmark.stopped else "finished")
        self.say(f"{record['status'].replace('_', ' ')} after {record['steps']} steps: {self.output_dir / 'model'}")

    def answer(self, loaded: Loaded, measured: before.Before) -> None:
        """The student's answers after training, judged and kept beside those from before (`benchmark.generation`)."""
        config = self.config.benchmark.generation
        if config is None or measured.answers is None:
            return
        asked = answers.questions(loaded.data.data.heldout, loaded.tokenizer, examples=config.examples)
        ids = [question.prompt for question in asked]
        written = answers.write(config, loaded.pair.split.model, loaded.tokenizer, ids, device=self.device)
        self.record["metrics"]["after"]["generation"] = answers.judge(config, measured.answers, "after", written)
        self.record["files"]["generations"] = answers.GENERATIONS
        answers.keep(measured.answers, self.output_dir)

    def write(self, *, finished: str | None = None) -> None:
        """run.json as things stand."""
        if self.rank > 0:
            return
        self.record["seconds"]["total"] = self._earlier_seconds + time.perf_counter() - self._started
        self.record["peak_memory_bytes"] = peak_memory(self.device)
        if finished is None:
            self.manifest.write()
        else:
            self.manifest.finish(finished)

    def say(self, text: str) -> None:
        if self.rank == 0:
            print(text, flush=True)


def _pad_id(tokenizer: Any) -> int:
    found = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    return int(found or 0)
