"""What an option may be, refused in one line that names it as the user types it. Importable without torch."""

from __future__ import annotations


def at_least(option: str, value: float | None, lowest: float, *, unset: bool = False) -> None:
    """Refuse a `value` below `lowest`, and None where the option may not be `unset`."""
    if value is None and unset:
        return
    if value is None or not value >= lowest:
        raise ValueError(f"{option}={value}: must be {'null or ' if unset else ''}at least {lowest:g}")


def one_of(option: str, value: str, allowed: tuple[str, ...]) -> None:
    """Refuse a `value` that is not `allowed`."""
    if value not in allowed:
        raise ValueError(f"{option}={value}: must be one of {', '.join(allowed)}")
