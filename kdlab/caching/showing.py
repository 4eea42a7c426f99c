"""What `kdlab cache show` and `kdlab cache verify` print."""

from __future__ import annotations

from typing import Any, TextIO

from rich.console import Console
from rich.table import Table

from kdlab.preflight.findings import size
from kdlab.teachers.cache.manifest import Manifest, manifest_in, read_manifest
from kdlab.teachers.cache.storage import open_storage
from kdlab.teachers.cache.store import codec_of
from kdlab.teachers.cache.verify import verify


def show(path: str) -> None:
    """Print what the finished cache at `path` is. Raises as `read_manifest` does."""
    manifest = read_manifest(path, option="PATH")
    table = Table(show_header=False, box=None, title=path, title_justify="left", pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in lines(manifest):
        table.add_row(name, value)
    Console().print(table)


def lines(manifest: Manifest) -> list[tuple[str, str]]:
    """What is said of a cache, by name."""
    teacher, counts = manifest.teacher, manifest.counts
    codec = codec_of(manifest.codec, named="codec")
    options = ", ".join(f"{k}={_word(v)}" for k, v in manifest.codec.items() if k not in ("name", "version"))
    packed = "" if teacher["quantization"] == "none" else f", {teacher['quantization']}"
    found = [
        ("teacher", f"{teacher['description']} ({teacher['dtype']}{packed})"),
        ("weights", str(teacher["weight_hash"])[:16] if teacher["weight_hash"] else "behind a server"),
        ("dataset", f"{manifest.reading['dataset.path']}, {manifest.reading['dataset.max_length']} tokens at most"),
        ("prompt", str(manifest.reading["prompt.name"])),
        ("codec", f"{manifest.codec['name']} ({options})"),
        ("", codec.bound),
        ("entries", f"{counts['entries']:,} ({counts['train']:,} to train on, {counts['heldout']:,} held out)"),
        ("rows", f"{counts['rows']:,}, over {manifest.vocabulary:,} tokens"),
        ("size", f"{size(manifest.bytes)} in {len(manifest.shards)} shards, {manifest.bytes_per_row:,.1f} bytes a row"),
        ("versions", ", ".join(f"{name} {version}" for name, version in manifest.versions.items() if version)),
        ("identity", manifest.identity[:16]),
    ]
    if manifest.fidelity is not None:
        found += [("fidelity" if i == 0 else "", line) for i, line in enumerate(_fidelity(manifest.fidelity))]
    return found


def say_verified(path: str, *, out: TextIO) -> bool:
    """Print what is wrong with a cache, or that nothing is. Returns whether all is well."""
    try:
        manifest = manifest_in(open_storage(path, option="PATH"), named=path)
    except (ValueError, FileNotFoundError) as error:  # nothing that could be looked through
        print(error, file=out)
        return False
    damage = verify(path)
    for line in damage:
        print(line, file=out)
    if damage:
        faults = "1 fault" if len(damage) == 1 else f"{len(damage)} faults"
        print(f"{path}: {faults}; delete the files named and run the same `kdlab cache` command again", file=out)
        return False
    print(
        f"{path}: all is as it was written: {len(manifest.shards)} shards, {manifest.counts['entries']:,} entries, "
        f"{manifest.counts['rows']:,} rows, {size(manifest.bytes)}",
        file=out,
    )
    return True


def _fidelity(numbers: dict[str, Any]) -> list[str]:
    return [f"{name.replace('_', ' ')} {_word(value)}" for name, value in numbers.items()]


def _word(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
