"""Rules of a job that asks a classifier: `kdlab evaluate` with dataset.labels."""

from __future__ import annotations

from pathlib import Path

from kdlab.answering.recipe import EvaluateConfig
from kdlab.config.families import check_model
from kdlab.text.task import read_task


def check_classifier(config: EvaluateConfig) -> None:
    """What is told is about decisions, and the model is one that can be opened by its path alone."""
    path = config.model.path
    assert path is not None
    refused = {
        f"manual={config.manual}": config.manual is not None,
        f"model.revision={config.model.revision}": config.model.revision is not None,
        "model.trust_remote_code=true": config.model.trust_remote_code,
    }
    for option, is_set in refused.items():
        if is_set:
            raise ValueError(f"{option}: a classifier (dataset.labels) is judged without it; drop it")
    if config.quantization.kind != "none":
        raise ValueError(
            f"quantization={config.quantization.kind}: a classifier is judged as it lies; write it in that form by "
            "`kdlab export`, and give the variant's folder as model.path"
        )
    if path.startswith("tiny:"):
        raise ValueError(f"model.path={path}: has no head that was trained to decide; give a classifier")
    check_model("model.path", path, labelled=True)


def refuse_classifier(path: str) -> None:
    """Raise ValueError for a classifier that kdlab trained, where nothing says which column it is to be judged by."""
    folder = Path(path).expanduser()
    inside = next((place for place in (folder, folder / "model") if (place / "config.json").is_file()), folder)
    task = read_task(inside) if inside.is_dir() else None
    if task is not None:
        more = " dataset.labels.regression=true" if task.is_regression else ""
        raise ValueError(
            f"model.path={path}: a classifier that decides {task.column}; give rows with that column: write "
            f"dataset.path=<rows> dataset.labels.column={task.column}{more}, or the dataset=<option> of its training"
        )
