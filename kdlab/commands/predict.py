"""kdlab predict: classify or complete a text with any finished model: a folder, an adapter, an exported variant.

kdlab predict multirun/export/default/onnx_int8 "Where is my card?"
kdlab predict multirun/helpsteer2/default --field prompt="Name a prime." --field response="Seven is one."
kdlab predict multirun/quickstart/default/model "A list comprehension" --max-new-tokens 32
kdlab predict multirun/export/default/onnx --file rows.jsonl --json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kdlab.commands.failures import answered
from kdlab.commands.flags import Parser
from kdlab.config import ConfigError

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
    if asked.max_new_tokens < 1 or asked.top < 1 or (asked.threads is not None and asked.threads < 1):
        raise ConfigError("kdlab predict: --max-new-tokens, --top and --threads must be at least 1")
    rows = _rows(asked)
    from kdlab.exporting.predicting import check_rows, fields_of, predict
    from kdlab.exporting.variants import open_variant

    variant = open_variant(asked.path, threads=asked.threads, option="PATH")
    if asked.texts:
        wanted = fields_of(variant)
        if len(wanted) > 1:
            given = " ".join(f"--field {field}=..." for field in wanted)
            raise ConfigError(f"PATH={asked.path}: this model reads {' and '.join(wanted)}: write {given}")
        rows = [{wanted[0]: text} for text in asked.texts]
    check_rows(variant, rows, name=f"PATH={asked.path}")
    for row, answer in zip(
        rows, predict(variant, rows, max_new_tokens=asked.max_new_tokens, chat=asked.chat), strict=True
    ):
        if asked.json:
            print(json.dumps(row | answer, ensure_ascii=False), flush=True)
        else:
            print(_told(answer, top=asked.top), flush=True)
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
    parser.add_argument("--file", metavar="FILE", help="rows to answer: .jsonl with the columns, or one text a line")
    parser.add_argument("--json", action="store_true", help="one JSON object a text, with everything")
    parser.add_argument("--top", metavar="K", type=int, default=5, help="classes that are shown (5)")
    parser.add_argument("--max-new-tokens", metavar="N", type=int, default=64, help="how much is written (64)")
    parser.add_argument("--chat", action="store_true", help="the text is what a user says to a chat model")
    parser.add_argument("--threads", metavar="N", type=int, help="threads to compute on")
    parser.add_argument("-h", "--help", action="store_true", help="this page")
    return parser


def _rows(asked: argparse.Namespace) -> list[dict[str, str]]:
    """The rows to answer, but for texts that stand alone: what they are a column of, the model says."""
    given = [name for name, there in (("TEXT", asked.texts), ("--field", asked.field), ("--file", asked.file)) if there]
    if len(given) != 1:
        said = f"{' and '.join(given)} were given" if given else "none was given"
        raise ConfigError(f"kdlab predict: give texts, --field or --file; {said}")
    if asked.file:
        return _read(Path(asked.file).expanduser())
    row: dict[str, str] = {}
    for pair in asked.field:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise ConfigError(f"--field {pair}: write --field NAME=TEXT")
        row[name] = text
    return [row] if row else []


def _read(file: Path) -> list[dict[str, str]]:
    if not file.is_file():
        raise FileNotFoundError(f"--file {file}: no such file")
    lines = [line for line in file.read_text(encoding="utf-8").split("\n") if line.strip()]
    if file.suffix != ".jsonl":
        return [{"text": line} for line in lines]
    rows: list[dict[str, str]] = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(f"--file {file}: line {number} is not JSON ({error})") from error
        if not isinstance(row, dict):
            raise ValueError(f"--file {file}: line {number} is no object with columns")
        rows.append(row)
    return rows


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
