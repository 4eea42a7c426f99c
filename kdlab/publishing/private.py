"""What stays at home: folders of this machine, and secrets.

clean("/home/ann/data/rows.jsonl")            # "~/data/rows.jsonl"
shortened("dataset.path=/data/ann/a/b.jsonl") # "dataset.path=…/a/b.jsonl"
secrets_in(b'{"key": "hf_..."}', environment) # ["a token of the hub"]
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

SHORTEST = 8
"""Characters that the value of a variable has at least to be looked for: a shorter one ("true") is in many files."""
NAMES = ("TOKEN", "KEY", "SECRET", "PASSWORD")
PATTERNS = {
    "a token of the hub": re.compile(rb"\bhf_[A-Za-z0-9]{20,}"),
    "an API key (sk-...)": re.compile(rb"\bsk-[A-Za-z0-9_-]{20,}"),
    "a GitHub token": re.compile(rb"\b(?:ghp|gho|ghs|github_pat)_[A-Za-z0-9_]{30,}"),
    "an AWS key": re.compile(rb"\bAKIA[0-9A-Z]{16}\b"),
    "a private key": re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "a URL with a password": re.compile(rb"://[^/\s:@\"'<>{}]+:[^/\s:@\"'<>{}]+@"),
}
WORDS = ("added_tokens_decoder", "chat_template", "classes", "id2label", "label2id", "labels", "prompt")
"""Names below which texts are a model's own, and no paths even where they look like one (`/m/01abc`)."""
KEPT = 2
"""Names at the end of a path that are shown of it."""
HOMES = ("home", "Users")
"""Folders of which each below is a user's."""

WHOLE = re.compile(r"((?:folder|gguf) |(?:[+~]*[\w.]+=)?(?=[^\n,'\"]* ))(/(?:(?!: )[^\n])*)")
"""A text that is nothing but a path: behind the word for what it is, or with blanks in it."""
PART = re.compile(
    r"(?P<url>(?<![A-Za-z0-9+.-])(?!file:)[A-Za-z][A-Za-z0-9+.-]*://(?:(?!::)[^\s\"'<>])+)"
    r"|(?<=['\"])/[^'\"\n]+(?=['\"])"
    r"|(?:(?<=file://)|(?<![\w.~/<>…\]})*-]))/(?!/)(?:[^\s\"'`|<>()\[\]{},;]|,(?=[\w.+~-]+=))+"
)
"""A URL, a path in quotes, a path (the folder of a run has commas in its name: `lr=1,seed=0`)."""
USER = re.compile(r"(?<=://)(?:[^/\s@]*|[^/\s@:]+:(?!\d+/)[^\s@]*)@")
KEY = re.compile(
    r"(?i)(?<=[?&;#])([\w.-]*(?:token|secret|passw|credential|signature|auth)[\w.-]*"
    r"|(?:[\w.-]*(?:[._-]|api|access))?key(?:[-_]?id)?|sig|pwd)=[^&;#\s]+"
)


def shortened(text: str) -> str:
    """`text` with each absolute path cut to its last two names, of which none is a user's, and each URL without the
    name, password and keys in it."""
    whole = WHOLE.fullmatch(text)
    if whole is not None:
        return whole[1] + _end(whole[2])
    return PART.sub(lambda found: _address(found[0]) if found["url"] else _end(found[0]), text)


def _end(path: str) -> str:
    names = PurePosixPath(path).parts[1:]
    if len(names) < KEPT:
        return path
    owned = [i for i, name in enumerate(names) if name == Path.home().name or names[max(i - 1, 0)] in HOMES]
    return "/".join(["…", *names[max(owned, default=-1) + 1 :][-KEPT:]])


def _address(url: str) -> str:
    return KEY.sub(r"\1=***", USER.sub("", url))


class Cleaner:
    """Takes the folders of this machine, and what opens a URL, out of texts, and counts how often.

    A path below the folder that the command runs in becomes relative, one below the home folder begins with ~; any
    other is `shortened`.
    """

    def __init__(self, *, here: Path | None = None, home: Path | None = None) -> None:
        home, here = home or Path.home(), here or Path.cwd()
        self.count = 0
        places = {str(place): word for place, word in ((home, "~"), (home.resolve(), "~"), (here, "."))}
        # the longest first, so that a folder below the home folder is not cut there
        ordered = sorted((place for place in places if len(place) > 1), key=len, reverse=True)
        self._places = [(re.compile(rf"(?<![\w.~-]){re.escape(place)}(?![\w.-])"), places[place]) for place in ordered]
        # in the name of a run's folder a path has - for /
        self._places += [
            (re.compile(rf"(?<==){re.escape(place.replace('/', '-'))}(?=-)"), places[place]) for place in ordered
        ]

    def text(self, text: str, *, paths: bool = True) -> str:
        """Without `paths`, only the two folders are taken out."""
        for pattern, word in self._places:
            text, found = pattern.subn(word, text)
            self.count += found
        shorter = shortened(text) if paths else text
        self.count += shorter != text
        return shorter

    def tree(self, content: Any, *, paths: bool = True) -> Any:
        """Plain values with every text in them cleaned; of names, and of what is a model's own words, only the two
        folders are taken out."""
        if isinstance(content, str):
            return self.text(content, paths=paths)
        if isinstance(content, Mapping):
            return {
                self.text(str(name), paths=False): self.tree(value, paths=paths and name not in WORDS)
                for name, value in content.items()
            }
        return [self.tree(value, paths=paths) for value in content] if isinstance(content, list | tuple) else content


def secrets_in(content: bytes, environment: Mapping[str, str]) -> list[str]:
    """What looks like a secret in `content`, each in words that do not give it away: a token's form, or the value of a
    variable of the `environment` whose name ends in TOKEN, KEY, SECRET or PASSWORD."""
    found = [what for what, pattern in PATTERNS.items() if pattern.search(content)]
    for name, value in environment.items():
        value = value.strip()
        if name.upper().endswith(NAMES) and len(value) >= SHORTEST:
            forms = (value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1])
            if any(form.encode("utf-8", "surrogateescape") in content for form in forms):
                found.append(f"the value of ${name}")
    return found
