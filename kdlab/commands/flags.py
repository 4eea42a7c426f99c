"""The flags of commands that take overrides. Everything that is no flag is an override."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from kdlab.config.mistakes import ConfigError, nearest

JOB_FLAGS = {
    "-m, --multirun": "sweep: run every combination of comma-separated values",
    "-s, --show": "print the whole config and stop",
    "-c, --config-dir DIR": "a folder of your own option files (DIR/experiment/mine.yaml)",
    "-h, --help": "this page",
}

CHECK_FLAGS = {
    "-m, --multirun": "check every run of a sweep",
    "-c, --config-dir DIR": "a folder of your own option files (DIR/experiment/mine.yaml)",
    "--json FILE": "write what was found, with all numbers, to FILE",
    "--memory GIB": "assume a device with so much memory",
    "--no-probe": "time nothing: no prediction of hours",
    "-h, --help": "this page",
}
FLAGS = {
    "train": JOB_FLAGS,
    "cache": JOB_FLAGS,
    "generate": JOB_FLAGS,
    "evaluate": {"--manual FILE": "the unresolved.csv of this job, graded by a person", **JOB_FLAGS},
    "prepare": JOB_FLAGS,
    "export": JOB_FLAGS,
    "publish": JOB_FLAGS,
    "pipeline": {"-n, --dry-run": "print the plan and stop", **JOB_FLAGS},
    "check": CHECK_FLAGS,
}
"""The flags of every verb that takes options."""
TELLS = {"check": "train"}
"""Verbs that take the options of another."""


@dataclass(frozen=True, kw_only=True)
class Flags:
    """What was typed after the verb. `manual` is a flag of `kdlab evaluate` alone, `dry_run` of `kdlab pipeline`."""

    overrides: list[str]
    multirun: bool
    show: bool
    config_dir: str | None
    help: bool
    manual: str | None = None
    dry_run: bool = False


@dataclass(frozen=True, kw_only=True)
class CheckFlags:
    """What was typed after `check`. `memory` is in GiB."""

    overrides: list[str]
    multirun: bool
    config_dir: str | None
    json: str | None
    memory: float | None
    probe: bool
    help: bool


class Parser(argparse.ArgumentParser):
    """Says a mistake in one line."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; `{self.prog} --help` lists the flags")


def job_flags(verb: str, argv: Sequence[str]) -> Flags:
    """Read the flags of a verb that starts jobs.

    Raises:
        ConfigError: for a flag that does not exist; an option typed as a flag is told how to be typed.
    """
    parser = Parser(prog=f"kdlab {verb}", add_help=False, allow_abbrev=False)
    parser.add_argument("-m", "--multirun", action="store_true")
    parser.add_argument("-s", "--show", action="store_true")
    parser.add_argument("-c", "--config-dir")
    parser.add_argument("-h", "--help", action="store_true")
    if verb == "evaluate":
        parser.add_argument("--manual")
    if verb == "pipeline":
        parser.add_argument("-n", "--dry-run", action="store_true")
    known, rest = parser.parse_known_args(list(argv))
    return Flags(overrides=overrides_only(rest, verb), **vars(known))


def check_flags(argv: Sequence[str]) -> CheckFlags:
    """Read the flags of `kdlab check`. Raises as `job_flags` does."""
    parser = Parser(prog="kdlab check", add_help=False, allow_abbrev=False)
    parser.add_argument("-m", "--multirun", action="store_true")
    parser.add_argument("-c", "--config-dir")
    parser.add_argument("--json")
    parser.add_argument("--memory", type=float)
    parser.add_argument("--no-probe", action="store_false", dest="probe")
    parser.add_argument("-h", "--help", action="store_true")
    known, rest = parser.parse_known_args(list(argv))
    if known.memory is not None and not known.memory > 0:
        raise ConfigError(f"--memory {known.memory:g}: must be > 0 GiB")
    return CheckFlags(overrides=overrides_only(rest, "check"), **vars(known))


def overrides_only(words: list[str], verb: str) -> list[str]:
    """The words as they are. Raises ConfigError for one that was meant as a flag."""
    for word in words:
        if word.startswith("-"):
            raise ConfigError(no_such_flag(word, verb))
    return words


def no_such_flag(word: str, verb: str = "train") -> str:
    """One line about a word with dashes that is no flag."""
    bare = word.lstrip("-")
    if "=" in bare or "." in bare:
        return f"{word}: options have no dashes: {bare if '=' in bare else bare + '=<value>'}"
    flags = [flag.split(" ")[0].rstrip(",") for flags in FLAGS[verb] for flag in flags.split(", ")]
    near = nearest(word, flags)
    guess = f"did you mean {near[0]}?" if near else f"the flags are {', '.join(FLAGS[verb])}"
    return f"{word}: no such flag; {guess}"
