"""`export`: write a model in other forms, and hold each against the model.

    export(config, output_dir=Path("multirun/export/..."), resolved=..., overrides=[])

Every variant is a folder that is there whole or not at all; export.json says what each is worth. The same call on the
same folder goes on: what is written is not written again, and what is measured not measured again.
"""

from __future__ import annotations

import importlib.util
import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from kdlab.data.labelled.seen import keep_seen
from kdlab.durable import FolderLock, disk_is_full, read_json, replace_folder, write_json
from kdlab.exporting.examples import Examples, read_examples
from kdlab.exporting.forms import FORMS, Told, made_of
from kdlab.exporting.original import WORK, Original
from kdlab.exporting.processor import choose_processor
from kdlab.exporting.record import FAILED, GOOD, REFUSED, TORCH, ExportRecord, empty_entry, measured_by
from kdlab.exporting.telling import table
from kdlab.exporting.variants import DESCRIPTION, open_variant
from kdlab.exporting.verify import verify
from kdlab.models.progress import say
from kdlab.training.device import find_device, quiet_libraries
from kdlab.training.manifest import describe_device, versions
from kdlab.training.stopping import RunFailed

if TYPE_CHECKING:
    from kdlab.exporting.recipe import ExportConfig

SCHEMA = 1
UNMEASURED = ("name", "variants", "agreement", "kl", "calibration", "processor", "output", "cluster")
"""Options that the figures of a variant do not depend on, besides by how it was made."""


def export(config: ExportConfig, *, output_dir: Path, resolved: dict[str, Any], overrides: list[str]) -> dict[str, Any]:
    """Write and verify what is missing of `config.variants`, print one table, return the content of export.json.

    Raises RunFailed, when all is written and the table printed, where a variant failed or was refused; ValueError or
    FileNotFoundError with one line for a model, dataset or folder that does not fit.
    """
    resolved = json.loads(json.dumps(resolved))
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    with quiet_libraries(), FolderLock(output_dir):
        output = Path(config.output).expanduser() if config.output is not None else output_dir
        output.mkdir(parents=True, exist_ok=True)
        job = _Job(config, output=output, output_dir=output_dir, resolved=resolved, overrides=overrides)
        error = job.run()
    if error is not None:
        raise RunFailed(error)
    return job.record.content


class _Job:
    """One process's share of an export."""

    def __init__(
        self, config: ExportConfig, *, output: Path, output_dir: Path, resolved: dict[str, Any], overrides: list[str]
    ) -> None:
        assert config.model.path is not None, "the rules of the options refuse it"
        self.config, self.output, self.resolved = config, output, resolved
        self.device = find_device(config.accelerator, group="export")
        self.original = Original(config.model.path, work=output / WORK, device=str(self.device))
        self.told = Told(
            processor=choose_processor(config.processor),
            calibration=lambda: self.examples.calibration,
            calibration_count=config.calibration,
            seed=config.seed,
        )
        self.record = ExportRecord(output_dir, resolved=resolved, overrides=overrides, source=config.model.path)
        self.record.content["hardware"] |= describe_device(self.device)
        self.record.content |= {"threads": torch.get_num_threads(), "processor": self.told.processor.name}

    @cached_property
    def examples(self) -> Examples:
        found = read_examples(self.config, self.original.variant)
        say(f"verifying on {found.what} of {self.config.dataset.path}")
        self.tell_rows({"rows": found.what, "notes": found.notes})
        return found

    def tell_rows(self, told: dict[str, Any]) -> None:
        """On which rows the figures are, and what is to be known about these."""
        for note in told["notes"]:
            say(note)
        self.record.content |= told

    def run(self) -> str | None:
        """Returns what is to be said of variants that are not good; None where all are."""
        self.record.write()
        wanted = [name for name in FORMS if name in self.config.variants]
        if any(self.kept(name) is None for name in wanted):
            len(self.examples)  # a dataset that does not fit is told before anything is written
        else:
            self.tell_rows(self.record.earlier_rows)
        for name in wanted:
            self.record.put(self.entry(name))
        entries = self.record.content["variants"]
        bad = [entry for entry in entries if entry["status"] != GOOD]
        error = None
        if bad:
            said = "; ".join(f"{entry['name']} {entry['status']} ({entry['reason']})" for entry in bad)
            error = f"{len(bad)} of {len(wanted)} variants are not good: {said}"
        self.record.finish(error)
        if not any(entry["status"] == FAILED for entry in entries):
            self.original.forget()
        print(table(self.record.content), flush=True)
        return error

    def entry(self, name: str) -> dict[str, Any]:
        """One variant, written and measured, if it was not before; what fails is said, and the others go on."""
        folder, made = self.output / name, made_of(name, self.original, self.told)
        if (kept := self.kept(name)) is not None:
            if (before := self.record.earlier.get(TORCH)) is not None:
                self.record.put(before)
            return self.judged(kept)
        found = empty_entry(name, str(folder)) | {"note": FORMS[name].note}
        try:
            self.write(name, folder, made)
            return self.judged(found | self.measure(folder) | {"measured": self.measured(name)})
        except AssertionError:  # a fault of ours
            raise
        except Exception as error:  # whatever a backend raises: one variant fails, the others go on
            if isinstance(error, OSError) and disk_is_full(error):
                raise RunFailed(f"{folder}: {error.strerror}; make room and rerun the same command") from error
            words = " ".join(str(error).split()) or type(error).__name__
            return found | {"status": FAILED, "reason": words[:300]}

    def measured(self, name: str) -> str:
        """Stands for everything that the figures of a variant follow from."""
        how = {option: value for option, value in self.resolved.items() if option not in UNMEASURED}
        return measured_by(made_of(name, self.original, self.told), how, str(self.output / name))

    def kept(self, name: str) -> dict[str, Any] | None:
        """What an earlier process found out about a variant that is still there."""
        entry = self.record.kept(name, self.measured(name))
        return entry if self.is_there(self.output / name, made_of(name, self.original, self.told)) else None

    def is_there(self, folder: Path, made: dict[str, Any]) -> bool:
        described = read_json(folder / DESCRIPTION)
        return isinstance(described, dict) and described.get("made") == made

    def write(self, name: str, folder: Path, made: dict[str, Any]) -> None:
        """Write the variant's folder, unless it is there. Raises ValueError for a folder that holds something else."""
        if self.is_there(folder, made):
            return
        if folder.exists():
            raise ValueError(
                f"{folder}: holds another model, or was made with other options; delete it, or give another output="
            )
        lacking = [package for package in FORMS[name].needs if importlib.util.find_spec(package) is None]
        if lacking:
            extra = "export" if name.startswith("onnx") else "quant"
            raise ValueError(f"variants={name}: needs {', '.join(lacking)}; pip install 'kdlab[{extra}]'")
        say(f"writing {folder}")
        original = self.original

        def fill(beside: Path) -> None:
            original.write_beside(beside)
            FORMS[name].write(original, beside, self.told)  # packed weights come with a config that says so
            description = {
                "schema": SCHEMA,
                "variant": name,
                "kind": original.variant.kind,
                "source": original.source.description,
                "made": made,
                "versions": versions(),
            }
            write_json(beside / DESCRIPTION, description)
            keep_seen(original.variant.folder, beside)

        replace_folder(folder, fill)

    def measure(self, folder: Path) -> dict[str, Any]:
        """Open a variant as a user would, and hold it against the original."""
        original = self.original.variant
        variant = open_variant(folder, device=str(self.device), option="variant")
        say(f"verifying {folder}")
        theirs, ours = verify(
            original,
            variant,
            self.examples,
            batch_size=self.config.batch_size,
            latency_examples=self.config.latency_examples,
        )
        sizes = {"disk_bytes": original.disk_bytes, "memory_bytes": original.memory_bytes}
        if TORCH not in [entry["name"] for entry in self.record.content["variants"]]:
            beside = empty_entry(TORCH, self.original.path) | {"status": GOOD} | sizes | theirs
            self.record.content["variants"].insert(0, beside)
        return {
            "disk_bytes": variant.disk_bytes,
            "memory_bytes": variant.memory_bytes,
            **ours,
            "torch": {"latency": theirs["latency"], "examples_per_second": theirs["examples_per_second"]},
        }

    def judged(self, entry: dict[str, Any]) -> dict[str, Any]:
        """Good or refused, by the thresholds of now."""
        config, reason = self.config, None
        if self.original.task is None:
            if not entry["kl"] <= config.kl:
                reason = f"KL {entry['kl']:.4g} nats a token is above kl={config.kl:g}"
        elif not entry["agreement"] >= config.agreement:
            reason = f"agreement {entry['agreement']:.2%} is below agreement={config.agreement:g}"
        return entry | {"status": GOOD if reason is None else REFUSED, "reason": reason}
