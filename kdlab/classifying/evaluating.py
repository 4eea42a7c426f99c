"""`kdlab evaluate` of a classifier: its decisions about the test rows, and what they are worth.

    evaluate_classifier(config, output_dir=Path("multirun/evaluate/..."), resolved=..., overrides=[])

The model is any that `open_variant` opens: a folder of transformers, an adapter, a variant that `kdlab export` wrote.
It leaves decisions.jsonl and evaluation.json, which `kdlab report` compares with others over the same rows.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdlab.answering.answers_file import Answer, AnswersFile
from kdlab.answering.record import Record
from kdlab.classifying.deciding import (
    DECISIONS,
    Asked,
    decide_missing,
    drawn,
    fingerprint,
    measured,
    single_rows,
    text_hash,
)
from kdlab.classifying.telling import told
from kdlab.data.labelled.seen import said_seen, seen_by
from kdlab.durable import FolderLock, disk_is_full
from kdlab.models.progress import say
from kdlab.training.device import find_device, quiet_libraries
from kdlab.training.manifest import describe_device
from kdlab.training.stopping import RunFailed

if TYPE_CHECKING:
    from kdlab.answering.recipe import EvaluateConfig
    from kdlab.data.labelled.rows import Labelled
    from kdlab.exporting.variants import Variant
    from kdlab.text.task import Task

EVALUATION = "evaluation.json"


def evaluate_classifier(
    config: EvaluateConfig, *, output_dir: Path, resolved: dict[str, Any], overrides: list[str]
) -> dict[str, Any]:
    """Decide about whatever is missing in `output_dir`, tell how it went, return the content of evaluation.json.

    The same call on the same folder continues what was killed; where all is decided it loads no model. Raises
    ValueError or FileNotFoundError with one line: a model that is no classifier, or of other classes than the rows,
    a folder of other options or in use, a full disk.
    """
    resolved = json.loads(json.dumps(resolved))
    with FolderLock(output_dir):
        record = Record(output_dir / EVALUATION, verb="evaluate", resolved=resolved, overrides=overrides)
        file = AnswersFile(output_dir, name=DECISIONS)
        if record.done:
            print(f"{output_dir}: all rows are decided; delete the folder to decide again")
        else:
            if record.content["bound"] is None and file.path.exists():
                raise ValueError(f"{file.path}: {EVALUATION} beside it is gone; delete the folder to begin again")
            try:
                with quiet_libraries():
                    _Work(config, record).run(file)
            except OSError as error:
                if not disk_is_full(error):
                    raise
                raise RunFailed(f"{file.path}: {error.strerror}; make room and rerun the same command") from error
        print(told(record.content))
        print(f"decisions: {file.path}")
        return record.content


@dataclass
class _Work:
    """One process's share of a job."""

    config: EvaluateConfig
    record: Record

    def run(self, file: AnswersFile) -> None:
        config, content = self.config, self.record.content
        began = time.perf_counter()
        device = find_device(config.writing.accelerator, group="writing")
        variant = self.open(str(device))
        content["hardware"] |= describe_device(device)
        assert variant.task is not None
        labelled, task, part, asked, cut = self.rows(variant)
        print(f"{labelled}\n{len(asked):,} {part} rows are decided about", flush=True)
        self.bind(variant, asked)
        seen = {name: count for name, count in seen_by(variant.folder, labelled.parts).items() if name == part}
        notes = said_seen(seen, labelled.parts, f"model.path={config.model.path}")
        data = labelled.as_dict() | {"part": part, "cut_tokens": cut, "notes": notes}
        content |= {"answers": DECISIONS, "data": data, "questions": len(asked)}
        content["seconds"]["load"] += time.perf_counter() - began
        self.record.write()
        last = time.perf_counter()

        def after(answers: list[Answer]) -> None:
            nonlocal last
            now = time.perf_counter()
            content["seconds"]["write"] += now - last
            last = now
            content["answer_count"] += len(answers)
            self.record.write()

        decide_missing(variant, task, asked, file, batch_size=config.writing.batch_size, after=after)
        answers = file.read()
        file.replace(answers)  # in the order of rows: they were decided longest first
        content["answer_count"] = len(answers)
        content["tokens"] = {"prompt": sum(len(one.ids) for one in asked), "written": 0}
        self.conclude(variant, labelled, task, part, asked, answers)

    def open(self, device: str) -> Variant:
        """The model. Raises ValueError where it writes text."""
        from kdlab.exporting.variants import CLASSIFIER, open_variant

        asked = self.config.model
        assert asked.path is not None, "the rules of the options refuse it"
        variant = open_variant(
            asked.path, device=device, threads=self.config.writing.threads, dtype=asked.dtype, option="model.path"
        )
        if variant.kind != CLASSIFIER:
            raise ValueError(
                f"model.path={asked.path}: writes text and decides nothing; drop dataset.labels, or give a classifier"
            )
        return variant

    def rows(self, variant: Variant) -> tuple[Labelled, Task, str, list[Asked], int]:
        """The data, the model's task, which part is judged (the test rows, else the held-out ones), its rows as the
        model reads them, and how many tokens these lost.

        A model of kdlab reads them by the template and the length that it was trained with."""
        from kdlab.data.labelled.rows import read_labelled
        from kdlab.text.fields import FieldTemplate
        from kdlab.text.task import read_task

        dataset, task = self.config.dataset, variant.task
        assert task is not None
        assert dataset.labels is not None
        own = variant.folder is not None and read_task(variant.folder) is not None
        if own:
            asked_for = dataset.labels.template
            if asked_for is not None and asked_for != task.template:
                say(f"rows are read by the model's own template {task.template!r}, not by dataset.labels.template")
            dataset = replace(dataset, labels=replace(dataset.labels, template=task.template))
        labelled = read_labelled(dataset)
        task = task if own else replace(task, template=labelled.task.template)
        ids_of = same_classes(task, labelled.task, f"model.path={self.config.model.path}")
        part = "heldout" if labelled.test is None else "test"
        rows = labelled.heldout if labelled.test is None else labelled.test
        chosen = drawn(len(rows), self.config.writing.examples)
        ids, cut = FieldTemplate(task.template).encode(
            variant.tokenizer, [rows.fields[i] for i in chosen], task.max_length
        )
        asked = [
            Asked(
                row=int(rows.numbers[i]),
                question=text_hash(rows.texts[i]),
                ids=read,
                label=float(rows.labels[i]) if task.is_regression else ids_of[int(rows.labels[i])],
            )
            for i, read in zip(chosen, ids, strict=True)
        ]
        return labelled, task, part, asked, sum(cut)

    def bind(self, variant: Variant, asked: list[Asked]) -> None:
        """Describe the model in the record, which refuses another, or other rows, than the job began with."""
        identity = _identity(variant, str(self.config.model.path))
        self.record.bind(questions=fingerprint(asked), model=identity)
        self.record.content["model"] = {
            "source": f"folder {variant.folder.resolve()}" if variant.folder else self.config.model.path,
            "identity": identity,
            "variant": variant.name,
            "bytes": variant.memory_bytes,
            "disk_bytes": variant.disk_bytes,
            "tokenizer": f"{len(variant.tokenizer)} tokens",
        }

    def conclude(
        self, variant: Variant, labelled: Labelled, task: Task, part: str, asked: list[Asked], answers: list[Answer]
    ) -> None:
        found = measured(answers, task, usual=_usual(labelled, task))
        seconds = self.record.content["seconds"]["write"]
        speed = {**single_rows(variant, asked), "examples_per_second": len(answers) / seconds if seconds else None}
        judged = [one for one in answers if one["correct"] is not None]
        result = {"part": part, "rows": len(answers), "names": list(task.names), "column": task.column, **found}
        result |= {"latency": speed}
        self.record.content |= {
            "accuracy": {
                "correct": sum(one["correct"] for one in judged),
                "count": len(judged),
                "unresolved": 0,
                "manual": 0,
            },
            "classification": None if task.is_regression else result,
            "regression": result if task.is_regression else None,
            "left_out": 0,
            "rules": None,
            "by_rule": {},
            "manual": None,
        }
        self.record.finish()


def same_classes(model: Task, rows: Task, named: str) -> list[int]:
    """The model's id of each class of the rows, by name. Raises ValueError where the two do not decide the same."""
    if model.kind != rows.kind:
        want = "dataset.labels.regression=true" if model.is_regression else "dataset.labels.regression=false"
        raise ValueError(f"{named}: its task is {model.kind}, but that of the rows {rows.kind}; write {want}")
    if model.is_regression:
        return [0]
    if set(model.names) != set(rows.names):
        raise ValueError(
            f"{named}: decides between {_listed(model.names)}, but dataset.labels makes {_listed(rows.names)}; set "
            "dataset.labels.names and dataset.labels.bins as it was trained with"
        )
    return [model.names.index(name) for name in rows.names]


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def _usual(labelled: Labelled, task: Task) -> float | None:
    """What the training rows say most often: the model's id of their commonest class, or their mean."""
    majority = labelled.majority
    return float(labelled.train.labels.mean()) if majority is None else task.names.index(majority["class"])


def _identity(variant: Variant, path: str) -> str:
    """The hash of what decides: of the weights, and of the files of a variant."""
    import hashlib

    from kdlab.models.source import resolve
    from kdlab.models.weights_hash import file_hash, source_hash

    patterns = ("*.onnx", "*.onnx_data", "*.onnx.data", "*.gguf", "variant.json")
    files = [] if variant.folder is None else [file for like in patterns for file in sorted(variant.folder.glob(like))]
    if not files:
        return source_hash(resolve(path if variant.folder is None else str(variant.folder), option="model.path"))
    files += sorted(variant.folder.glob("*.safetensors")) if variant.folder is not None else []
    return hashlib.sha256("".join(map(file_hash, files)).encode()).hexdigest()
