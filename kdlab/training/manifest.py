"""run.json: everything about one run, whole at any moment (schema 1). Torch-free until the device is known."""

from __future__ import annotations

import copy
import os
import platform
import subprocess
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdlab.durable import read_json, write_json
from kdlab.models.size import measure

if TYPE_CHECKING:
    import torch

    from kdlab.models.student import Student
    from kdlab.teachers.base import Teacher

SCHEMA = 1
DONE = ("finished", "stopped_early")
KNOWN = (
    "steps",
    "epochs",
    "seconds",
    "tokens",
    "tokens_per_second",
    "data",
    "models",
    "compression_ratio",
    "metrics",
    "samples",
)
"""What a run that continues knows already from the process before."""
PACKAGES = (
    *("kdlab", "torch", "transformers", "datasets", "peft", "lightning", "bitsandbytes", "torchao", "numpy"),
    *("rouge-score", "sacrebleu"),
)


class Manifest:
    """The content of `<output_dir>/run.json`. Change `content`, then `write()`."""

    def __init__(self, output_dir: Path, *, resolved: dict[str, Any], overrides: list[str]) -> None:
        self.path = output_dir / "run.json"
        found = read_json(self.path)
        self.earlier: dict[str, Any] = found if isinstance(found, dict) else {}
        self.content = _begin(resolved, overrides)
        if self.earlier:
            self.content["started"] = self.earlier["started"]
            self.content["resumed"] = self.earlier["resumed"]

    @property
    def done(self) -> bool:
        """Whether an earlier process has finished this run."""
        return self.earlier.get("status") in DONE

    def carry_over(self) -> None:
        """Keep what the process before has found out: this one continues its run, and may fail before it knows more."""
        self.content |= copy.deepcopy({key: self.earlier[key] for key in KNOWN if key in self.earlier})

    def write(self) -> None:
        write_json(self.path, self.content)

    def finish(self, status: str) -> None:
        self.content |= {"status": status, "finished": now(), "error": None}
        self.write()

    def fail(self, error: str) -> None:
        self.content |= {"status": "failed", "finished": now(), "error": error}
        self.write()


def _begin(resolved: dict[str, Any], overrides: list[str]) -> dict[str, Any]:
    """A record in which nothing has happened yet: every key of the schema is there."""
    return record_head("train", resolved, overrides) | {
        "seeds": {"seed": resolved["seed"]},
        "steps": 0,
        "epochs": 0.0,
        "seconds": {"load": 0.0, "train": 0.0, "evaluate": 0.0, "total": 0.0},
        "tokens": {"train": 0, "supervised": 0, "heldout": 0},
        "tokens_per_second": None,
        "peak_memory_bytes": {"host": None, "device": None},
        "data": None,
        "models": {"teacher": None, "student": None},
        "compression_ratio": None,
        "metrics": {"teacher": None, "before": None, "after": None},
        "loss": resolved["loss"],
        "samples": [],
        "files": {"metrics": "metrics.csv", "model": "model/", "page": "report.html", "samples": "samples.md"},
        "error": None,
    }


def record_head(verb: str, resolved: dict[str, Any], overrides: list[str]) -> dict[str, Any]:
    """How the record of a job of any verb begins: the options, and what the code runs on."""
    return {
        "schema": SCHEMA,
        "status": "running",
        "verb": verb,
        "name": resolved["name"],
        "overrides": list(overrides),
        "config": resolved,
        "git": git_state(Path(__file__).resolve().parent),
        "versions": versions(),
        "hardware": hardware(),
        "started": now(),
        "finished": None,
        "resumed": 0,
    }


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str | None]:
    """The version of each package that matters, None where it is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def git_state(folder: Path) -> dict[str, Any]:
    """The commit of the code in `folder`, and whether files differ from it; `sha` is None outside a repository."""

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    sha = git("rev-parse", "HEAD")
    return {"sha": sha, "dirty": bool(sha and git("status", "--porcelain"))}


def hardware() -> dict[str, Any]:
    """The machine, before the device is chosen (`describe_device`)."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "device": None,
        "device_name": None,
        "threads": None,
    }


def describe_device(device: torch.device) -> dict[str, Any]:
    import torch

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return {"device": device.type, "device_name": name, "threads": torch.get_num_threads()}


def describe(teacher: Teacher | None, student: Student) -> dict[str, Any]:
    """Both models: where from, how many parameters and bytes. The size of the student on disk is known at the end; of a
    teacher that is no model here, only what its cache or server tells.

    `teachers_tokenizer`: whether the student reads with the teacher's (None: there is no teacher).
    """
    from kdlab.models.pair import same_tokens

    of_student = _describe(student.model, student.description, None)
    of_student["tokenizer"] = f"{len(student.tokenizer)} tokens"
    of_student["teachers_tokenizer"] = same_tokens(student.tokenizer, teacher.tokenizer) if teacher else None
    return {"teacher": None if teacher is None else describe_teacher(teacher), "student": of_student}


def describe_teacher(teacher: Teacher) -> dict[str, Any]:
    """What the record of models says of a teacher. `identity` is the hash of its weights, or of its signals; `codec`
    how these are kept or told, None of a model."""
    from kdlab.teachers.cached import CachedTeacher
    from kdlab.teachers.remote import RemoteTeacher

    if teacher.model is not None:
        found = _describe(teacher.model, teacher.description, teacher.disk_bytes)
    else:
        found = {"source": teacher.description, **dict.fromkeys(UNKNOWN), "disk_bytes": teacher.disk_bytes}
    found |= {"identity": teacher.identity, "codec": None}
    if isinstance(teacher, RemoteTeacher):
        found["codec"] = {"name": "topk", "k": teacher.server.k, "temperature": 1.0}
    if isinstance(teacher, CachedTeacher):
        told = teacher.cache.manifest
        known = {"parameters": told.teacher.get("parameters"), "dtype": told.teacher["dtype"]}
        found |= {**known, "codec": told.codec}
    return found


UNKNOWN = ("parameters", "trainable_parameters", "bytes", "dtype")
"""What is not known of a teacher that is no model here."""


def _describe(model: Any, source: str, disk_bytes: int | None) -> dict[str, Any]:
    return {
        "source": source,
        **measure(model).as_dict(),
        "dtype": str(model.dtype).removeprefix("torch."),
        "disk_bytes": disk_bytes,
    }


def forget_peak(device: torch.device) -> None:
    """Measure the peak from here on: the jobs of a sweep share a process, and each has a peak of its own."""
    import torch

    with suppress(OSError):  # no Linux: the peak stays that of the whole process
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: torch.device) -> dict[str, int | None]:
    """Bytes this process held at most since `forget_peak`: resident on the host, allocated by torch on a GPU."""
    import torch

    on_device = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    return {"host": _resident_peak(), "device": on_device}


def _resident_peak() -> int:
    try:
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    import resource

    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
