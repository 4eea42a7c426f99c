"""Every `kdlab` command shown in a README composes, and its flags exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from kdlab.cli import VERBS
from kdlab.commands.flags import FLAGS, TELLS, check_flags, job_flags
from kdlab.config.compose import Composer
from kdlab.config.loading import load_with, sweep_jobs
from kdlab.teachers.cache.manifest import Manifest

ROOT = Path(__file__).parents[1]
READMES = [ROOT / "README.md", *sorted(ROOT.glob("experiments/*/README.md"))]
SEPARATORS = {"&&", "||", ";", "|", ">", ">>", "&", "2>&1"}


def commands(markdown: str) -> Iterator[list[str]]:
    """The `kdlab` commands in the ```bash blocks: words after `kdlab`, continued lines joined, comments dropped."""
    for block in re.findall(r"^```bash\n(.*?)^```", markdown, re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            while words:
                end = next((i for i, word in enumerate(words) if word in SEPARATORS), len(words))
                command, words = words[:end], words[end + 1 :]
                starts = [i for i, word in enumerate(command) if Path(word).name == "kdlab"]
                if starts and not command[0].startswith("eval"):
                    yield command[starts[0] + 1 :]


SHOWN = [
    pytest.param(command, id=f"{file.relative_to(ROOT)}: {' '.join(command)}")
    for file in READMES
    if file.is_file()
    for command in commands(file.read_text(encoding="utf-8"))
]


def test_the_readme_shows_the_main_job() -> None:
    shown = list(commands((ROOT / "README.md").read_text(encoding="utf-8")))
    assert ["train", "experiment=quickstart"] in shown


@pytest.mark.slow
@pytest.mark.parametrize("command", SHOWN)
def test_command(command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)  # optional packages count as installed
    verb, *rest = command
    assert verb.startswith("-") or verb in VERBS
    if verb not in FLAGS or rest[:1] in (["verify"], ["show"]):
        return
    monkeypatch.setattr("kdlab.config.teachers.read_manifest", a_cache)
    composer = composer_of(TELLS.get(verb, verb))
    flags = check_flags(rest) if verb == "check" else job_flags(verb, rest)
    named = re.compile(r"(\w+\.(heldout_)?path|values\.(data|model))=")
    for option, path in (word.split("=", 1) for word in flags.overrides if named.match(word)):
        make_local(tmp_path, option, path)
    jobs = sweep_jobs(composer, flags.overrides) if flags.multirun else [flags.overrides]
    for job in (jobs or [])[:: max(len(jobs or []) - 1, 1)]:  # of a sweep the first and the last
        load_with(composer, job)


@cache
def composer_of(verb: str) -> Composer:
    return Composer(verb)


def a_cache(path: str, *, option: str = "teacher.path") -> Manifest:
    """The manifest of a cache that a README only names, as the commands shown before would write it."""
    assert path
    return Manifest(
        teacher={
            "path": "tiny:llama",
            "revision": None,
            "weight_hash": "0",
            "dtype": "float32",
            "quantization": "none",
        },
        tokenizer="",
        reading={},
        codec={"name": "topk", "k": 32, "temperature": 1.0},
        vocabulary=260,
        hidden=32,
        seed=0,
        shard_rows=1,
        batch_tokens=1,
        entries_hash="",
        counts={},
        versions={},
        command=[option],
        files={},
        shards=(),
    )


def make_local(folder: Path, option: str, path: str) -> None:
    """A file that a README only names exists for as long as the test runs; what lies outside the folder is skipped."""
    if path.startswith(("..", "/", "~")):
        pytest.skip(f"{option}={path} lies outside the project")
    if Path(path).suffix:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path.replace("*", "x")).write_text("{}")
    elif path.startswith("multirun/"):
        (folder / path).mkdir(parents=True)


@pytest.mark.parametrize("page", READMES[1:], ids=lambda page: page.parent.name)
def test_an_experiment_has_one_line_to_run_it_that_its_page_shows(page: Path) -> None:
    (line,) = page.with_name("run.sh").read_text(encoding="utf-8").splitlines()
    run = list(commands(f"```bash\n{line}\n```\n"))
    shown = list(commands(page.read_text(encoding="utf-8")))
    assert run
    assert all(command in shown for command in run)
    assert f"experiment={page.parent.name}" in line


def test_commands_are_found() -> None:
    first = "```bash\npip install . && kdlab train a=1 \\\n  b='c d'  # why\nkdlab report x | less\n```\n"
    text = first + "```\nkdlab no\n```\n"
    assert list(commands(text)) == [["train", "a=1", "b=c d"], ["report", "x"]]
