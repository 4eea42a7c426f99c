r"""The numbers that a text has, exactly, as a person would read them.

[numeral.value for numeral in numerals(plain(r"She pays \$1,234.50 for 3 1/2 pounds"))]  # 1234.5 and 3.5, as fractions

Read as numbers: signs (also −5, "negative 5"; "(5)" is 5), currencies and percent signs (50% is 50, not 0.5), thousands
set off by commas or thin spaces, .5, 1e3, 1.5 × 10^6, 1/2, 3 1/2, ½, "3 million", "$80k", digits of any script, units
right behind. Not numbers at all, and passed over: words ("five"), ordinals (1st), names (x2, H2O, a_1), exponents, the
numbers of list items and steps. **Unreadable** (a value of None), so that nothing else is taken for what they say: sums
(16 - 3), ranges (2-3), times (10:30), dates, powers (2^3), 1.234.567, 1,5 and 1/0. Nothing is computed.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, replace
from fractions import Fraction

_THIN = "\u00a0\u2009\u202f"
"""Spaces that set off thousands; an ordinary space does only before 000."""
_CURRENCY = "$£€¥₹"
_SCALES = {"thousand": 3, "million": 6, "billion": 9, "trillion": 12, "k": 3, "m": 6, "mn": 6, "b": 9, "bn": 9}
_MOST_BEFORE = 40
"""So many characters before a number, at most, say what it is."""
_MOST_DIGITS = 400
"""Longer runs of digits, and powers of ten beyond it, are a loop, not a number."""

_RUN = re.compile(
    rf"(?:(?<![\w.])\.)?\d(?:\d|[.,:/](?=\d)|[{_THIN}](?=\d{{3}}(?!\d))| (?=000(?!\d)))*"
    r"(?:[eE][-+]?\d+(?![A-Za-z\d]))?",
    re.ASCII,
)
_GROUPED = rf"\d{{1,3}}(?:,\d{{3}})+|\d{{1,2}}(?:,\d\d)+,\d{{3}}|\d{{1,3}}(?:[{_THIN}]\d{{3}}| 000)+|\d+"
_DECIMAL = re.compile(rf"(?P<whole>{_GROUPED})?(?P<rest>\.\d+)?(?:[eE](?P<power>[-+]?\d+))?", re.ASCII)
_PREFIX = re.compile(
    rf"(?:(?P<sign>(?<![\w)\]}}%.])[-+]|(?<==)\s*-\s?|\b(?:negative|(?<!\d )minus)\s+)?(?:[{_CURRENCY}]\s?)?"
    rf"|[{_CURRENCY}]\s?(?P<inner>[-+]))\Z",
    re.IGNORECASE,
)
_BELOW_OR_ABOVE = re.compile(r"[_^]\{?\s*-?\Z")
_CODE = re.compile(r"\b(?:US|USD|EUR|GBP|INR|CAD|AUD|Rs)\.?\s?\Z", re.IGNORECASE)
_LABEL = re.compile(
    r"\b(?:step|question|problem|example|exercise|part|option|equation|figure|table)\s*#?\s*\Z", re.IGNORECASE
)
_ITEM = re.compile(r"[ \t]*[-*(#]*[ \t]*")
_ITEM_END = re.compile(r"[.)](?=[ \t]+\S)")
_ORDINAL = re.compile(r"(?:st|nd|rd|th)\b", re.IGNORECASE)
_TEN_TO = re.compile(r"\s?(?:[×x*·]\s?10\s?)\^\s?\{?(?P<power>[-+]?\d+)\}?", re.IGNORECASE | re.ASCII)
_TO = re.compile(r"\s?\^\s?\{?(?P<power>[-+]?\d+)?\}?", re.ASCII)
_SCALE = re.compile(r"\s?(?P<word>thousand|million|billion|trillion)\b", re.IGNORECASE)
_LETTER = re.compile(r"(?P<word>[kK]|M|B|[bm]n)\b(?!\$)")
_OPERATOR = re.compile(r"[^\S\n]*[()\[\]{}]*[^\S\n]*[-+*×x÷·/^][^\S\n]*[()\[\]{}]*[^\S\n]*", re.IGNORECASE)
_EQUALS = re.compile(r"[^\S\n]*[)\]}]*[^\S\n]*[=≈]")
_AND = re.compile(r"[^\S\n]+(?:and[^\S\n]+)?")


@dataclass(frozen=True, kw_only=True)
class Numeral:
    """What stands at `start` to `end` of a text: `value`, or None where it cannot be read as one number.

    `equated`: it is the left side of an equation, as `3 + 4` of `3 + 4 = 7`. `signed`: its sign is written.
    """

    start: int
    end: int
    value: Fraction | None
    equated: bool = False
    signed: bool = False


def numerals(text: str) -> list[Numeral]:
    """The numbers of a text that went through `plain`, in order, and what looks like one and cannot be read."""
    found: list[Numeral] = []
    for run in _RUN.finditer(text):
        if not found or run.start() >= found[-1].end:
            numeral = _read(text, run)
            if numeral is not None:
                found.append(numeral)
    return [
        replace(numeral, equated=_EQUALS.match(text, numeral.end) is not None)
        for numeral in _joined(text, _mixed(text, found))
    ]


def plain(text: str) -> str:
    r"""`text` without the markup around its numbers: LaTeX (`\frac{1}{2}`, `\text{}`, `\$`, `\,`), bold, code ticks and
    GSM8K's `<<3+4=7>>`; digits of any script as 0 to 9, one minus sign. Lines stay lines."""
    text = re.sub(r"<<[^<>\n]*>>", "", text)
    text = "".join(map(_character, text))
    text = re.sub(r"(?<=\d)\*\*(?=\d)", "^", text).replace("**", "").replace("`", "")
    text = re.sub(r"(?<!\w)__(?=\S)|(?<=\S)__(?!\w)", "", text)
    text = re.sub(r"(?<=\d)(?:\{,\}|\\,|\\!,|,\\!)(?=\d{3})", ",", text)
    text = re.sub(r"\\([$%#&])", r"\1", text)
    text = re.sub(r"\\(?:text|textbf|textit|mathrm|mathbf|mbox|operatorname)\s?\{([^{}]*)\}", r" \1 ", text)
    text = re.sub(r"(\d?)\\[dt]?frac\s?(?:\{([^{}]*)\}\s?\{([^{}]*)\}|(\d)(\d))", _fraction, text)
    text = re.sub(r"\\(?:times|ast)(?![A-Za-z])", "×", text)
    text = re.sub(r"\\cdot(?![A-Za-z])", "·", text).replace(r"\div", "÷")
    text = re.sub(r"\\approx(?![A-Za-z])", "≈", text)
    return re.sub(r"\\(?:[A-Za-z]+|[,;:! \[\]()])", " ", text)


def shown(value: Fraction | None) -> str | None:
    """As `Fraction` reads it back: "42", "-0.5", "1/3"; None for None."""
    if value is None:
        return None
    twos, fives = (_times(value.denominator, prime) for prime in (2, 5))
    if value.denominator != 2**twos * 5**fives:
        return str(value)
    places = max(twos, fives)
    digits = str(abs(value.numerator) * 10**places // value.denominator).rjust(places + 1, "0")
    return ("-" if value < 0 else "") + (f"{digits[:-places]}.{digits[-places:]}" if places else digits)


def _times(number: int, prime: int) -> int:
    """How often `prime` divides `number`."""
    count = 0
    while number % prime == 0:
        number //= prime
        count += 1
    return count


def _character(character: str) -> str:
    if character.isascii() or character in _THIN:
        return character
    if character.isdecimal():
        return str(unicodedata.decimal(character))
    if character in "−﹣－–‐‑":
        return "-"
    if unicodedata.category(character) == "No" and "⁄" in unicodedata.normalize("NFKC", character):
        return " " + unicodedata.normalize("NFKC", character).replace("⁄", "/")
    if character.isdigit() and unicodedata.decomposition(character).startswith("<super>"):
        return "^" + unicodedata.normalize("NFKC", character)
    return {"٫": ".", "٬": ",", "，": ",", "．": ".", "：": ":", "％": "%", "＄": "$", "⁄": "/", "—": " "}.get(
        character, character
    )


def _fraction(found: re.Match[str]) -> str:
    before, above, below = found[1], found[2] or found[4] or "", found[3] or found[5] or ""
    simple = all(re.fullmatch(r"\s*-?[\d.,]+\s*", part) for part in (above, below))
    ratio = f"{above.strip()}/{below.strip()}" if simple else f"({above})/({below})"
    return f"{before} {ratio}" if before else ratio


def _read(text: str, run: re.Match[str]) -> Numeral | None:
    """The number of a run of digits with what belongs to it; None where it is part of a name, a label or a list."""
    line = text[_line_start(text, run.start()) : run.start()]
    prefix = _PREFIX.search(line)
    assert prefix is not None, "it matches nothing, too"
    start = run.start() - len(prefix[0])
    coded = _CODE.search(line) is not None
    if (_in_name(line) and not coded) or _LABEL.search(line) or _is_item(text, run):
        return None
    if run[0].isdecimal() and _ORDINAL.match(text, run.end()):
        return None
    value, end = _scaled(text, run, _value(run[0]), money=coded or any(mark in prefix[0] for mark in _CURRENCY))
    if value is not None and re.search(r"-|negative|minus", prefix[0], re.IGNORECASE):
        value = -value
    end += text.startswith("%", end)
    return Numeral(start=start, end=end, value=value, signed=bool(prefix["sign"] or prefix["inner"]))


def _in_name(before: str) -> bool:
    """Whether digits right behind `before` belong to a name, as in x2, H2O and a_1; not in 是18, nor the 4 of 3x4."""
    last = before[-1:]
    cased = last.lower() != last.upper()
    return (cased and not re.search(r"\d[xX]\Z", before)) or _BELOW_OR_ABOVE.search(before) is not None


def _line_start(text: str, end: int) -> int:
    """Where the line before `end` begins, as far as it is looked at."""
    most = max(0, end - _MOST_BEFORE)
    return max(text.rfind("\n", most, end) + 1, most)


def _is_item(text: str, run: re.Match[str]) -> bool:
    """Whether this run, first in its line, numbers an item: "2. Then ..."; "18." alone in its line does not."""
    start = _line_start(text, run.start())
    first = text[start - 1 : start] in ("", "\n") and _ITEM.fullmatch(text, start, run.start()) is not None
    return first and run[0].isdecimal() and len(run[0]) <= 2 and _ITEM_END.match(text, run.end()) is not None


def _value(run: str) -> Fraction | None:
    """A run as a number, or as one number over another; None where it is neither."""
    parts = [_decimal(part) for part in run.split("/")]
    if len(parts) == 1:
        return parts[0]
    above, below, *more = parts
    return above / below if above is not None and below and not more else None


def _decimal(text: str) -> Fraction | None:
    found = _DECIMAL.fullmatch(text) if len(text) <= _MOST_DIGITS else None
    if found is None or not (found["whole"] or found["rest"]):
        return None
    digits = re.sub(rf"[, {_THIN}]", "", found["whole"] or "0") + (found["rest"] or "")
    power = int(found["power"] or 0)
    return Fraction(digits) * Fraction(10) ** power if abs(power) <= _MOST_DIGITS else None


def _scaled(text: str, run: re.Match[str], value: Fraction | None, *, money: bool) -> tuple[Fraction | None, int]:
    """The value with the power or the scale behind it, and where that ends. A power is read of 10 alone."""
    found = _TEN_TO.match(text, run.end()) or _TO.match(text, run.end())
    if found is not None:
        known = value if found.re is _TEN_TO else Fraction(1) if run[0] == "10" else None
        power = int(found["power"] or _MOST_DIGITS + 1) if len(found["power"] or "") < 5 else _MOST_DIGITS + 1
        readable = known is not None and abs(power) <= _MOST_DIGITS
        return (known * Fraction(10) ** power if known is not None and readable else None), found.end()
    scale = _SCALE.match(text, run.end()) or (_LETTER.match(text, run.end()) if money else None)
    if scale is None:
        return value, run.end()
    return None if value is None else value * 10 ** _SCALES[scale["word"].lower()], scale.end()


def _mixed(text: str, found: list[Numeral]) -> list[Numeral]:
    """`3 1/2` and `3 and 1/2` as one number."""
    whole: list[Numeral] = []
    for numeral in found:
        last = whole[-1] if whole else None
        if last is not None and _is_mixed(text, last, numeral):
            assert last.value is not None
            assert numeral.value is not None
            value = last.value + (numeral.value if "-" not in text[last.start : last.end] else -numeral.value)
            whole[-1] = replace(last, end=numeral.end, value=value)
        else:
            whole.append(numeral)
    return whole


def _is_mixed(text: str, last: Numeral, numeral: Numeral) -> bool:
    if last.value is None or numeral.value is None or numeral.signed or not 0 < numeral.value < 1:
        return False
    proper = re.fullmatch(r"\d+/\d+", text[numeral.start : numeral.end].strip()) is not None
    return proper and text[last.end - 1].isdecimal() and last.value.denominator == 1 and _between(text, last, numeral)


def _between(text: str, last: Numeral, numeral: Numeral) -> bool:
    return "/" not in text[last.start : last.end] and _AND.fullmatch(text, last.end, numeral.start) is not None


def _joined(text: str, found: list[Numeral]) -> list[Numeral]:
    """Numbers with an operator between them are one sum, which has no value: it is not worked out."""
    joined: list[Numeral] = []
    for numeral in found:
        last = joined[-1] if joined else None
        if last is not None and _is_sum(text, last, numeral):
            joined[-1] = Numeral(start=last.start, end=numeral.end, value=None)
        else:
            joined.append(numeral)
    return joined


def _is_sum(text: str, last: Numeral, numeral: Numeral) -> bool:
    gap = text[last.end : numeral.start]
    return bool(_OPERATOR.fullmatch(gap)) or (numeral.signed and gap.strip() == "" and "\n" not in gap)
