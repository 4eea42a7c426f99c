"""Rows of local files: json, jsonl, csv, parquet and txt, named as a file, a glob or a folder."""

from __future__ import annotations

import csv
import difflib
import glob
import hashlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kdlab.text.formats import Row

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".txt")
SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "valid": "validation",
    "validation": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
}
"""A file belongs to a split where one of these words stands in its name, as the hub has it."""


def looks_local(path: str) -> bool:
    """Whether a path can only be meant as a local one (it may still be missing)."""
    return (
        Path(path).expanduser().exists() or path.startswith((".", "/", "~")) or path.endswith(SUFFIXES) or "*" in path
    )


def find_files(
    path: str, *, split: str = "train", option: str = "dataset.path", split_option: str = "dataset.split"
) -> list[Path]:
    """The data files a path means, sorted. A folder is searched through; where the names of its files tell splits
    (train.jsonl, test.jsonl), only those of `split` are taken.

    `option` and `split_option` are what gave `path` and `split`. Raises FileNotFoundError naming them and what lies
    nearby.
    """
    place = Path(path).expanduser()
    if place.is_file():
        files, from_folder = [place], False
    elif place.is_dir():
        files, from_folder = sorted(f for f in place.rglob("*") if f.is_file() and f.suffix.lower() in SUFFIXES), True
        if not files:
            raise FileNotFoundError(f"{option}={path}: the folder holds no {' '.join(SUFFIXES)} file")
    else:
        files, from_folder = sorted(Path(f) for f in glob.glob(str(place), recursive=True) if Path(f).is_file()), False
        if not files:
            raise FileNotFoundError(f"{option}={path}: no such file or folder{nearest(place)}")
    for file in files:
        if file.suffix.lower() not in SUFFIXES:
            raise ValueError(f"{option}={path}: {file.name} is of an unknown kind; known are {' '.join(SUFFIXES)}")
    if from_folder:
        files = _of_split(files, place, split, f"{option}={path}", split_option)
        kinds = sorted({f.suffix.lower() for f in files})
        if len(kinds) > 1:
            raise ValueError(
                f"{option}={path}: files of several kinds ({' '.join(kinds)}); name those you mean by a glob such as "
                f"{path.rstrip('/')}/*{kinds[0]}"
            )
    elif split != "train":
        if split_option == "dataset.split":
            raise ValueError(
                f"dataset.split={split}: local files have no splits; write dataset=local (or dataset.split=train) to "
                f"read {option}={path} as it is"
            )
        instead = split_option.replace("_split", "_path")
        raise ValueError(f"{split_option}={split}: local files have no splits; use {instead}=FILE of that split")
    return files


def _of_split(files: list[Path], folder: Path, split: str, typed: str, split_option: str) -> list[Path]:
    splits: dict[str, list[Path]] = {}
    for file in files:
        words = re.split(r"[^a-z]+", str(file.relative_to(folder).with_suffix("")).lower())
        found = next((SPLIT_WORDS[word] for word in reversed(words) if word in SPLIT_WORDS), "")
        splits.setdefault(found, []).append(file)
    if set(splits) == {""} and split == "train":
        return files
    wanted = SPLIT_WORDS.get(split, split)
    if wanted not in splits:
        known = ", ".join(sorted(s for s in splits if s)) or "no splits"
        if typed.startswith(("dataset.heldout_path=", "dataset.test_path=")):
            raise FileNotFoundError(f"{typed}: its files tell {known}, none of them {split}; name the file you mean")
        raise FileNotFoundError(f"{split_option}={split}: the files of {typed} tell {known}")
    return splits[wanted]


def nearest(place: Path) -> str:
    """What lies near a missing path and may be meant, as the rest of a sentence; empty where nothing does."""
    place, parent = place.absolute(), place.absolute().parent
    while not parent.is_dir():
        place, parent = parent, parent.parent
    names = [
        p.name for p in parent.iterdir() if not p.name.startswith(".") and (p.is_dir() or p.suffix.lower() in SUFFIXES)
    ]
    close = difflib.get_close_matches(place.name, sorted(names), n=3, cutoff=0.6)
    here = Path.cwd()
    shown = [parent / name for name in close]
    said = ", ".join(str(p.relative_to(here) if p.is_relative_to(here) else p) for p in shown)
    return f"; nearest: {said}" if close else f"; {parent} has none alike" if place.suffix in SUFFIXES else ""


def hash_files(files: list[Path]) -> str:
    """sha256 over the kinds and contents of the files, whatever they are called."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.suffix.lower()} {file.stat().st_size}\n".encode())
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


class _BrokenError(ValueError):
    """A file that cannot be read on; `read_rows` puts the option before it."""


def read_rows(file: Path, *, option: str = "dataset.path") -> Iterator[Row]:
    """The rows of one file. Raises ValueError naming `option`, file and line where it is broken."""
    try:
        yield from _rows(file)
    except _BrokenError as error:
        raise ValueError(f"{option}: {error}") from error


def _rows(file: Path) -> Iterator[Row]:
    suffix = file.suffix.lower()
    if suffix == ".parquet":
        yield from _parquet(file)
    elif suffix in (".csv", ".tsv"):
        yield from _csv(file, delimiter="\t" if suffix == ".tsv" else ",")
    elif suffix == ".txt":
        yield {"text": _text(file)}
    elif suffix == ".json" and _is_array(file):
        yield from _array(file)
    else:
        yield from _lines(file)


def _broken(file: Path, line: int | str, why: object) -> _BrokenError:
    return _BrokenError(f"{file}:{line}: {why}")


def _text(file: Path) -> str:
    raw = file.read_bytes()
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _broken(file, raw[: error.start].count(b"\n") + 1, "not UTF-8; convert it first") from error


def _is_array(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"["


def _array(file: Path) -> Iterator[Row]:
    try:
        rows = json.loads(_text(file))
    except json.JSONDecodeError as error:
        raise _broken(file, error.lineno, f"not valid JSON ({error.msg})") from error
    for i, row in enumerate(rows):
        yield _object(row, file, f"element {i + 1}")


def _lines(file: Path) -> Iterator[Row]:
    """One object a line. Lines end at "\\n" only: text may hold U+2028 and its kin, at which `splitlines` would cut."""
    with file.open("rb") as stream:
        for number, raw in enumerate(stream, start=1):
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
                if line.strip():
                    yield _object(json.loads(line), file, number)
            except UnicodeDecodeError as error:
                raise _broken(file, number, "not UTF-8; convert it first") from error
            except json.JSONDecodeError as error:
                hint = "" if file.suffix.lower() != ".json" else "; expected an array, or one object a line"
                raise _broken(file, number, f"not valid JSON ({error.msg}){hint}") from error


def _object(row: Any, file: Path, line: int | str) -> Row:
    if not isinstance(row, dict):
        raise _broken(file, line, f"expected an object with columns, found {type(row).__name__}")
    return row


def _csv(file: Path, *, delimiter: str) -> Iterator[Row]:
    csv.field_size_limit(sys.maxsize)
    with file.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream, delimiter=delimiter, strict=True)
        try:
            for row in reader:
                if None in row:
                    raise _broken(file, reader.line_num, f"more fields than the {len(row) - 1} columns of the header")
                yield dict(row)
        except csv.Error as error:
            raise _broken(file, reader.reader.line_num, f"not valid CSV ({error})") from error
        except UnicodeDecodeError as error:
            raise _broken(file, reader.reader.line_num + 1, "not UTF-8; convert it first") from error


def names_in(file: Path, column: str) -> list[str] | None:
    """The names of the ids in a column, as `datasets` writes them into a parquet file's schema; None where there are
    none."""
    if file.suffix.lower() != ".parquet":
        return None
    import pyarrow.parquet  # type: ignore[import-untyped]

    told = (pyarrow.parquet.read_schema(file).metadata or {}).get(b"huggingface")
    features = json.loads(told).get("info", {}).get("features", {}) if told else {}
    names = features.get(column, {}).get("names")
    return [str(name) for name in names] if names else None


def _parquet(file: Path) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        for batch in pyarrow.parquet.ParquetFile(file).iter_batches(batch_size=1024):
            yield from batch.to_pylist()
    except pyarrow.ArrowInvalid as error:
        raise _BrokenError(f"{file}: not a valid parquet file ({error})") from error
