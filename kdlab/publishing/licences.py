"""Under which licences a student stands: of what it was made from, of whom it learned, of what both read.

A licence is what a README.md with a `license:` header says that lies here (beside the model or the data, or in the
hub's cache). Nothing is guessed: where there is none, it is unknown. A student or teacher that kdlab itself trained is
followed back to what that was made from, by the run.json beside it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kdlab.durable import read_json
from kdlab.publishing.records import Told

DEEPEST = 16
"""Runs that are followed back at most: each a student of the one before."""


@dataclass(frozen=True, kw_only=True)
class Licence:
    """`role` of a `thing`, its `licence` (None: unknown) and the hub's `id` of it, where it has one. `file` is the name
    of a licence's text that lies beside it, which is not read."""

    role: str
    thing: str
    licence: str | None
    id: str | None = None
    file: str | None = None


def chain(run: Told) -> list[Licence]:
    """Every model and dataset that the student of `run` stands on, each once, nearest first."""
    found: list[Licence] = []
    _follow(run, found, seen=set())
    return list(dict.fromkeys(found))


def of_base(links: list[Licence]) -> Licence | None:
    """What the student's weights came from; None where they are its own, or the chain does not tell."""
    return next((link for link in links if link.role == "base model"), None)


def _follow(run: Told, found: list[Licence], seen: set[Path]) -> None:
    place = run.folder.resolve()
    if place in seen or len(seen) >= DEEPEST:
        return
    seen.add(place)
    config = run.record["config"]
    student, data = config["student"], config["dataset"]
    teacher, revision = _taught_by(config["teacher"])
    found.append(_licence("dataset", str(data["path"]), data["revision"], repo_type="dataset"))
    if student["path"]:
        _add("base model", str(student["path"]), student["revision"], found, seen)
    elif student["from_teacher"] and teacher:
        _add("base model", teacher, revision, found, seen)
    if teacher is not None:
        _add("teacher", teacher, revision, found, seen)


def _taught_by(teacher: dict[str, Any]) -> tuple[str | None, str | None]:
    """The model behind a teacher and its revision: a cache names it, and so may a server. None where none taught."""
    if teacher["source"] == "none":
        return None, None
    path, revision = str(teacher["path"]), teacher["revision"]
    if teacher["source"] == "cached":
        kept = read_json(Path(path).expanduser() / "manifest.json")
        known = kept["teacher"] if isinstance(kept, dict) and "teacher" in kept else {"path": path, "revision": None}
        return str(known["path"]), known["revision"]
    return str((teacher["server"] or {}).get("model") or path), revision


def _add(role: str, path: str, revision: str | None, found: list[Licence], seen: set[Path]) -> None:
    """The licence of a model; of one that kdlab trained, those of what it was made from."""
    folder = Path(path).expanduser()
    record = read_json(folder.parent / "run.json") if folder.is_dir() else None
    if isinstance(record, dict) and record.get("verb") == "train" and not (folder / "README.md").is_file():
        before: list[Licence] = []
        _follow(Told(folder=folder.parent, record=record), before, seen)
        found += [replace(one, role=_role(role, one)) for one in before]
        return
    if not path.startswith("tiny:"):  # made in memory, of nothing
        found.append(_licence(role, path, revision, repo_type="model"))


def _role(role: str, link: Licence) -> str:
    if link.role == "base model":
        return role
    return link.role if role == "base model" else f"{role}'s {link.role.removeprefix(f'{role} ')}"


def _licence(role: str, path: str, revision: str | None, *, repo_type: str) -> Licence:
    place = Path(path).expanduser()
    if place.exists():
        folder = place if place.is_dir() else place.parent
        texts = sorted(file.name for file in folder.glob("LICEN[SC]E*") if file.is_file())
        beside = texts[0] if texts else None
        return Licence(role=role, thing=path, licence=_header(folder / "README.md"), file=beside)
    if path.count("/") > 1 or not path or path.startswith(("/", ".", "~")) or "://" in path:
        return Licence(role=role, thing=path, licence=None)
    return Licence(role=role, thing=path, licence=_header(_cached(path, revision, repo_type)), id=path)


def _cached(path: str, revision: str | None, repo_type: str) -> Path | None:
    """The README.md of a repository in the hub's cache here; nobody is asked."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(path, "README.md", revision=revision, repo_type=repo_type)
    except HFValidationError:
        return None
    return Path(found) if isinstance(found, str) else None


def _header(file: Path | None) -> str | None:
    """What the header of a card says of the licence; None where it says nothing that can be read."""
    from huggingface_hub import metadata_load

    if file is None or not file.is_file():
        return None
    try:
        said = metadata_load(file)
    except Exception:  # yaml's own errors have no name here: a card that cannot be read says nothing
        return None
    licence = (said.get("license_name") or said.get("license")) if isinstance(said, dict) else None
    if isinstance(licence, list):
        licence = " and ".join(map(str, licence))
    return str(licence) if licence else None
