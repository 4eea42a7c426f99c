"""The report page: one self-contained HTML file about one run, or about many beside each other."""

from __future__ import annotations

from collections.abc import Sequence

from kdlab.reporting import details, results
from kdlab.reporting.arms import TEST, pair_cells
from kdlab.reporting.comparison import Group, cells, labels, ranked, repeats, seed_cells, seed_groups
from kdlab.reporting.evaluations import Evaluation
from kdlab.reporting.markup import Html, Part, fold, join, section, table, tag
from kdlab.reporting.plots import COLOURS, drawable
from kdlab.reporting.questions import HEAD, evaluation_cells, run_cells
from kdlab.reporting.runs import Run
from kdlab.reporting.style import CSS

OVERLAID = COLOURS - 1
"""How many runs the curves of a comparison show; the page says so where there are more."""


def page(runs: Sequence[Run], complaints: Sequence[str] = (), evaluations: Sequence[Evaluation] = ()) -> str:
    """The whole page. `complaints` are the files that could not be read, one line each."""
    assert runs or evaluations
    title = f"{runs[0].name}: kdlab run" if len(runs) == 1 else f"kdlab: {len(runs)} runs"
    if not runs:
        title = f"kdlab: {len(evaluations)} evaluation{'s' * (len(evaluations) > 1)}"
    parts = [_one(runs[0]) if len(runs) == 1 else _many(runs)] if runs else [tag("h1", title)]
    body = join([*parts, evaluated(evaluations)])
    unread = section("Not read", tag("ul", *(tag("li", line) for line in complaints))) if complaints else None
    head = tag(
        "head",
        Html('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
        tag("title", title),
        tag("style", Html(CSS)),
    )
    return f"<!doctype html>\n{tag('html', head, tag('body', tag('main', body, unread)), lang='en')}\n"


def _one(run: Run) -> Html:
    curves = results.training_curves([run], key="curves")
    options = " ".join(run.overrides)
    parts = [
        tag("h1", run.name),
        tag("p", " · ".join(part for part in (run.state, run.text("started")[:10], options) if part), class_="soft"),
        results.verdict(run),
        results.tiles(run),
        results.heldout(run, key="run"),
        section("Curves", curves) if curves else None,
        details.models(run),
        details.samples(run),
        details.data(run),
        details.origin(run),
        details.config(run),
    ]
    return join(parts)


def _many(given: Sequence[Run]) -> Html:
    runs = ranked(given)
    names = labels(runs)
    shown = runs[:OVERLAID]
    curves = results.training_curves(shown, key="curves")
    more = f"The best {OVERLAID} of {len(runs)} runs are drawn." if len(runs) > OVERLAID else None
    key = [_key(names[:OVERLAID]), tag("p", more, class_="soft") if more else None]
    finished = sum(run.finished for run in runs)
    order = "the lowest KL to the teacher first"
    if any(run.finished and run.number("metrics", "after", "kl") is None for run in runs):
        order += ", then those without a teacher, the lowest log-loss first"
    parts = [
        tag("h1", f"{len(runs)} runs"),
        tag("p", f"{finished} finished, {len(runs) - finished} not; {order}", class_="soft"),
        section("Comparison", comparison(runs)),
        *([seeds(groups), pairs(groups)] if (groups := seed_groups(runs)) else []),
        answered(runs),
        section("Curves", *(key if drawable() else []), curves) if curves else None,
        section(
            "Each run", *(_folded(run, name, index) for index, (run, name) in enumerate(zip(runs, names, strict=True)))
        ),
    ]
    return join(parts)


def comparison(runs: Sequence[Run]) -> Html:
    """One row a run: what varies, then what came out."""
    head, rows = cells(runs)
    return table([*head], [[*row] for row in rows])


def seeds(groups: Sequence[Group]) -> Html:
    """Mean, spread and 95 % interval of each metric over the seeds of one setting."""
    text = (
        "Mean ± half the width of the 95 % interval of the mean (Student's t), then the sample standard deviation, "
        "over finished runs that differ in their seed only."
    )
    head, rows = seed_cells(groups)
    lines: list[list[Part]] = [[*row] for row in rows]
    told = tag("p", f"{text} {repeats(groups)}".strip(), class_="soft")
    return section("Over seeds", told, table([*head], lines))


def pairs(groups: Sequence[Group]) -> Html | None:
    """Whether each two settings differ, over the seeds that both have."""
    head, rows, note = pair_cells(groups)
    lines: list[list[Part]] = [[*row] for row in rows]
    return section("Differences", tag("p", f"{TEST} {note}", class_="soft"), table([*head], lines)) if rows else None


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
        details.models(run),
        details.samples(run),
        details.data(run),
        details.origin(run),
        details.config(run),
    ]
    return fold(f"{name}: {run.state}", *parts)
