"""The report page: one self-contained HTML file about one run, or about many beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kdlab.reporting import benchmarks, dataset, details, exports, pipelines, results
from kdlab.reporting.arms import how_tested, pair_cells
from kdlab.reporting.classes import classes
from kdlab.reporting.comparison import cells, labels, order_told, ranked
from kdlab.reporting.evaluations import Evaluation
from kdlab.reporting.markup import Html, Part, fold, join, section, table, tag
from kdlab.reporting.plots import COLOURS, drawable
from kdlab.reporting.questions import HEAD, evaluation_cells, run_cells
from kdlab.reporting.records import Records
from kdlab.reporting.repeat_table import metric_cells, over, repeat_cells
from kdlab.reporting.repeat_table import told as repeats_told
from kdlab.reporting.repeats import Group, repeat_groups
from kdlab.reporting.runs import Run
from kdlab.reporting.style import CSS

OVERLAID = COLOURS - 1
"""How many runs the curves of a comparison show; the page says so where there are more."""


def page(records: Records, *, base: Path | None = None) -> str:
    """The whole page. `base` is the folder where it will lie, which links start from (None: there are none)."""
    assert not records.empty
    runs = records.runs
    title = f"{runs[0].title}: kdlab run" if len(runs) == 1 else f"kdlab: {len(runs)} runs"
    stages = pipelines.told(records.pipelines, base)
    if not runs:
        title = f"kdlab: {', '.join(_listed(records))}"
        parts = [tag("h1", title), stages]
    else:
        parts = [_one(runs[0], stages) if len(runs) == 1 else _many(runs, stages)]
    body = join([*parts, exports.told(records.exports), *_prepared(records.prepared), evaluated(records.evaluations)])
    complaints = records.complaints
    unread = section("Not read", tag("ul", *(tag("li", line) for line in complaints))) if complaints else None
    head = tag(
        "head",
        Html('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
        tag("title", title),
        tag("style", Html(CSS)),
    )
    return f"<!doctype html>\n{tag('html', head, tag('body', tag('main', body, unread)), lang='en')}\n"


def _listed(records: Records) -> list[str]:
    """What a page without runs is about."""
    kinds = (
        (records.pipelines, "pipeline"),
        (records.exports, "export"),
        (records.prepared, "dataset"),
        (records.evaluations, "evaluation"),
    )
    return [f"{len(found)} {kind}{'s' * (len(found) > 1)}" for found, kind in kinds if found]


def _prepared(prepared: Sequence[Run]) -> list[Html | None]:
    """What `kdlab prepare` found; of many, whose pictures are alike, the first alone is drawn."""
    return [dataset.data(one, key=f"prepared{index}", pictures=not index) for index, one in enumerate(prepared)]


def _one(run: Run, stages: Html | None) -> Html:
    curves = results.training_curves([run], key="curves")
    options = " ".join(run.overrides)
    parts = [
        tag("h1", run.title),
        tag("p", " · ".join(part for part in (run.state, run.text("started")[:10], options) if part), class_="soft"),
        results.verdict(run),
        results.tiles(run),
        stages,
        results.heldout(run, key="run"),
        classes(run, key="run"),
        benchmarks.benchmarks(run),
        section("Curves", curves) if curves else None,
        details.models(run),
        details.samples(run),
        dataset.data(run, key="run"),
        details.origin(run),
        details.config(run),
    ]
    return join(parts)


def _many(given: Sequence[Run], stages: Html | None) -> Html:
    runs = ranked(given)
    names = labels(runs)
    shown = runs[:OVERLAID]
    curves = results.training_curves(shown, key="curves")
    more = f"The best {OVERLAID} of {len(runs)} runs are drawn." if len(runs) > OVERLAID else None
    key = [_key(names[:OVERLAID]), tag("p", more, class_="soft") if more else None]
    finished = sum(run.finished for run in runs)
    parts = [
        tag("h1", f"{len(runs)} runs"),
        tag("p", f"{finished} finished, {len(runs) - finished} not; {order_told(runs)}", class_="soft"),
        stages,
        section("Comparison", comparison(runs)),
        *([repeated(groups), pairs(groups)] if (groups := repeat_groups(runs)) else []),
        answered(runs),
        _benchmarks(runs),
        section("Curves", *(key if drawable() else []), curves) if curves else None,
        section(
            "Each run", *(_folded(run, name, index) for index, (run, name) in enumerate(zip(runs, names, strict=True)))
        ),
    ]
    return join(parts)


def _benchmarks(runs: Sequence[Run]) -> Html | None:
    head, rows = benchmarks.many_cells(runs)
    return section("Benchmarks, before → after", _text_table(head, rows)) if rows else None


def _text_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Html:
    return table([*head], [[*row] for row in rows])


def comparison(runs: Sequence[Run]) -> Html:
    """One row a run: what varies, then what came out."""
    head, rows = cells(runs)
    return table([*head], [[*row] for row in rows])


def repeated(groups: Sequence[Group]) -> Html:
    """Mean, spread and 95 % interval of each metric over the seeds or folds of one setting."""
    every = [group for group in groups if group.by_fold]
    more = fold("Every metric, with its interval", _text_table(*metric_cells(every))) if every else None
    told = tag("p", repeats_told(groups), class_="soft")
    return section(f"Over {over(groups)}", told, _text_table(*repeat_cells(groups)), more)


def pairs(groups: Sequence[Group]) -> Html | None:
    """Whether each two settings differ, over the seeds or folds that both have."""
    head, rows, note = pair_cells(groups)
    said = tag("p", f"{how_tested(groups)} {note}", class_="soft")
    return section("Differences", said, _text_table(head, rows)) if rows else None


def answered(runs: Sequence[Run]) -> Html | None:
    """Whether each two runs differ, question by question."""
    rows, note = run_cells(runs)
    lines: list[list[Part]] = [[*row] for row in rows]
    told = tag("p", note, class_="soft") if note else None
    return section("Question by question", told, table([*HEAD], lines) if rows else None) if note else None


def evaluated(evaluations: Sequence[Evaluation]) -> Html | None:
    """What `kdlab evaluate` found, model by model, and whether each two differ."""
    if not evaluations:
        return None
    head, rows, pair_lines, note = evaluation_cells(evaluations)
    lines, pair_rows = ([[*row] for row in found] for found in (rows, pair_lines))
    parts: list[Part] = [table([*head], lines)]
    parts += [tag("p", note, class_="soft after")] if note else []
    parts += [table([*HEAD], pair_rows)] if pair_rows else []
    return section("Evaluations", *parts)


def _key(names: Sequence[str]) -> Html:
    """Which colour is which run."""
    swatches = [
        tag("li", tag("i", style=f"background: var(--line-{index})"), name) for index, name in enumerate(names, start=1)
    ]
    return tag("ul", *swatches, class_="key")


def _folded(run: Run, name: str, index: int) -> Html:
    parts = [
        results.verdict(run),
        results.heldout(run, key=f"run{index}", pictures=False),
        classes(run, key=f"run{index}", pictures=False),
        benchmarks.benchmarks(run),
        details.models(run),
        details.samples(run),
        dataset.data(run, key=f"run{index}", pictures=False),
        details.origin(run),
        details.config(run),
    ]
    return fold(f"{name}: {run.state}", *parts)
