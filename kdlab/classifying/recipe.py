"""What `kdlab prepare` is told. Importable without torch."""

from __future__ import annotations

from dataclasses import dataclass, field

from kdlab.data.dataset import DatasetConfig
from kdlab.training.recipe import ClusterConfig


@dataclass(kw_only=True)
class PrepareConfig:
    """The dataset whose classes, folds and leakage are written down. `strict` ends with an error where text leaks
    between parts; else it is counted and said."""

    name: str = "prepare"
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    strict: bool = True
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
