"""What stays at home: folders of this machine, and secrets.

clean("/home/ann/data/rows.jsonl")            # "~/data/rows.jsonl"
secrets_in(b'{"key": "hf_..."}', environment) # ["a token of the hub"]
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
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


class Cleaner:
    """Takes the folder that the command runs in and the home folder out of texts, and counts how often.

    A path below the first becomes relative, one below the second begins with ~.
    """

    def __init__(self, *, here: Path | None = None, home: Path | None = None) -> None:
        home, here = home or Path.home(), here or Path.cwd()
        self.count = 0
        places = {str(place): word for place, word in ((home, "~"), (home.resolve(), "~"), (here, "."))}
        # the longest first, so that a folder below the home folder is not cut there
        ordered = sorted((place for place in places if len(place) > 1), key=len, reverse=True)
        self._places = [(re.compile(rf"(?<![\w.~-]){re.escape(place)}(?![\w.-])"), places[place]) for place in ordered]

    def text(self, text: str) -> str:
        for pattern, word in self._places:
            text, found = pattern.subn(word, text)
            self.count += found
        return text

    def tree(self, content: Any) -> Any:
        """Plain values with every text in them cleaned, names too."""
        if isinstance(content, str):
            return self.text(content)
        if isinstance(content, Mapping):
            return {self.text(str(name)): self.tree(value) for name, value in content.items()}
        return [self.tree(value) for value in content] if isinstance(content, list | tuple) else content


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
