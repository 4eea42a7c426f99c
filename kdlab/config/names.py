"""Names that folders are called by."""

from __future__ import annotations

import re

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.=+-]{0,79}")


def check_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise ValueError(f"name={name}: a folder is named by it; use up to 80 letters, digits and _ . = + -")
