"""pipeline.json: how far a pipeline has come, whole at any moment (schema 1). It holds no environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kdlab.durable import read_json, write_json
from kdlab.pipelines.planning import Planned, key_of, steers
from kdlab.pipelines.refusal import Refusal, refusal_of
from kdlab.training.options import refuse_changes

FILE = "pipeline.json"
RECORDS = {
    "prepare": "prepare.json",
    "cache": "cache.json",
    "train": "run.json",
    "generate": "generation.json",
    "evaluate": "evaluation.json",
    "export": "export.json",
    "publish": "publish.json",
}
"""The file in which each verb says how it went."""
GO_ON = ("export", "publish")
"""Verbs that make of what they made before what other options ask for."""
FINISHED, OFF = "finished", "off"


class PipelineRecord:
    """The content of pipeline.json. Of a stage: `name`, `verb`, `options` as typed, `folder` and `record` (its own
    record file) relative to the pipeline's folder, `status` ("waiting", "running", "finished", "failed", "interrupted"
    or "off": left out), `seconds` of all its starts together, and `error`, one line. `head` is what the file begins
    with (`training.manifest.record_head`).

    Raises ValueError, naming the option, where a finished stage is to be run with others, or was made of one that is
    to be run again.
    """

    def __init__(self, folder: Path, planned: list[Planned], *, head: dict[str, Any]) -> None:
        self.folder = folder
        found = read_json(folder / FILE)
        earlier: dict[str, Any] = found if isinstance(found, dict) else {}
        before = {stage["name"]: stage for stage in earlier.get("stages", [])}
        self.content = dict(head)
        if earlier:
            self.content["started"] = earlier["started"]
        self.content["stages"] = [self._begin(stage, before.get(stage.name)) for stage in planned]
        by_name = {stage.name: stage for stage in planned}
        for stage in planned:
            again = [by_name[used] for used in stage.uses if self.done(stage.name) and not self.done(used)]
            if again and stage.verb in GO_ON:
                self.stage(stage.name)["status"] = "waiting"
            elif gone := [used.name for used in again if not self._stands(used)]:
                raise ValueError(
                    f"{self.folder / stage.name}: was made of stage {gone[0]}, which is to be run again: delete that "
                    "folder too"
                )

    def _begin(self, stage: Planned, before: dict[str, Any] | None) -> dict[str, Any]:
        entry: dict[str, Any] = {
            "name": stage.name,
            "verb": stage.verb,
            "options": stage.options,
            "folder": stage.name,
            "record": None,
            "status": "waiting" if stage.enabled else OFF,
            "seconds": 0.0,
            "error": None,
        }
        if before is None:
            return entry
        entry["seconds"] = before["seconds"]
        if before["status"] == FINISHED and self._is_there(before):
            if stage.enabled:
                was, asked = _options(before["verb"], before["options"]), _options(stage.verb, stage.options)
                if was != asked and stage.verb == before["verb"] and stage.verb in GO_ON:
                    return entry
                refuse_changes(was, asked, what=f"stage {stage.name}", where=str(stage.folder))
            return {**before, "status": FINISHED}
        return entry

    def _stands(self, stage: Planned) -> bool:
        """Whether what a stage made stays as it is when it is run again: the variants of an export do, of one model."""
        return stage.verb == "export" and self.written(stage) is not None and all(map(self.done, stage.uses))

    def _is_there(self, entry: dict[str, Any]) -> bool:
        return entry["record"] is not None and (self.folder / entry["record"]).is_file()

    def stage(self, name: str) -> dict[str, Any]:
        """The entry of a stage, to be changed in place."""
        found: dict[str, Any] = next(stage for stage in self.content["stages"] if stage["name"] == name)
        return found

    def done(self, name: str) -> bool:
        """Whether a stage has finished, now or earlier."""
        return bool(self.stage(name)["status"] == FINISHED)

    def set(self, name: str, status: str, *, seconds: float = 0.0, error: str | None = None) -> None:
        """Write down how a stage stands."""
        entry = self.stage(name)
        file = f"{name}/{RECORDS[entry['verb']]}"
        there = (self.folder / file).is_file()
        entry |= {"status": status, "seconds": entry["seconds"] + seconds, "error": error}
        entry["record"] = file if there else None
        self.write()

    def own_error(self, name: str) -> str | None:
        """What a stage that failed has written of it into its record."""
        entry = self.stage(name)
        found = read_json(self.folder / name / RECORDS[entry["verb"]])
        error = found.get("error") if isinstance(found, dict) and found.get("status") == "failed" else None
        return None if error is None else str(error)

    def written(self, stage: Planned) -> int | None:
        """When a stage last wrote its own record, in nanoseconds; None where there is none."""
        file = self.folder / stage.name / RECORDS[stage.verb]
        return file.stat().st_mtime_ns if file.is_file() else None

    def refusal(self, stage: Planned) -> Refusal | None:
        """What an export that is through refused, or could not make."""
        return refusal_of(stage, read_json(self.folder / stage.name / RECORDS[stage.verb]))

    def end(self, status: str) -> None:
        from kdlab.training.manifest import now

        self.content |= {"status": status, "finished": now()}
        self.write()

    def write(self) -> None:
        write_json(self.folder / FILE, self.content)


def _options(verb: str, options: list[str]) -> dict[str, Any]:
    """The options that decide what a stage makes, by name, as `training.options` compares them."""
    deciding = [option for option in options if not steers(key_of(option))]
    return {"verb": verb} | {key_of(option): option.partition("=")[2] for option in deciding}
