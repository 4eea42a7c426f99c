"""Which files of a run go to the hub, and which stay, each with the reason.

The model lies at the root of the repository, so that `from_pretrained("me/student")` reads it; `adapter/` and
`variants/<name>/` below it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kdlab.data.labels import FOLDS
from kdlab.durable import to_json
from kdlab.exporting.record import TRACE
from kdlab.publishing.private import Cleaner, secrets_in
from kdlab.publishing.records import Records

WEIGHTS = (".safetensors", ".onnx", ".onnx_data", ".data", ".gguf")
TEXTS = (".json", ".txt", ".jinja", ".model")
"""Of a tokenizer; `.model` is SentencePiece's."""
WITH_PATHS = ("config.json", "generation_config.json", "adapter_config.json", "tokenizer_config.json", "variant.json")
"""Files in which libraries write down where things lay. No other is changed: a tokenizer's words are not paths."""
HEADER = 2**20
"""Bytes at the beginning of a file of weights that are searched for secrets: its header is there."""
CARD, RECORD = "README.md", "run.json"


@dataclass(frozen=True, kw_only=True)
class Item:
    """One file: its `path` in the repository, what is sent (`content`, or where that is None the file at `source`), how
    many bytes (`size`), their `sha256`, and git's `oid` of them. Files of one `group` go in one commit."""

    path: str
    group: str
    size: int
    sha256: str
    oid: str
    source: Path | None = None
    content: bytes | None = None


@dataclass(kw_only=True)
class Plan:
    """What goes, in the order in which it goes, and what does not: path to reason. `cleaned` counts the texts that
    lost folders of this machine, or what opens a URL."""

    items: list[Item] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    cleaned: int = 0

    @property
    def size(self) -> int:
        return sum(item.size for item in self.items)


def plan_files(records: Records, card: str, *, adapter: bool, environment: Mapping[str, str]) -> Plan:
    """Everything that would go to the hub. Raises FileNotFoundError without a model/, and ValueError, naming the file,
    where something looks like a secret, or a graph tells this machine's folders."""
    run, plan, cleaner = records.run.folder, Plan(), Cleaner()
    if not (run / "model" / "config.json").is_file():
        raise FileNotFoundError(f"run={run}: has no model/; finish the run first")
    _folder(plan, run / "model", "", "model", cleaner)
    if (run / "adapter").is_dir():
        if adapter:
            _folder(plan, run / "adapter", "adapter/", "adapter", cleaner)
        else:
            plan.left_out["adapter/"] = "adapter=false"
    for variant in records.variants:
        place = f"variants/{variant.name}/"
        if not variant.is_good:
            plan.left_out[place] = f"{variant.told.text('status')}: {variant.told.text('reason') or 'no reason given'}"
        elif variant.folder is None or not variant.folder.is_dir():
            raise FileNotFoundError(f"export={records.export and records.export.folder}: {variant.name} is gone")
        else:
            _folder(plan, variant.folder, place, place, cleaner)
    _rest(plan, run)
    plan.items += [
        _of_bytes(RECORD, "card", _record(records, cleaner), source=run / RECORD),
        _of_bytes(CARD, "card", cleaner.text(card, paths=False).encode()),
    ]
    plan.cleaned = cleaner.count
    _refuse_private(plan, environment)
    return plan


def _folder(plan: Plan, folder: Path, place: str, group: str, cleaner: Cleaner) -> None:
    for file in sorted(folder.rglob("*")):
        if file.is_dir() and not file.is_symlink():
            continue
        path = f"{place}{file.relative_to(folder).as_posix()}"
        reason = _unfit(file)
        if reason is not None:
            plan.left_out[path] = reason
        elif file.name in WITH_PATHS:
            plan.items.append(_of_bytes(path, group, _cleaned(file, cleaner), source=file))
        else:
            plan.items.append(_of_file(path, group, file))


def _unfit(file: Path) -> str | None:
    """Why a file does not go, None where it does."""
    if file.is_symlink():
        return "a link"
    if file.name.startswith("."):
        return "hidden"
    if file.name == CARD:
        return "not of kdlab; the repository has one card"
    if file.name == FOLDS:
        return "which rows the model learnt from: of the run, not of the model"
    if file.suffix in (".bin", ".pt", ".pth", ".ckpt", ".pkl"):
        return "pickled: it can run code when loaded"
    return None if file.suffix in (*WEIGHTS, *TEXTS) else "not a kind of file that belongs to a model"


def _rest(plan: Plan, run: Path) -> None:
    """What else lies in the folder of the run, one line a folder."""
    known = {"model": "", "adapter": "", RECORD: ""}
    why = {"checkpoints": "for going on with training", ".hydra": "how the command was typed"}
    for entry in sorted(run.iterdir()):
        if entry.name not in known:
            name = f"{entry.name}/" if entry.is_dir() else entry.name
            plan.left_out[name] = why.get(entry.name, "of the run, not of the model")
    plan.left_out["samples in run.json"] = "texts of the data"


def _record(records: Records, cleaner: Cleaner) -> bytes:
    """run.json without the texts of the data that it shows, and without this machine's folders."""
    told = cleaner.tree({name: value for name, value in records.run.record.items() if name != "samples"})
    return to_json(told)


def _cleaned(file: Path, cleaner: Cleaner) -> bytes:
    """A file of JSON without this machine's folders; as it is where there are none, or it is no JSON."""
    content, before = file.read_bytes(), cleaner.count
    try:
        told = cleaner.tree(json.loads(content))
    except ValueError:
        return content
    return content if cleaner.count == before else (json.dumps(told, indent=2, ensure_ascii=False) + "\n").encode()


def _of_bytes(path: str, group: str, content: bytes, *, source: Path | None = None) -> Item:
    sha256, oid = _hashes(len(content), iter([content]))
    return Item(path=path, group=group, size=len(content), sha256=sha256, oid=oid, source=source, content=content)


def _of_file(path: str, group: str, file: Path) -> Item:
    count = file.stat().st_size
    with file.open("rb") as opened:
        sha256, oid = _hashes(count, iter(lambda: opened.read(2**22), b""))
    return Item(path=path, group=group, size=count, sha256=sha256, oid=oid, source=file)


def _hashes(count: int, blocks: Iterator[bytes]) -> tuple[str, str]:
    """The sha256 of a content, and its name in git: the sha1 of a header with its length, then the content."""
    whole, named = hashlib.sha256(), hashlib.sha1(f"blob {count}\0".encode(), usedforsecurity=False)
    for block in blocks:
        whole.update(block)
        named.update(block)
    return whole.hexdigest(), named.hexdigest()


def _refuse_private(plan: Plan, environment: Mapping[str, str]) -> None:
    for item in plan.items:
        content = _searched(item)
        if item.path.endswith(".onnx") and TRACE.encode() in content:
            raise ValueError(
                f"{item.source or item.path}: its graph tells the folders of the machine that wrote it; nothing is "
                "sent. Delete the folder of this variant and run the same `kdlab export` again"
            )
        found = secrets_in(content, environment)
        if found:
            raise ValueError(
                f"{item.source or item.path}: has what looks like {found[0]}; nothing is sent. Take it out, and make "
                "the secret invalid where it was given out: it lies in that file"
            )


def _searched(item: Item) -> bytes:
    """The whole of a text, the beginning of a file of weights."""
    if item.content is not None:
        return item.content
    assert item.source is not None
    with item.source.open("rb") as opened:
        return opened.read(HEADER if item.path.endswith(WEIGHTS) else -1)
