"""HTML out of small parts. Text is escaped unless it is already `Html`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


Part = str | Html | None


def tag(name: str, *parts: Part, **attributes: str) -> Html:
    """`<name attributes>parts</name>`; `class_` is class; None parts are left out."""
    inner = "".join(part if isinstance(part, Html) else escape(part) for part in parts if part is not None)
    outer = "".join(f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"' for key, value in attributes.items())
    return Html(f"<{name}{outer}>{inner}</{name}>")


def join(parts: Iterable[Html | None]) -> Html:
    return Html("".join(part for part in parts if part is not None))


def table(head: Sequence[Part], rows: Iterable[Sequence[Part]], *, numbers: bool = True) -> Html:
    """A table in a box that scrolls sideways by itself. With `numbers`, all columns but the first are right-aligned."""
    header = tag("thead", tag("tr", *(tag("th", breakable(cell), scope="col") for cell in head)))
    body = tag("tbody", *(_row(row) for row in rows))
    kind = "numbers" if numbers else "words"
    return tag("div", tag("table", header, body, class_=kind), class_="scroll")


def pairs(rows: Iterable[tuple[Part, Part]]) -> Html:
    """A table of names and what they are, without a header; rows without a value are left out."""
    body = [tag("tr", tag("th", name, scope="row"), tag("td", value)) for name, value in rows if value]
    return tag("div", tag("table", tag("tbody", *body), class_="words"), class_="scroll")


def fold(title: str, *parts: Part) -> Html:
    """A part that opens with a click."""
    return tag("details", tag("summary", title), *parts)


def section(title: str, *parts: Part) -> Html:
    return tag("section", tag("h2", title), *parts)


def breakable(text: Part) -> Part:
    """An option's name may break after its dots and underscores."""
    if text is None or isinstance(text, Html):
        return text
    return Html(escape(text).replace(".", ".<wbr>").replace("_", "_<wbr>"))


def _row(cells: Sequence[Part]) -> Html:
    first, *rest = cells
    return tag("tr", tag("th", first, scope="row"), *(tag("td", cell) for cell in rest))
