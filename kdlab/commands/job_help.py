"""The help page of the verbs that take options: groups, their options, the most used with their defaults."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import yaml

from kdlab.commands.flags import FLAGS, TELLS
from kdlab.config.options import POLYMORPHIC, ROOTS, conf_dir, default, group_files, hints, section_of

OPTIONS = {
    "name": "the folder of the run below multirun/",
    "seed": "of everything random",
    "model.path": "hub id, folder (such as model/ of a run) or GGUF file",
    "rules": "how a number is found in an answer: boxed_last or s1",
    "keep": "all answers, or those that come to the reference's number: correct",
    "teacher.path": "hub id, folder or GGUF file",
    "student.path": "the same for a student that exists",
    "student.from_teacher.layers": "student=cut: how many layers, or which: [0,8,16]",
    "student.lora.r": "train low-rank adapters of this rank only",
    "loss.temperature": "softens teacher and student",
    "loss.hard_weight": "share of the cross-entropy to the labels, 0 to 1",
    "dataset.path": "hub id, file, glob or folder",
    "dataset.max_length": "tokens of an example",
    "dataset.num_samples": "the first so many rows; null: all",
    "dataset.labels.column": "what is decided about a whole text; unset: the text itself is learnt",
    "dataset.fold": "of dataset.folds, held out; a sweep: 'range(0,10)'",
    "dataset.test_split": "judged by at the end alone",
    "strict": "text that leaks between the parts ends with an error",
    "variants": "what is written and verified",
    "processor": "whose 8-bit products",
    "agreement": "how often a variant must decide as the original",
    "run": "the folder of a run",
    "repo": "user/name on the hub",
    "export": "a folder of `kdlab export`, whose good variants go too",
    "licence": "of the result; null: the base model's",
    "fold": "{fold} of the stages' options",
    "options": "those that all stages share",
    "dry_run": "show what would be done, and do nothing",
    "writing.draws": "drawn texts a question; 0: one, the most likely",
    "writing.temperature": "of drawn texts",
    "writing.examples": "the first so many questions; null: all",
    "writing.max_new_tokens": "where a text is stopped",
    "writing.batch_size": "texts at a time",
    "optimizer.lr": "learning rate",
    "scheduler.warmup_ratio": "share of the steps",
    "trainer.max_steps": "optimiser steps; null: max_epochs decides",
    "trainer.max_epochs": "passes over the data",
    "trainer.batch_size": "examples of a micro-batch",
    "trainer.accumulate": "micro-batches of a step",
    "trainer.precision": "of the student",
    "trainer.accelerator": "where it runs",
    "trainer.evaluate_every": "steps; null: at the end of an epoch",
    "trainer.loggers": "besides metrics.csv",
    "benchmark.tokens": "held-out tokens measured; null: all",
}


def help_text(verb: str, config_dir: str | None = None) -> str:
    """The whole page of `verb`, with the options of the user's own `config_dir`."""
    folders = [conf_dir(), *([Path(config_dir).expanduser()] if config_dir else [])]
    told = TELLS.get(verb, verb)
    chosen = choices(told)
    lines = [f"usage: kdlab {verb} [flags] [group=option] [key=value] ...", "", "flags:"]
    lines += [f"  {flag:<24}{what}" for flag, what in FLAGS[verb].items()]
    lines += ["", "groups (* unless you choose another):"]
    for group, options in group_files(*folders, verb=told).items():
        if group not in chosen:
            continue
        marked = ", ".join(f"{option}*" if chosen.get(group) == option else option for option in options)
        lines += textwrap.wrap(marked, 110, initial_indent=f"  {group:<14}", subsequent_indent=" " * 16)
    lines += ["", f"options most used (`kdlab {told} --show` prints all, with every default):"]
    for key, what in OPTIONS.items():
        if key.split(".")[0] in hints(ROOTS[told]):
            lines.append(f"  {f'{key}={shown(default_of(told, key, chosen))}':<36}{what}")
    lines += ["", "examples:"]
    lines += [f"  {line.strip()}" for line in EXAMPLES[verb].strip().splitlines()]
    return "\n".join(lines)


EXAMPLES = {
    "train": """
kdlab train experiment=quickstart
kdlab train teacher=gpt2_xl student=gpt2 loss=reverse_kl loss.temperature=2 dataset=dolly
kdlab train -m experiment=smoke loss=forward_kl,reverse_kl seed=0,1
""",
    "cache": """
kdlab cache experiment=quickstart codec=topk codec.k=64
kdlab cache teacher=openai teacher.server.url=http://localhost:8000/v1 teacher.path=gpt2 codec=topk codec.k=20
kdlab cache verify multirun/quickstart/signals/default
""",
    "generate": """
kdlab generate model.path=HuggingFaceTB/SmolLM2-135M-Instruct dataset=gsm8k keep=correct
kdlab generate model.path=gpt2 dataset.path=questions.jsonl writing=sampled writing.draws=8
""",
    "evaluate": """
kdlab evaluate model.path=multirun/gsm8k/default/model dataset.split=test rules=boxed_last
kdlab evaluate -m model.path=gpt2,gpt2-medium writing=greedy,sampled
""",
    "prepare": """
kdlab prepare dataset=helpsteer2 dataset.fold=0
kdlab prepare dataset=local dataset.path=ratings.jsonl dataset.labels.column=stars 'dataset.labels.bins=[2,4]'
""",
    "export": """
kdlab export model.path=multirun/student/default/model dataset=helpsteer2 'variants=[onnx,onnx_int8]'
kdlab export model.path=multirun/quickstart/default/model 'variants=[onnx_w8]' processor=avx512_vnni
""",
    "publish": """
kdlab publish run=multirun/student/default repo=me/student
HF_TOKEN=... kdlab publish run=multirun/student/default repo=me/student export=multirun/export/default dry_run=false
""",
    "pipeline": """
kdlab pipeline experiment=helpsteer2 --dry-run
kdlab pipeline -m experiment=helpsteer2 'fold=range(0,10)'
kdlab pipeline experiment=helpsteer2 fold=3 stages.publish.enabled=true values.repo=me/student
""",
    "check": """
kdlab check experiment=quickstart
kdlab check experiment=helpsteer2_teacher --memory 24
kdlab check teacher=gpt2_xl student=gpt2 dataset=dolly trainer.batch_size=4
kdlab check experiment=quickstart --memory 8 --json check.json
""",
}


def choices(verb: str) -> dict[str, str]:
    """The option of each group that the primary file of a verb chooses."""
    listed = yaml.safe_load((conf_dir() / f"{verb}.yaml").read_text(encoding="utf-8"))
    pairs = [item for item in listed["defaults"] if isinstance(item, dict)]
    return {group: option for item in pairs for group, option in item.items() if not group.startswith("override")}


def default_of(verb: str, key: str, chosen: dict[str, str]) -> Any:
    """The default of an option in its dataclass."""
    section = ROOTS[verb]
    *groups, name = key.split(".")
    for group in groups:
        table = POLYMORPHIC.get(group, {})
        section = table.get(chosen.get(group, "")) or section_of(hints(section)[group]) or section
    return default(section, name)


def shown(value: Any) -> str:
    """A default as the user would type it."""
    if value is None:
        return "null"
    if isinstance(value, list):
        return f"[{','.join(shown(entry) for entry in value)}]"
    return str(value).lower() if isinstance(value, bool) else str(value)
