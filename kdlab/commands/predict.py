"""kdlab predict: classify or complete a text with any finished model: a folder, an adapter, an exported variant.

kdlab predict multirun/export/default/onnx_int8 "Where is my card?"
kdlab predict multirun/helpsteer2/default --field prompt="Name a prime." --field response="Seven is one."
kdlab predict multirun/quickstart/default/model "A list comprehension" --max-new-tokens 32
kdlab predict multirun/export/default/onnx --file rows.csv --json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kdlab.commands.failures import answered
from kdlab.commands.flags import Parser
from kdlab.config import ConfigError

if TYPE_CHECKING:
    from kdlab.exporting.variants import Variant

NEW_TOKENS, TOP = 64, 5
DESCRIPTION = "Classify or complete a text with any finished model: a folder, an adapter, a variant of kdlab export."


def main(argv: Sequence[str]) -> int:
    """Returns the exit status: 0 done, 1 failed, 2 mistyped, 130 interrupted."""
    return answered(lambda: _run(argv), interrupted="interrupted")


def _run(argv: Sequence[str]) -> int:
    parser = _parser()
    if any(word in ("-h", "--help") for word in argv):
        parser.print_help()
        return 0
    asked = parser.parse_args(list(argv))
    if any(count is not None and count < 1 for count in (asked.max_new_tokens, asked.top, asked.threads)):
        raise ConfigError("kdlab predict: --max-new-tokens, --top and --threads must be at least 1")
    if asked.json and asked.top is not None:
        raise ConfigError("kdlab predict: --json shows every class; leave out --top")
    given, name = _given(asked)
    from kdlab.exporting.predicting import check_rows, predict
    from kdlab.exporting.variants import open_variant

    variant = open_variant(asked.path, threads=asked.threads, option="PATH")
    _refuse_unused(asked, variant)
    rows = _rows(given, variant, name)
    check_rows(variant, rows, name=name, chat=asked.chat)
    answers = predict(variant, rows, max_new_tokens=asked.max_new_tokens or NEW_TOKENS, chat=asked.chat)
    said: set[str] = set()
    for row, answer in zip(rows, answers, strict=True):
        if not asked.json:
            print(_told(answer, top=asked.top or TOP), flush=True)
            continue
        if twice := sorted(row.keys() & answer.keys() - said):
            from kdlab.models.progress import say

            said.update(twice)
            say(f"{name}: {', '.join(twice)}: shown as answered, not as given")
        print(json.dumps(row | answer, ensure_ascii=False, default=str), flush=True)
    return 0


def _parser() -> Parser:
    parser = Parser(prog="kdlab predict", description=DESCRIPTION, add_help=False, allow_abbrev=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "\n".join(["examples:", *(f"  {line}" for line in (__doc__ or "").splitlines()[2:])])
    parser.add_argument("path", metavar="PATH", help="a model's folder, or a run's, whose model/ is then taken")
    parser.add_argument("texts", metavar="TEXT", nargs="*", help="one or more texts")
    parser.add_argument(
        "--field",
        metavar="NAME=TEXT",
        action="append",
        default=[],
        help="a column of the text, where there are several",
    )
    parser.add_argument(
        "--file",
        metavar="FILE",
        help="rows to answer: .csv, .tsv, .parquet, .json or .jsonl with the columns, or one text a line; "
        "- is standard input",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a text, with everything")
    parser.add_argument("--top", metavar="K", type=int, help=f"classes that are shown ({TOP})")
    parser.add_argument("--max-new-tokens", metavar="N", type=int, help=f"how much is written ({NEW_TOKENS})")
    parser.add_argument("--chat", action="store_true", help="the text is what a user says to a chat model")
    parser.add_argument("--threads", metavar="N", type=int, help="threads to compute on")
    parser.add_argument("-h", "--help", action="store_true", help="this page")
    return parser


def _given(asked: argparse.Namespace) -> tuple[Sequence[str] | Sequence[dict[str, Any]], str]:
    """The texts, or the rows, to answer, and what gave them."""
    given = [name for name, there in (("TEXT", asked.texts), ("--field", asked.field), ("--file", asked.file)) if there]
    if len(given) != 1:
        said = f"{' and '.join(given)} were given" if given else "none was given"
        raise ConfigError(f"kdlab predict: give texts, --field or --file; {said}")
    if asked.file:
        from kdlab.commands.predict_rows import read_file

        return read_file(asked.file), f"--file {asked.file}"
    row: dict[str, str] = {}
    for pair in asked.field:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise ConfigError(f"--field {pair}: write --field NAME=TEXT")
        row[name] = text
    return [row] if row else asked.texts, f"PATH={asked.path}"


def _rows(given: Sequence[str] | Sequence[dict[str, Any]], variant: Variant, name: str) -> list[dict[str, Any]]:
    """A text that stands alone is the one column that the model reads."""
    from kdlab.exporting.predicting import fields_of

    first, *others = fields_of(variant)
    if others and any(isinstance(one, str) for one in given):
        fields = " ".join(f"--field {field}=..." for field in (first, *others))
        raise ConfigError(
            f"{name}: this model reads {' and '.join([first, *others])}: write {fields}, or --file FILE with these "
            "columns (.csv, .jsonl)"
        )
    return [{first: one} if isinstance(one, str) else one for one in given]


def _refuse_unused(asked: argparse.Namespace, variant: Variant) -> None:
    """Raise ConfigError for a flag that says nothing to a model of this kind."""
    from kdlab.exporting.variants import CLASSIFIER

    writes = {"--chat": asked.chat, "--max-new-tokens": asked.max_new_tokens is not None}
    decides = {"--top": asked.top is not None}
    if variant.kind != CLASSIFIER:
        what, without = "writes text", decides
    elif variant.task is not None and variant.task.is_regression:
        what, without = "predicts a number", writes | decides
    else:
        what, without = "is a classifier", writes
    unused = [flag for flag, typed in without.items() if typed]
    if unused:
        raise ConfigError(f"PATH={asked.path}: this model {what}; leave out {' and '.join(unused)}")


def _told(answer: dict[str, Any], *, top: int) -> str:
    """An answer in a line or a few."""
    taken = f"{answer['milliseconds']:.1f} ms"
    cut = f"; {answer['cut']} tokens too many were cut" if answer.get("cut") else ""
    if "completion" in answer:
        told = f"log-probability {answer['log_probability']:.2f} nats over {answer['tokens']} tokens"
        return f"{answer['completion']}\n  ({told}, stopped by {answer['stopped']}, {taken})"
    if "value" in answer:
        return f"{answer['column']} {answer['value']:.4g}  ({taken}{cut})"
    first, *others = list(answer["probabilities"].items())[:top]
    width = max(len(name) for name, _ in (first, *others))
    lines = [f"{first[0]:<{width}}  {first[1]:7.2%}  ({taken}{cut})"]
    return "\n".join([*lines, *(f"{name:<{width}}  {p:7.2%}" for name, p in others)])
