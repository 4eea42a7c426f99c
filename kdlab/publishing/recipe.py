"""What `kdlab publish` is told. Importable without torch."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from kdlab.training.recipe import ClusterConfig

REPO = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9_][\w.-]{0,95}")


@dataclass(kw_only=True)
class PublishConfig:
    """The run at `run` (a folder with run.json) goes to `repo` (user/name) of the hub: its model/, its adapter/ where
    `adapter`, the variants of the `kdlab export` at `export` that passed (None: no variants), and a card made of their
    records.

    `dry_run` shows exactly what would go and sends nothing. `licence` is that of the result (None: the base model's,
    where it is known); `extra_runs` are further folders of runs (other folds, seeds, arms) for the card's intervals.
    The token is in the environment variable HF_TOKEN, and goes into no file.
    """

    name: str = "publish"
    run: str | None = None
    repo: str | None = None
    export: str | None = None
    extra_runs: list[str] = field(default_factory=list)
    private: bool = True
    adapter: bool = True
    dry_run: bool = True
    licence: str | None = None
    cluster: ClusterConfig = field(default_factory=ClusterConfig)

    def __post_init__(self) -> None:
        if self.repo is not None and (not REPO.fullmatch(self.repo) or "--" in self.repo or ".." in self.repo):
            raise ValueError(f"repo={self.repo}: must be user/name, of letters, digits and _ . -")
        if self.licence is not None and not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", self.licence):
            raise ValueError(
                f"licence={self.licence}: must be as the hub names it, such as apache-2.0, cc-by-4.0 or other"
            )
        if len(set(self.extra_runs)) < len(self.extra_runs):
            raise ValueError(f"extra_runs={self.extra_runs}: the same run twice")
