"""Where a published model comes from: recipe, data, licences, machine; sections of its card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kdlab.publishing.figures import NONE, plain, size
from kdlab.publishing.licences import Licence
from kdlab.publishing.markdown import short, short_path, table
from kdlab.publishing.records import Records, Told
from kdlab.text.task import Task
from kdlab.training.options import flatten


def recipe(records: Records) -> str:
    run = records.run
    config, rows = run.record["config"], list[list[str]]()
    loss = run.value("loss") or config["loss"]
    if loss.get("name"):
        rows.append(["loss", str(loss["name"])])
    for option, title in (("temperature", "temperature T"), ("hard_weight", "weight of the labels")):
        if run.taught and loss.get(option) is not None:
            rows.append([title, str(loss[option])])
    rows += [[f"inner.{name}", _options(term)] for name, term in (config.get("inner") or {}).items() if term]
    lora = config["student"].get("lora")
    rows += [["LoRA", _options(lora)]] if lora else []
    rows += [["student before training", short(run.text("models", "student", "source"))]]
    if config["teacher"]["source"] != "none":
        how = config["quantization"]["kind"]
        held = f" ({how})" if how != "none" else ""
        role = "teacher" if run.taught else "measured beside it, taught nothing"
        rows.append([role, f"{short(run.text('models', 'teacher', 'source'))}{held}"])
    rows += [["optimiser", _options(config["optimizer"])], ["schedule", _options(config["scheduler"])]]
    trainer = config["trainer"]
    batch = f"{trainer['batch_size']} examples × {trainer['accumulate']} × {trainer['devices']} devices"
    rows.append(["one step", batch])
    rows.append(["steps", f"{run.text('steps')} ({plain(run.number('epochs'), 3)} epochs)"])
    rows.append(["precision", str(trainer["precision"])])
    rows.append(["seeds", ", ".join(dict.fromkeys(seed.text("seeds", "seed") for seed in records.seeds))])
    return f"## Recipe\n\n{table(['', ''], rows)}\n\nEvery option is in `run.json`."


def _options(group: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in flatten(group).items() if value is not None)


def data(run: Told, task: Task | None) -> str:
    config, rows = run.record["config"]["dataset"], list[list[str]]()
    rows.append(
        ["source", ", ".join(str(v) for v in (short_path(config["path"]), config["subset"], config["revision"]) if v)]
    )
    counts = run.value("data", "classes", "counts")
    if isinstance(counts, Mapping):
        for part, each in counts.items():
            if isinstance(each, Mapping):
                shown = ", ".join(f"{name} {count:,}" for name, count in each.items()) if len(each) <= 12 else ""
                rows.append([f"{part} rows", f"{sum(each.values()):,}" + (f" ({shown})" if shown else "")])
    else:
        for part in ("train", "heldout"):
            examples = run.number("data", part, "examples")
            if examples is not None:
                rows.append([f"{part} examples", f"{int(examples):,}"])
    if task is not None:
        rows.append(["decided about", f"{task.column}" + ("" if task.is_regression else f": {', '.join(task.names)}")])
    folds = run.value("data", "folds")
    if isinstance(folds, Mapping) and folds.get("fold") is not None:
        by = f", by {folds['by']}" + (f" over {folds['group']}" if folds.get("group") else "")
        rows.append(["fold", f"{folds['fold']} of {folds['folds']} left out{by}"])
    return f"## Data\n\n{table(['', ''], rows)}"


def licences(licence: str | None, links: Sequence[Licence]) -> str:
    rows = [[f"{link.role} `{short_path(link.thing)}`", _said(link)] for link in links]
    result = licence or "**unknown**"
    said = [f"## Licences\n\n{table(['', 'licence'], [['this model', result], *rows])}"]
    if licence is None or any(link.licence is None for link in links):
        said.append(
            "**Warning:** where a licence is unknown, no header of a card that lay beside the model or the data said "
            "it. Look it up before you use or pass on this model: a teacher's and a dataset's may bind it too."
        )
    return "\n\n".join(said)


def _said(link: Licence) -> str:
    if link.licence is not None:
        return link.licence
    return "**unknown**" if link.file is None else f"**unknown**: read the file {link.file} beside it"


def origin(run: Told) -> str:
    git, hardware = run.value("git") or {}, run.value("hardware") or {}
    state = "not from a repository" if not git.get("sha") else f"`{git['sha'][:12]}`"
    state += " with changes that are not committed" if git.get("dirty") else ""
    machine = hardware.get("device_name") or hardware.get("processor")
    versions = {name: version for name, version in (run.value("versions") or {}).items() if version}
    rows = [
        ["code", f"kdlab {versions.pop('kdlab', NONE)}, {state}"],
        ["packages", ", ".join(f"{name} {version}" for name, version in versions.items())],
        [
            "machine",
            f"{machine or NONE}, {hardware.get('cores')} cores",
        ],
        ["peak memory", " and ".join(_peaks(run)) or NONE],
        ["time", f"{plain(run.number('seconds', 'total'), 3)} s, finished {run.text('finished') or NONE}"],
    ]
    return f"## How it was made\n\n{table(['', ''], rows)}"


def _peaks(run: Told) -> list[str]:
    found = {where: run.number("peak_memory_bytes", where) for where in ("host", "device")}
    return [f"{size(count)} on the {where}" for where, count in found.items() if count]
