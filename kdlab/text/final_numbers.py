r"""The number that a written answer comes to: named rules in an order, the first that finds one decides.

found = extract("So she makes \\boxed{\\$18}.", rules="boxed_last")
found.value, found.rule                               # Fraction(18), "boxed"
equal(found.value, gold("... #### 18"))               # True

What is a number, and what is not, is told in `text.numerals`. Where the decisive place holds something that cannot be
read (a time, a range, a sum that was not worked out), the answer is "unresolved", for a person to judge; no other
number of the text is taken in its stead.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from kdlab.text.numerals import Numeral, numerals, plain, shown

__all__ = ["RULES", "UNRESOLVED", "Extracted", "equal", "extract", "gold", "shown"]

UNRESOLVED = "unresolved"

_BOX = re.compile(r"\\?(?:boxed|fbox)\s?\{")
_ANSWER_IS = re.compile(r"\bthe\s+(?:(?:final|correct)\s+)*answer\s+is\b", re.IGNORECASE)
_STATED = re.compile(r"\banswer\b[^.\n:=\d]{0,40}?\bis\b(?!\s+not\b)", re.IGNORECASE)
_HEADED = re.compile(r"\banswer[^\S\n]*[:=]", re.IGNORECASE)
_HASHES = re.compile(r"#{4}[^\S\n]*(?=[-+$£€¥₹]*[^\S\n]?\.?\d)")
_NOTHING = re.compile(r"[^\S\n]*[:$\[]*[^\S\n]*\n(?:[^\S\n]*[$\[]*[^\S\n]*\n)*")
_SENTENCE_END = re.compile(r"[.!?](?=\s|\Z)")
_NEXT_QUESTION = re.compile(
    r"^[#*\s]*(?:question|q|problem|instruction|human|user)\s*\d*\s*[:.]", re.IGNORECASE | re.MULTILINE
)


@dataclass(frozen=True, kw_only=True)
class Extracted:
    """`value` is exact, None where the answer is unresolved; `rule` is the one that fired, or "unresolved"."""

    value: Fraction | None
    rule: str


class Rule(NamedTuple):
    """`find` gives what it finds in a plain text, with a value of None where that cannot be read, or None: then the
    next rule is asked."""

    name: str
    find: Callable[[str], Numeral | None]


def extract(text: str, *, rules: str, question: str = "") -> Extracted:
    """The number that `text` comes to, by the rules named `rules` (of `RULES`). A `question` (or the lines of a prompt)
    that the answer begins by repeating is not read."""
    own = _without_question(text, question).strip()
    for rule in RULES[rules]:
        found = rule.find(own)
        if found is not None:
            known = found.value is not None
            return Extracted(value=found.value, rule=rule.name if known else UNRESOLVED)
    return Extracted(value=None, rule=UNRESOLVED)


def equal(answer: Fraction | None, reference: Fraction | None) -> bool:
    """Whether both are known and the same number: 18 = 18.00 = 36/2. Exact: 33.3 is not 100/3, 0.5 is not 50%."""
    return answer is not None and answer == reference


def gold(reference: str) -> Fraction | None:
    """The number of a reference answer: what stands behind the last `####` (GSM8K), else in the last box, else the
    reference itself where it is one number and no more. None where there is none: nothing is guessed."""
    text = plain(reference).strip()
    marks = list(_HASHES.finditer(text))
    if marks:
        return _first(numerals(text[marks[-1].end() :].split("\n")[0])[:1])
    box = _last_box(reference)
    if box is not None:
        return box.value
    found = numerals(text)
    alone = len(found) == 1 and not re.search(r"\w", text[: found[0].start] + text[found[0].end :])
    return found[0].value if alone else None


def _first(found: list[Numeral]) -> Fraction | None:
    return found[0].value if found else None


def _without_question(text: str, question: str) -> str:
    """`text` less the longest stretch of the question's lines that it begins with, three words or more."""
    lines = [line.split() for line in question.splitlines() if line.strip()]
    longest = 0
    for first in range(len(lines)):
        words: list[str] = []
        for line in lines[first:]:
            words += line
            repeated = re.match(r"\s*" + r"\s+".join(map(re.escape, words)), text)
            if repeated is None:
                break
            longest = max(longest, repeated.end()) if len(words) >= 3 else longest
    return text[longest:]


def _boxes(text: str) -> Iterator[list[Numeral]]:
    """The numbers of each box that is closed and has any; of boxes within each other, of the outermost."""
    closed: dict[int, int] = {}
    opened: list[int] = []
    for brace in re.finditer(r"[{}]", text):
        if brace[0] == "{":
            opened.append(brace.start())
        elif opened:
            closed[opened.pop()] = brace.start()
    last = 0
    for box in _BOX.finditer(text):
        end = closed.get(box.end() - 1)
        if end is not None and box.start() >= last:
            last = end
            found = numerals(plain(text[box.end() : end]).strip())
            if found:
                yield found


def _only(found: list[Numeral]) -> Numeral:
    """The one number of a short text that is nothing but an answer; without a value where it has several."""
    results = [numeral for numeral in found if not (numeral.equated and numeral.value is None)] or found
    same = len({numeral.value for numeral in results}) == 1
    return results[0] if same else Numeral(start=results[0].start, end=results[-1].end, value=None)


def _first_box(text: str) -> Numeral | None:
    """The first box with a number in it."""
    return next((_only(found) for found in _boxes(text)), None)


def _last_box(text: str) -> Numeral | None:
    """The last box with a number in it."""
    boxes = list(_boxes(text))
    return _only(boxes[-1]) if boxes else None


def _first_line(text: str) -> Numeral | None:
    """The first line's number, where it has exactly one or all of it are equal, and no equation."""
    found = numerals(plain(text).strip().split("\n")[0])
    same = len({numeral.value for numeral in found}) == 1 and found[0].value is not None
    return found[0] if same and not any(numeral.equated for numeral in found) else None


def _after_answer_is(text: str) -> Numeral | None:
    """The first number after "the answer is", "the final answer is" or "the correct answer is"."""
    text = plain(text)
    phrase = _ANSWER_IS.search(text)
    return None if phrase is None else _result([numeral for numeral in numerals(text) if numeral.start >= phrase.end()])


def _result(found: list[Numeral]) -> Numeral | None:
    """The first number; of `3 + 4 = 7` the 7."""
    return next((numeral for numeral in found if not (numeral.equated and numeral.value is None)), None)


def _marked(text: str) -> Numeral | None:
    """What the answer itself calls its answer, the last time that it does: "answer is" with a number in the same
    sentence (or alone in the next line), "Answer:" with no other number in the line, or `####` before a number. What
    stands behind a further question, which the model asks itself, is not read."""
    text = _own_turn(plain(text))
    known = numerals(text)
    places = [(match.end(), True) for match in _STATED.finditer(text)]
    places += [(match.end(), False) for pattern in (_HEADED, _HASHES) for match in pattern.finditer(text)]
    for after, stated in sorted(places, reverse=True):
        start, end = _rest(text, after)
        sentence = _SENTENCE_END.search(text, start, end) if stated else None
        end = sentence.end() if sentence else end
        inside = [numeral for numeral in known if start <= numeral.start < end]
        found = _result(inside) if stated else _alone(inside)
        if found is not None:
            return found
    return None


def _rest(text: str, start: int) -> tuple[int, int]:
    """Where the rest of the line begins and ends, or the next line that says something where it has no more than a
    colon."""
    nothing = _NOTHING.match(text, start)
    begin = nothing.end() if nothing else start
    end = text.find("\n", begin)
    return begin, len(text) if end < 0 else end


def _alone(found: list[Numeral]) -> Numeral | None:
    """The one number of a line, or what it is equated with."""
    results = [numeral for numeral in found if numeral is found[-1] or not numeral.equated]
    return results[0] if len({numeral.value for numeral in results}) == 1 else None


def _last_number(text: str) -> Numeral | None:
    """The last number of the text."""
    found = numerals(plain(text))
    return found[-1] if found else None


def _last_own_number(text: str) -> Numeral | None:
    """The last number before a further question that the model asks itself."""
    found = numerals(_own_turn(plain(text)))
    return found[-1] if found else None


def _own_turn(text: str) -> str:
    """What comes before a line that begins a further question, once there is a number to answer with."""
    first = next(iter(numerals(text)), None)
    further = None if first is None else _NEXT_QUESTION.search(text, first.end)
    return text if further is None else text[: further.start()]


RULES: dict[str, tuple[Rule, ...]] = {
    "s1": (
        Rule("boxed", _first_box),
        Rule("first_line", _first_line),
        Rule("answer_is", _after_answer_is),
        Rule("last_number", _last_number),
    ),
    "boxed_last": (
        Rule("boxed", _last_box),
        Rule("answer_is", _marked),
        Rule("last_number", _last_own_number),
    ),
}
"""`s1`: the four of Alonso's GSM8K study ("Response-Priming Prompting", 2024), as they were meant: sign, `$`, `%`,
commas, decimals, units and case are read, and the third rule reads its own answer. `boxed_last`: the last box, then
what the answer calls its answer, then the last number."""
