"""kdlab cache: run a teacher once over a dataset and keep what it says.

    kdlab cache experiment=quickstart codec=topk codec.k=64
    kdlab cache verify multirun/quickstart/signals/default
    kdlab cache show multirun/quickstart/signals/default

The same command goes on where it stopped, and several of them fill one cache side by side.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from difflib import get_close_matches

from kdlab.commands.failures import answered
from kdlab.commands.flags import job_flags
from kdlab.config.mistakes import ConfigError

LOOKS = {
    "verify": "read every file of the cache at PATH and name what is damaged (exit status 1)",
    "show": "print what the cache at PATH is: teacher, codec, counts, size, fidelity",
}


def main(argv: Sequence[str]) -> int:
    """Returns the exit status: 0 done, 1 failed or damaged, 2 mistyped, 130 interrupted."""
    again = shlex.join(["kdlab", "cache", *argv])
    return answered(lambda: _main(argv), interrupted=f"interrupted; the same command continues: {again}")


def _main(argv: Sequence[str]) -> int:
    if argv and argv[0] in LOOKS:
        return look(argv[0], argv[1:])
    if argv and (near := get_close_matches(argv[0], LOOKS, n=1)):
        raise ConfigError(f"kdlab cache {argv[0]}: did you mean kdlab cache {near[0]}?")
    flags = job_flags("cache", argv)
    if flags.help:
        from kdlab.commands.job_help import help_text

        print(help_text("cache", flags.config_dir) + "\n\n" + _looks())
        return 0
    from kdlab.commands.cache_jobs import work
    from kdlab.commands.jobs import start

    return start("cache", flags, work)


def look(what: str, words: Sequence[str]) -> int:
    """`kdlab cache verify PATH` and `kdlab cache show PATH`."""
    if any(word in ("-h", "--help") for word in words):
        print(_looks())
        return 0
    if len(words) != 1:
        raise ConfigError(f"kdlab cache {what}: give one PATH, the folder or URL of a cache")
    path = words[0].removeprefix("output=").removeprefix("path=")
    if what == "show":
        from kdlab.caching.showing import show

        show(path)
        return 0
    from kdlab.caching.showing import say_verified

    return 0 if say_verified(path, out=sys.stdout) else 1


def _looks() -> str:
    return "\n".join(f"kdlab cache {f'{name} PATH':<14}{what}" for name, what in LOOKS.items())
