"""The page's details of a run: sizes and speed, samples, how it was made, its config."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from datetime import datetime
from typing import Any

from kdlab.reporting.markup import Html, fold, join, pairs, section, table, tag
from kdlab.reporting.numbers import NONE, duration, milliseconds, number, rate, size, times
from kdlab.reporting.runs import Run
from kdlab.reporting.samples import VOICES

WHO = ("teacher", "student")


def models(run: Run) -> Html:
    """Parameters, bytes, disk and speed of both models, and the student's share of the teacher's."""
    lines = [["weights held as", *(run.text("models", who, "dtype") or NONE for who in WHO), ""]]
    sources = [(who, run.text("models", who, "source") or NONE) for who in WHO]
    for title, field, show in (
        ("parameters", "parameters", number),
        ("of them trainable", "trainable_parameters", number),
        ("in memory", "bytes", size),
        ("on disk", "disk_bytes", size),
    ):
        teacher, student = (run.number("models", who, field) for who in WHO)
        kept = field == "disk_bytes" and run.value("models", "teacher", "codec") is not None
        ratio = "" if kept else _ratio(teacher, student, "smaller", "larger")  # signals on disk are no model's size
        lines.append([title, show(teacher), show(student), ratio])
    slow, fast = (
        run.number("metrics", "teacher", "tokens_per_second"),
        run.number("metrics", "after", "tokens_per_second"),
    )
    lines.append(["reads held-out text at", rate(slow), rate(fast), _ratio(fast, slow, "faster", "slower")])
    lines += _latency(run)
    compression = run.number("compression_ratio")
    told = f"Compression ratio, teacher to student parameters: {times(compression)}." if compression else None
    return section(
        "Sizes and speed",
        pairs(sources),
        table(["", "teacher", "student", "the student is"], lines),
        tag("p", told, class_="soft after") if told else None,
    )


def _latency(run: Run) -> list[list[str]]:
    """How long one text takes, and how many a second are decided in batches, where that was timed."""
    lines = []
    for title, field, show in (
        ("one text, the median", "p50_ms", milliseconds),
        ("one text, 95 % are faster", "p95_ms", milliseconds),
        ("texts a second", "examples_per_second", _three),
    ):
        teacher, student = (run.number("metrics", who, "latency", field) for who in ("teacher", "after"))
        if teacher is not None or student is not None:
            fast, slow = (student, teacher) if field == "examples_per_second" else (teacher, student)
            lines.append([title, show(teacher), show(student), _ratio(fast, slow, "faster", "slower")])
    return lines


def _three(value: float | None) -> str:
    return number(value, digits=3)


def _ratio(large: float | None, small: float | None, word: str, opposite: str) -> str:
    if not large or not small:
        return ""
    return f"{times(large / small)} {word}" if large >= small else f"{times(small / large)} {opposite}"


def samples(run: Run) -> Html | None:
    """What teacher and student write after the same prompts."""
    parts = []
    for index, sample in enumerate(run.value("samples") or [], start=1):
        voices = [
            tag("div", tag("b", title), tag("pre", str(sample[key]) or "(nothing)"))
            for key, title in VOICES
            if sample.get(key) is not None
        ]
        prompt = tag("pre", str(sample["prompt"]), class_="prompt")
        parts.append(join([tag("h3", f"Prompt {index}"), prompt, tag("div", *voices, class_="voices")]))
    return section("Samples", *parts) if parts else None


def config(run: Run) -> Html:
    """Every option as resolved, named as it is typed."""
    rows = [(tag("code", key), tag("code", value)) for key, value in flat(run.value("config"))]
    return section("Resolved config", fold(f"All {len(rows)} options", pairs(rows)))


def origin(run: Run) -> Html:
    """How the run was made and how to make it again."""
    steps, epochs = run.number("steps"), run.number("epochs")
    git = run.text("git", "sha")[:12] + (" with uncommitted changes" if run.value("git", "dirty") else "")
    facts = [
        ("state", run.state),
        ("started", _clock(run.text("started"))),
        ("finished", _clock(run.text("finished"))),
        ("continued", f"{number(run.number('resumed'))} ×, from a checkpoint" if run.number("resumed") else ""),
        ("steps", f"{number(steps)} in {number(epochs, digits=3)} epochs" if steps else ""),
        ("loss", run.text("loss", "name")),
        ("tokens", _amounts(run, "tokens", number)),
        ("time", _amounts(run, "seconds", duration)),
        ("training speed", rate(run.number("tokens_per_second")) if run.number("tokens_per_second") else ""),
        ("peak memory", _amounts(run, "peak_memory_bytes", size)),
        ("seeds", _listed(run.value("seeds"))),
        ("hardware", _hardware(run)),
        ("versions", _listed(run.value("versions"))),
        ("git", git if run.text("git", "sha") else ""),
        ("folder", str(run.folder)),
        ("notes", "; ".join(run.notes)),
    ]
    return section(
        "How it was made", tag("p", "Run it again:"), tag("pre", reproduce(run)), tag("h3", "Facts"), pairs(facts)
    )


def reproduce(run: Run) -> str:
    """The command that made the run."""
    return shlex.join(["kdlab", run.text("verb") or "train", *run.overrides])


def _typed(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def plain(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(plain, value))
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:,}"
    return _typed(value) if value or value is False else ""


def flat(found: Any, prefix: str = "", *, show: Callable[[Any], str] = _typed) -> list[tuple[str, str]]:
    """Nested dicts as ("loss.temperature", "2"), values by `show`: text as it is, the rest as JSON."""
    if not isinstance(found, dict):
        return []
    pairs_found: list[tuple[str, str]] = []
    for key, value in found.items():
        if isinstance(value, dict) and value:
            pairs_found += flat(value, f"{prefix}{key}.", show=show)
        else:
            pairs_found.append((f"{prefix}{key}", show(value)))
    return pairs_found


def _listed(found: Any) -> str:
    return ", ".join(f"{key} {value}" for key, value in flat(found) if value != "null")


def _amounts(run: Run, group: str, show: Any) -> str:
    found = run.value(group)
    keys = found if isinstance(found, dict) else {}
    known = [(key, run.number(group, key)) for key in keys]
    return ", ".join(f"{key} {show(value)}" for key, value in known if value is not None)


def _hardware(run: Run) -> str:
    cores, threads = run.number("hardware", "cores"), run.number("hardware", "threads")
    named = run.text("hardware", "device_name")
    device, memory = run.text("hardware", "device"), run.number("hardware", "memory_bytes")
    parts = [
        run.text("hardware", "processor"),
        f"{number(cores)} cores" if cores else "",
        f"{number(threads)} threads" if threads else "",
        f"{size(memory)} of memory" if memory else "",
        f"device {device}" if device else "",
        named if named != run.text("hardware", "processor") else "",
    ]
    return ", ".join(part for part in parts if part)


def _clock(iso: str) -> str:
    """An ISO time to the minute, as it is where it is none."""
    try:
        return datetime.fromisoformat(iso).strftime("%Y-%m-%d %H:%M %Z").strip()
    except ValueError:
        return iso
