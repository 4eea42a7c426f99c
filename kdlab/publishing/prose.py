"""The text of a card, section by section, in plain words and tables."""

from __future__ import annotations

from collections.abc import Sequence

from kdlab.publishing.background import data, licences, origin, recipe
from kdlab.publishing.figures import NONE, PARTS, STAGES, cell, folds_of, measured, percent, plain, size
from kdlab.publishing.licences import Licence
from kdlab.publishing.markdown import short, table
from kdlab.publishing.private import shortened
from kdlab.publishing.records import Records, Told, differing
from kdlab.publishing.usage import use
from kdlab.text.task import Task
from kdlab.training.options import flatten


def sections(
    records: Records, *, repo: str, licence: str | None, links: Sequence[Licence], task: Task | None, adapter: bool
) -> list[str]:
    """All of a card below its header."""
    name = repo.rpartition("/")[2]
    found = [
        f"# {name}\n\n{_opening(records.run, task)}",
        _results(records),
        _arms(records),
        _sizes(records.run),
        _variants(records),
        use(records, repo, task, adapter),
        recipe(records),
        data(records.run, task),
        licences(licence, links),
        origin(records.run),
    ]
    return [section for section in found if section]


def _opening(run: Told, task: Task | None) -> str:
    teacher, student = run.text("models", "teacher", "source"), run.text("models", "student", "source")
    what = "A language model" if task is None else "A regression model" if task.is_regression else "A text classifier"
    if not teacher or not run.taught:
        return f"{what} ({short(student)}), trained on labels alone with kdlab."
    ratio = run.number("compression_ratio")
    smaller = f", {plain(ratio, 3)} times smaller than its teacher" if ratio and ratio > 1.05 else ""
    return f"{what} ({short(student)}{smaller}), distilled from {short(teacher)} with kdlab."


def _results(records: Records) -> str:
    runs, told = records.seeds, []
    for part, what in PARTS:
        figures = measured(runs, part)
        if figures:
            rows = [[f.title, *(cell(f, runs, stage, part) for stage, _ in STAGES)] for f in figures]
            count = runs[0].number("metrics", "after", *([part] if part else ()), "rows")
            of = f" ({int(count):,} of them)" if count and len(runs) == 1 else ""
            told.append(f"On {what}{of}:\n\n{table(['', *(title for _, title in STAGES)], rows)}")
    if not told:
        return ""
    return "\n\n".join(["## Results", *told, _how_sure(runs)])


def _how_sure(runs: Sequence[Told]) -> str:
    if len(runs) == 1:
        shares = any(figure.share for part, _ in PARTS for figure in measured(runs, part))
        brackets = "In brackets Wilson's 95 % interval over the rows. " if shares else ""
        return f"One run. {brackets}How much another seed would change is not known."
    folds, options = folds_of(runs), ", ".join(differing(runs)) or "nothing"
    said = f"Mean over {len(runs)} runs that differ in {options}, ± half the width of the 95 % interval of the mean"
    files = "The files here are those of one of these runs."
    if folds is None:
        return f"{said} (Student's t). {files}"
    left_out = {run.value("config", "dataset", "fold") for run in runs}
    seeds = (
        "" if len(left_out) == len(runs) else " Seeds of one fold share all its rows: their mean counts as one of n."
    )
    return (
        f"{said}. The folds share most of their training rows, so the variance is that of the corrected resampled "
        f"t-test (Nadeau and Bengio, 2003): sd² (1/n + 1/{folds - 1}).{seeds} {files}"
    )


def _arms(records: Records) -> str:
    """The same figures of the runs with other options."""
    if not records.arms:
        return ""
    arms = [records.seeds, *records.arms]
    names = [
        "this model",
        *(", ".join(_differences(records.run, arm[0])) or "the same options" for arm in records.arms),
    ]
    part = next((part for part, _ in PARTS if measured(records.seeds, part)), None)
    figures = [figure for figure in measured(records.seeds, part) if not figure.key.startswith("latency")]
    rows = [
        [name, str(len(arm)), *(cell(figure, arm, "after", part) for figure in figures)]
        for name, arm in zip(names, arms, strict=True)
    ]
    where = "on the test rows" if part else "on the held-out rows"
    return f"## Beside other recipes\n\nThe student after training, {where}.\n\n" + table(
        ["", "runs", *(figure.title for figure in figures)], rows
    )


def _differences(run: Told, other: Told) -> list[str]:
    """How the options of another run are told from those of this one, at most four."""
    mine, theirs = flatten(run.record["config"]), flatten(other.record["config"])
    left_out = ("name", "seed", "dataset.fold", "dataset.split_seed", "dataset.cache_dir")
    names = [name for name in dict.fromkeys([*theirs, *mine]) if mine.get(name) != theirs.get(name)]
    names = [name for name in names if name not in left_out and not name.startswith(("cluster.", "benchmark."))]
    if theirs.get("teacher.source") == "none" and mine.get("teacher.source") != "none":
        names = ["teacher.source"]  # the rest follows from it
    shown = [shortened(f"{name}={theirs.get(name)}") for name in names[:4]]
    return shown + ([f"{len(names) - 4} more"] if len(names) > 4 else [])


def _sizes(run: Told) -> str:
    rows = []
    for who in ("teacher", "student"):
        if run.value("models", who) is None:
            continue
        parameters = run.number("models", who, "parameters")
        trained = run.number("models", who, "trainable_parameters")
        rows.append(
            [
                who,
                NONE if parameters is None else f"{int(parameters):,}",
                NONE if trained is None or who == "teacher" else f"{int(trained):,}",
                size(run.number("models", who, "bytes")),
                size(run.number("models", who, "disk_bytes")),
                run.text("models", who, "dtype") or NONE,
            ]
        )
    head = ["", "parameters", "trained", "in memory", "on disk", "numbers"]
    return (
        f"## Size\n\nMeasured: bytes of the weights as they lay in memory, and of their files.\n\n{table(head, rows)}"
    )


def _variants(records: Records) -> str:
    good = [variant for variant in records.variants if variant.is_good]
    if records.export is None:
        return ""
    shown = [*([records.original] if records.original else []), *good]
    head = ["variant", "on disk", "in memory", "agreement", "KL", "accuracy", "p50 ms", "examples/s"]
    rows = []
    for variant in shown:
        told = variant.told
        speed = told.number("latency", "p50_ms")
        rows.append(
            [
                told.text("name"),
                size(told.number("disk_bytes")),
                size(told.number("memory_bytes")),
                percent(told.number("agreement")),
                plain(told.number("kl")),
                percent(told.number("accuracy")),
                plain(speed, 3),
                plain(told.number("examples_per_second"), 3),
            ]
        )
    keep = [i for i in range(len(head)) if i == 0 or any(row[i] != NONE for row in rows)]
    over = f" over {records.export.text('rows')}" if records.export.text("rows") else " over the same rows"
    where = f"Each was loaded again and run{over}; agreement is how often it decides as the original does."
    lies = "They lie below `variants/`." if good else "None of them was good enough to be here."
    kept = table([head[i] for i in keep], [[row[i] for i in keep] for row in rows])
    return f"## Variants\n\n{where} {lies}\n\n{kept}"
