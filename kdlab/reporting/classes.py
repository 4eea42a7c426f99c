"""The page's part on classes: what was taken for what, class by class, and how sure the models were."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kdlab.reporting.class_plots import NAMED, WRITTEN, Calibration, confusion, reliability
from kdlab.reporting.decisions import PARTS
from kdlab.reporting.markup import Html, Part, fold, join, section, table, tag
from kdlab.reporting.numbers import NONE, number, percent
from kdlab.reporting.plots import drawable
from kdlab.reporting.runs import Run

WHO = (("after", "student", 1), ("teacher", "teacher", 2))
"""Where in the metrics, what it is called, its colour."""
MISTAKES = 10
"""How many of the commonest mistakes are named where a matrix has no names."""


def classes(run: Run, *, key: str, pictures: bool = True) -> Html | None:
    """Confusion, calibration and the classes one by one, of the hold-out test where there is one, then of the held-out
    part; None of a run without them."""
    parts = [part for part in ("test", "heldout") if any(_of(run, part, who, "per_class") for who, _, _ in WHO)]
    if not parts:
        return None
    first, *rest = (_part(run, part, key=f"{key}-{part}", pictures=pictures and drawable()) for part in parts)
    others = [fold(f"The same on {PARTS[part]}", *shown) for part, shown in zip(parts[1:], rest, strict=True)]
    return section("Classes", tag("p", f"On {PARTS[parts[0]]}.", class_="soft"), *first, *others)


def _part(run: Run, part: str, *, key: str, pictures: bool) -> list[Html]:
    names = _names(run, part)
    listed = _by_class(run, part, names)
    shown = _pictures(run, part, names, key=key) if pictures else None
    shown = shown if shown is not None else Html("")
    if len(names) <= WRITTEN:
        return [shown, listed]
    return [shown, *_mistakes(run, part, names), fold(f"All {len(names)} classes", listed)]


def _pictures(run: Run, part: str, names: Sequence[str], *, key: str) -> Html:
    figures: list[Html] = []
    lines = []
    for who, called, colour in WHO:
        if counts := _matrix(run, part, who, len(names)):
            drawn = confusion(counts, names, key=f"{key}-confusion-{who}", title=f"confusion matrix of the {called}")
            how = "numbered as in the table of classes" if len(names) > NAMED else "rows are the true classes"
            caption = tag("figcaption", tag("b", f"What the {called} took for what"), f", {how}")
            figures.append(tag("figure", Html(drawn), caption))
        bins = [one for one in _of(run, part, who, "reliability") or [] if isinstance(one, dict)]
        bins = [one for one in bins if all(isinstance(one.get(name), int | float) for name in _BIN)]
        if bins:
            x, y, n = ([float(one[name]) for one in bins] for name in _BIN)
            lines.append(Calibration(name=called, colour=colour, confidence=x, accuracy=y, count=n))
    if lines:
        drawn = reliability(lines, key=f"{key}-reliability", title="accuracy over confidence")
        caption = tag("figcaption", tag("b", "As often right as it is sure?"), " below the dashed line it is too sure")
        sure = tag("figure", Html(drawn), caption)
        if len(names) > WRITTEN:
            return join([tag("div", *figures, class_="grid pictures"), tag("div", sure, class_="grid small half")])
        figures.append(sure)
    return tag("div", *figures, class_="grid small pictures")


_BIN = ("confidence", "accuracy", "count")


def _by_class(run: Run, part: str, names: Sequence[str]) -> Html:
    """A row a class: how many texts, then precision, recall and F1 of the student, and the teacher's F1."""
    student, teacher = (_rows(run, part, who) for who, _, _ in WHO)
    head = ["", "class", "texts", "precision", "recall", "F1", "F1 before", "F1 of the teacher"]
    before = _rows(run, part, "before")
    lines: list[list[Part]] = []
    for index, name in enumerate(names):
        own, old, other = (rows.get(name, {}) for rows in (student, before, teacher))
        support = own.get("support", other.get("support"))
        cells: list[Part] = [percent(_number(own.get(key))) for key in ("precision", "recall", "f1")]
        lines.append(
            [
                str(index + 1),
                name,
                number(_number(support)),
                *cells,
                percent(_number(old.get("f1"))),
                percent(_number(other.get("f1"))),
            ]
        )
    return table([*head], lines)


def _mistakes(run: Run, part: str, names: Sequence[str]) -> list[Html]:
    """The student's commonest mistakes, for a matrix whose cells cannot be read."""
    counts = _matrix(run, part, "after", len(names)) or []
    found = [
        (count, names[true], names[decided], sum(row))
        for true, row in enumerate(counts)
        for decided, count in enumerate(row)
        if true != decided and count
    ]
    found.sort(key=lambda one: -one[0])
    if not found:
        return []
    lines: list[list[Part]] = [
        [true, decided, f"{number(count)} of {number(of)}"] for count, true, decided, of in found[:MISTAKES]
    ]
    return [tag("h3", "The student's commonest mistakes"), table(["true", "decided", "texts"], lines)]


def count_cells(run: Run) -> tuple[list[str], list[list[str]]]:
    """The head and rows of a table of how many rows of each class each part of the data has."""
    found = run.value("data", "classes", "counts")
    counts = found.items() if isinstance(found, dict) else ()
    parts = {part: counted for part, counted in counts if isinstance(counted, dict) and counted}
    names = list(dict.fromkeys(name for counted in parts.values() for name in counted))
    rows = [[name, *(_share(counted, name) for counted in parts.values())] for name in names]
    if rows:
        rows.append(["all", *(number(_total(counted)) for counted in parts.values())])
    return ["class", *({"heldout": "held-out"}.get(part, part) for part in parts)], rows


def few_count_cells(run: Run) -> tuple[list[str], list[list[str]], str]:
    """That table for a terminal: of many classes the rarest and the commonest in the first part, and a line that says
    so."""
    head, rows = count_cells(run)
    *each, total = rows or [[]]
    if len(each) <= WRITTEN:
        return head, rows, ""
    parts = run.value("data", "classes", "counts")
    first = next(counted for counted in parts.values() if counted)
    each.sort(key=lambda row: -first.get(row[0], 0))
    half = WRITTEN // 2
    note = f"Of {len(each)} classes the {half} commonest and the {half} rarest are shown."
    return head, [*each[:half], *each[-half:], total], note


def label_counts(run: Run) -> Html | None:
    """That table, folded where there are many classes."""
    head, rows = count_cells(run)
    if not rows:
        return None
    shown = table([*head], [[*row] for row in rows])
    return shown if len(rows) <= WRITTEN + 1 else fold(f"The rows of {len(rows) - 1} classes", shown)


def usual_of_data(run: Run) -> str:
    """The baseline that a classifier is to beat."""
    name = run.text("data", "classes", "majority", "class")
    shares = [
        f"{percent(share)} of {told}"
        for part, told in PARTS.items()
        if (share := run.number("data", "classes", "majority", part)) is not None
    ]
    folds = run.value("data", "classes", "majority", "folds")
    if isinstance(folds, list) and folds:
        shares.append(f"{percent(min(folds))} to {percent(max(folds))} of a fold")
    called = f"“{name}”, the commonest class of the training rows," if name else "the commonest training class"
    return f"Always {called} is right on {' and '.join(shares)}." if shares else ""


def _total(counted: dict[str, Any]) -> int:
    return sum(count for count in counted.values() if isinstance(count, int))


def _share(found: dict[str, Any], name: str) -> str:
    count = _number(found.get(name))
    return NONE if count is None else f"{number(count)} ({percent(count / max(_total(found), 1))})"


def _names(run: Run, part: str) -> list[str]:
    for who, _, _ in WHO:
        if rows := _rows(run, part, who):
            return list(rows)
    return []


def _rows(run: Run, part: str, who: str) -> dict[str, dict[str, Any]]:
    found = _of(run, part, who, "per_class")
    return {str(one.get("name")): one for one in found if isinstance(one, dict)} if isinstance(found, list) else {}


def _matrix(run: Run, part: str, who: str, size: int) -> list[list[int]] | None:
    """The counts, where they are those of `size` classes."""
    found = _of(run, part, who, "confusion")
    if not isinstance(found, list) or len(found) != size:
        return None
    return found if all(isinstance(row, list) and len(row) == size for row in found) else None


def _of(run: Run, part: str, who: str, key: str) -> Any:
    return run.value("metrics", who, *(["test"] if part == "test" else []), key)


def _number(found: Any) -> float | None:
    return found if isinstance(found, int | float) and not isinstance(found, bool) else None
