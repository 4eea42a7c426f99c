"""`train`: run a training job in its folder, from the beginning or from where a killed process left it.

from kdlab.training.run import train
train(config, output_dir=Path("multirun/demo"), resolved=..., overrides=[])
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from kdlab.durable import FolderLock, disk_is_full
from kdlab.training.manifest import Manifest
from kdlab.training.options import binding, refuse_changes
from kdlab.training.ranks import rank
from kdlab.training.recipe import TrainConfig
from kdlab.training.stopping import RunFailed


def train(config: TrainConfig, *, output_dir: Path, resolved: dict[str, Any], overrides: list[str]) -> dict[str, Any]:
    """Distil (or fine-tune, without a teacher), write everything to `output_dir`, return the content of run.json.

    The same call on the same folder continues what was killed, bit for bit, and says so where nothing is left to do.
    `resolved` is the config as plain values, `overrides` how the user made it.

    Raises ValueError (`RunFailed` where training cannot go on) or FileNotFoundError with one line: options that do not
    fit, a folder of a run with other options or in use, a loss that is not finite, a full disk.
    """
    # What JSON keeps of it is what a later process compares with.
    resolved = json.loads(json.dumps(resolved))
    if _follows(config):
        manifest = Manifest(output_dir, resolved=resolved, overrides=overrides)
        return manifest.earlier if manifest.done else _work(config, output_dir, resolved, manifest)
    with FolderLock(output_dir):
        manifest = Manifest(output_dir, resolved=resolved, overrides=overrides)
        if manifest.done:
            return _finished(manifest, resolved)
        return _work(config, output_dir, resolved, manifest)


def _follows(config: TrainConfig) -> bool:
    """Whether this is not the first of several processes: the first holds the folder and writes."""
    return rank(config.trainer.devices) > 0


def _finished(manifest: Manifest, resolved: dict[str, Any]) -> dict[str, Any]:
    earlier, folder = manifest.earlier, manifest.path.parent
    refuse_changes(binding(earlier["config"]), binding(resolved), what="the finished run", where=str(folder))
    how = "stopped early" if earlier["status"] == "stopped_early" else "finished"
    print(f"{folder}: this run has {how} after {earlier['steps']} steps; delete the folder to run it again")
    return earlier


def _work(config: TrainConfig, output_dir: Path, resolved: dict[str, Any], manifest: Manifest) -> dict[str, Any]:
    started = time.perf_counter()
    from kdlab.training.session import Session

    session = Session(config, output_dir=output_dir, resolved=resolved, manifest=manifest, started=started)
    try:
        return session.run()
    except Exception as error:
        told = _told(error, output_dir)
        if session.began and session.rank == 0:
            with suppress(OSError):
                manifest.fail(str(told if told is not None else error).strip().split("\n")[0])
        if told is not None:
            raise told from error
        raise


def _told(error: Exception, output_dir: Path) -> RunFailed | None:
    """A full disk in one line, wherever it was met."""
    if isinstance(error, OSError) and disk_is_full(error):
        return RunFailed(f"{output_dir}: {error.strerror}; make room and rerun the same command")
    return None
