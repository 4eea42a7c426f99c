"""What `kdlab pipeline` is told. Importable without torch."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field

from kdlab.training.recipe import ClusterConfig

STAGE_VERBS = ("prepare", "cache", "train", "generate", "evaluate", "export", "publish")
STAGE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}")
"""What may stand between the braces of an option."""
OWN = ("seed", "fold")
"""Names in braces that are the pipeline's own options."""


@dataclass(kw_only=True)
class StageConfig:
    """One stage: `verb` and its `options`, as they would be typed. In these `{name}` is the folder of an earlier stage,
    `{seed}` and `{fold}` are the pipeline's, and `{key}` is one of its `values`; `{{name}}` stays `{name}`. `enabled`
    false leaves the stage out."""

    verb: str = "train"
    options: list[str] = field(default_factory=list)
    enabled: bool = True


@dataclass(kw_only=True)
class PipelineConfig:
    """`stages` by name, in the order in which they are written. `options` are added to every stage whose verb has them,
    unless it sets them itself; `extra` likewise, and win over all others. `values` are texts that the options of
    several stages have in common, such as the place of the data. `dry_run` prints the plan."""

    name: str = "pipeline"
    seed: int = 0
    fold: int | None = None
    values: dict[str, str | None] | None = None
    options: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)
    stages: dict[str, StageConfig] = field(default_factory=dict)
    dry_run: bool = False
    cluster: ClusterConfig = field(default_factory=ClusterConfig)

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed={self.seed}: must be between 0 and 4294967295")
        if self.fold is not None and self.fold < 0:
            raise ValueError(f"fold={self.fold}: must be null or at least 0")
        for name, stage in self.stages.items():
            if stage.verb not in STAGE_VERBS:
                near = difflib.get_close_matches(stage.verb, STAGE_VERBS, n=1, cutoff=0.5)
                guess = f"; did you mean {near[0]}?" if near else ""
                raise ValueError(f"stages.{name}.verb={stage.verb}: must be one of {', '.join(STAGE_VERBS)}{guess}")
        values = self.values or {}
        for group, names in (("stages", self.stages), ("values", values)):
            for name in names:
                if not STAGE_NAME.fullmatch(name):
                    raise ValueError(f"{group}.{name}: its name stands in braces; use letters, digits and _")
                if name in OWN or (group == "values" and name in self.stages):
                    raise ValueError(f"{group}.{name}: {{{name}}} means something else already; give it another name")
