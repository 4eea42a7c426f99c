"""Small datasets with labels, written to files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rated_files import write

from kdlab.data.dataset import DatasetConfig
from kdlab.data.labels import LabelsConfig


@pytest.fixture
def dataset(tmp_path: Path) -> Callable[..., DatasetConfig]:
    """`dataset(train, test=rows, heldout=rows, column="rating", bins=..., folds=5)`: files, and the options that read
    them."""

    def made(rows: list[dict[str, Any]], **options: Any) -> DatasetConfig:
        labels = {name: options.pop(name) for name in list(options) if name in LabelsConfig.__dataclass_fields__}
        for name in ("test", "heldout"):
            if name in options and isinstance(options[name], list):
                options[f"{name}_path"] = write(tmp_path / f"{name}.jsonl", options.pop(name))
        path = write(tmp_path / "rows.jsonl", rows)
        options = {"cache_dir": str(tmp_path / "cache")} | options
        return DatasetConfig(path=path, labels=LabelsConfig(**({"column": "rating"} | labels)), **options)

    return made
