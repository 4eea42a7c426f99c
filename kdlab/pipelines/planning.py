"""`plan`: the stages of a pipeline as they would be typed, each in a folder of its own.

stages = plan(config, Path("multirun/helpsteer2/fold=3"), knows=knows)
stages[1].command()  # ["kdlab", "train", "name=teacher", ...]
"""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kdlab.pipelines.recipe import OWN, PipelineConfig, StageConfig
from kdlab.training.options import STEERING, among

PLACEHOLDER = re.compile(r"\{\{([A-Za-z_]\w*)\}\}|(?<!\$)\{([A-Za-z_]\w*)\}")
"""`{{kept}}` or `{filled}`; `${...}` is Hydra's."""
WORD = re.compile(
    r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|(?:\{\{\w+\}\}|(?<!\$)\{[A-Za-z_]\w*\}|[^\s,\[\](){}:'"])+|.""", re.DOTALL
)
"""The words of a value: quoted texts, runs of plain signs and names in braces, or one sign."""
PLAIN = re.compile(r"[\w./+-]*", re.ASCII)
"""What Hydra reads without quotes."""

STEERING_A_STAGE = (*STEERING, "threads", "batch_size", "trainer.threads", "writing.threads", "writing.batch_size")
"""Options for which a stage that has finished is not made again: at most they change the order in which numbers are
added up."""

Knows = Callable[[str, str], bool]
"""Whether a verb has an option."""


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A stage to run: `options` with every name in braces filled in (of one that is left out: as they are written);
    `uses` are the earlier stages whose folders stand in them."""

    name: str
    verb: str
    options: list[str]
    folder: Path
    uses: tuple[str, ...] = ()
    enabled: bool = True

    def words(self) -> list[str]:
        """What follows `kdlab`; the folder is told to Hydra."""
        return [self.verb, *self.options, f"hydra.run.dir={quoted(str(self.folder))}"]

    def command(self, config_dir: str | None = None) -> list[str]:
        """The whole command, as one could type it."""
        return ["kdlab", *with_config_dir(self.words(), config_dir)]

    def chosen(self) -> dict[str, str]:
        """The options by name."""
        return {key_of(option): option.partition("=")[2] for option in self.options}


def with_config_dir(words: list[str], config_dir: str | None) -> list[str]:
    return words if config_dir is None else [words[0], "--config-dir", config_dir, *words[1:]]


def typed(overrides: Sequence[str], config_dir: str | None, place: Sequence[str] = ()) -> str:
    """The command of the whole pipeline, as one could type it; `place` are the options that say its folder."""
    words = ["pipeline", *(line.removeprefix("++") for line in overrides), *place]
    return shlex.join(["kdlab", *with_config_dir(words, config_dir)])


def place_of(folder: Path, config: PipelineConfig) -> list[str]:
    """The options that have a pipeline run in a folder, whatever its other options would name: on a cluster, where
    each job is one of a sweep, those of a sweep too."""
    place = [f"hydra.run.dir={quoted(str(folder))}"]
    if config.cluster.name != "local":
        place += [f"hydra.sweep.dir={quoted(str(folder.parent))}", f"hydra.sweep.subdir={quoted(folder.name)}"]
    return place


def plan(config: PipelineConfig, folder: Path, *, knows: Knows) -> list[Planned]:
    """The stages of a pipeline in `folder`, in their order; `knows(verb, option)` says which of the shared options each
    gets. A stage is called by its name in reports, unless its options say otherwise.

    Raises ValueError for braces around what is no earlier stage, value, seed or fold, and for a shared option that no
    stage has.
    """
    _refuse_unknown(config, knows)
    known: dict[str, str | None] = {
        "seed": str(config.seed),
        "fold": "null" if config.fold is None else f"{config.fold}",
    }
    known |= config.values or {}
    planned: list[Planned] = []
    used: set[str] = set()
    for name, stage in config.stages.items():
        place = folder / name
        if not stage.enabled:
            off = [*stage.options]
            used |= {found for option in off for found in names_in(option)}
            planned.append(Planned(name=name, verb=stage.verb, options=off, folder=place, enabled=False))
            continue
        options, uses = [], set()
        for where, option in _written(config, name, stage, knows):
            for inside in names_in(option):
                _refuse_name(config, name, inside, f"{where}: {option}", known)
                uses.add(inside)
            options.append(fill(option, known))
        used |= uses
        earlier = tuple(found for found in config.stages if found in uses)
        planned.append(Planned(name=name, verb=stage.verb, options=options, folder=place, uses=earlier))
        known[name] = str(place)
    for value in config.values or {}:
        if value not in used:
            near = _near(value, used - {*config.stages, *OWN})
            raise ValueError(f"values.{value}: no stage says {{{value}}}{near}: it would change nothing")
    return planned


def _written(config: PipelineConfig, name: str, stage: StageConfig, knows: Knows) -> Iterator[tuple[str, str]]:
    """The options of a stage and where each is written: the shared ones, its own, those that win over both."""
    last = [option for option in config.extra if knows(stage.verb, key_of(option))]
    written = [("options", option) for option in config.options if knows(stage.verb, key_of(option))]
    written += [(f"stages.{name}.options", option) for option in stage.options]
    written += [("extra", option) for option in last]
    final = {key_of(option): place for place, (_, option) in enumerate(written)}
    if "name" not in final:
        yield "name", f"name={name}"
    for place, (where, option) in enumerate(written):
        if final[key_of(option)] == place:
            yield where, option


def _refuse_unknown(config: PipelineConfig, knows: Knows) -> None:
    verbs = {stage.verb for stage in config.stages.values()}
    for where, option in [("options", o) for o in config.options] + [("extra", o) for o in config.extra]:
        if "=" not in option and not option.startswith("~"):
            raise ValueError(
                f"{where}: {option}: not an option; write <option>=<value>, and a value with commas in quotes, such as "
                f"\"{where}=[dataset.path='a,b.csv']\""
            )
        if not any(knows(verb, key_of(option)) for verb in verbs):
            raise ValueError(f"{where}: {option}: no stage has it: the verbs are {', '.join(sorted(verbs))}")


def _refuse_name(config: PipelineConfig, stage: str, name: str, where: str, known: Mapping[str, str | None]) -> None:
    """Refuse what a name in braces cannot be filled with."""
    if known.get(name) is not None:
        return
    if name in known:
        raise ValueError(f"values.{name} is not set, and stage {stage} needs it: write values.{name}=<text>")
    if name == stage:
        raise ValueError(f"{where}: {{{name}}} is the stage itself, which has nothing before it has run")
    if name in config.stages and not config.stages[name].enabled:
        raise ValueError(f"{where}: stage {name} is left out: write stages.{name}.enabled=true")
    if name in config.stages:
        raise ValueError(f"{where}: stage {name} comes later: move it before {stage}")
    raise ValueError(
        f"{where}: {{{name}}} is no earlier stage and no value{_near(name, known)}; "
        f"the names are {', '.join(known)}; braces that are meant as they are: {{{{{name}}}}}"
    )


def _near(name: str, known: Mapping[str, str | None] | set[str]) -> str:
    near = difflib.get_close_matches(name, sorted(known), n=2, cutoff=0.5)
    return f"; did you mean {' or '.join(f'{{{found}}}' for found in near)}?" if near else ""


def key_of(option: str) -> str:
    """The name of an option as typed."""
    return option.partition("=")[0].lstrip("+~")


def steers(option: str) -> bool:
    """Whether an option, by its name, only steers how a stage is run."""
    return among(option, STEERING_A_STAGE)


def names_in(option: str) -> list[str]:
    """The names in braces that are filled in."""
    return [found[2] for found in PLACEHOLDER.finditer(option) if found[2]]


def fill(option: str, known: Mapping[str, str | None]) -> str:
    """The option with its names in braces filled in, and in quotes where Hydra asks for them."""
    key, equals, value = option.partition("=")

    def filled(word: str) -> str:
        return PLACEHOLDER.sub(lambda found: f"{{{found[1]}}}" if found[1] else str(known[found[2]]), word)

    parts = [
        filled(word) if word[0] in "\"'" or not names_in(word) else quoted(filled(word)) for word in WORD.findall(value)
    ]
    return f"{key}{equals}{''.join(parts)}"


def quoted(text: str) -> str:
    """A text as Hydra reads it."""
    if text and PLAIN.fullmatch(text):
        return text
    # a backslash counts only before a quote, where each of a run of them is written twice
    escaped = re.sub(r'(\\*)("|$)', lambda found: 2 * found[1] + ('\\"' if found[2] else ""), text)
    return f'"{escaped}"'
