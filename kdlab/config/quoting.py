"""What Hydra's grammar cannot read without quotes, and is clear all the same: given the quotes, or shown with them."""

from __future__ import annotations

import os
import re
import shlex

from kdlab.pipelines.planning import quoted

PIECE = re.compile(r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|.""", re.DOTALL)
"""A text in quotes, or one sign."""
OPTION = re.compile(r"[+~]*[\w./]+=.*|~[\w./]+", re.DOTALL)
"""An option that stands in no quotes, or what takes one away."""
OPTIONS = re.compile(r"\+*(extra|options|stages\.\w+\.options)")
"""What a pipeline has that is a list of options."""


def with_path_quoted(line: str) -> str | None:
    """The override with its value in quotes, where that is an existing file or folder whose name Hydra cannot read,
    such as multirun/cache/signals/codec=topk,codec.k=16; None for any other."""
    key, _, value = line.partition("=")
    special = any(sign in value for sign in "\"'\\$")
    return f'{key}="{value}"' if value and not special and os.path.exists(os.path.expanduser(value)) else None


def with_items_quoted(line: str) -> str | None:
    """The override with the options in its list in quotes: `extra=["trainer.threads=1"]` of
    `extra=[trainer.threads=1]`, and so in each list of a sweep; None where there are none."""
    key, _, value = line.partition("=")
    lists = parts_of(value)
    if not all(part.startswith("[") and part.endswith("]") for part in lists):
        return None
    items = [[quoted(item) if OPTION.fullmatch(item) else item for item in parts_of(part[1:-1])] for part in lists]
    mended = f"{key}={','.join('[' + ','.join(part) + ']' for part in items)}"
    return None if mended == line else mended


def as_list(key: str, text: str) -> str:
    """An option whose value should have been a list, as a shell takes it."""
    return shlex.quote(f"{key}=[{','.join(quoted(part) for part in parts_of(text.strip('[]')) if part)}]")


def parts_of(text: str) -> list[str]:
    """What stands between the commas that are in no quotes and no brackets."""
    parts, depth = [""], 0
    for piece in PIECE.findall(text):
        depth += (piece in "[{(") - (piece in "]})")
        if piece == "," and not depth:
            parts.append("")
        else:
            parts[-1] += piece
    return [part.strip() for part in parts]
