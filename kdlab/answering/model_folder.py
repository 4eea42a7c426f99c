"""Which folder of a training run holds a model that writes, for whoever names another one."""

from __future__ import annotations

from pathlib import Path


def refuse_other_folder(path: str) -> None:
    """Raise ValueError for a folder of a run that is neither its `model/` nor its `adapter/`, naming what is meant."""
    folder, name = Path(path).expanduser(), f"model.path={path}"
    if not folder.is_dir() or (folder / "config.json").is_file() or (folder / "adapter_config.json").is_file():
        return
    shown = path.rstrip("/")
    if (folder / "model" / "config.json").is_file():
        raise ValueError(f"{name}: the folder of a run; its model is model.path={shown}/model")
    if (folder / "adapter").is_dir():
        raise ValueError(f"{name}: has an adapter and no model/; finish the run, which merges the two into model/")
    if (folder / "run.json").is_file():
        raise ValueError(f"{name}: the folder of a run that has written no model/ yet; finish the run first")
