"""Task: what a classifier is asked and what it may answer, kept beside the model in `kdlab_task.json`.

    task = read_task(Path("multirun/helpsteer2/default/model"))
    task.names[3], task.template

Importable without torch.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

CLASSIFICATION, REGRESSION = "classification", "regression"
TASK_FILE = "kdlab_task.json"


@dataclass(frozen=True, kw_only=True)
class Task:
    """One decision about a text: a class (`kind` "classification", `names` by id) or a number ("regression", one name:
    that of the column).

    `template` puts the columns of a row together ("{prompt}\\n\\n{response}", see `text.fields`), of which a model
    reads at most `max_length` tokens. `column` is where the label stood.
    """

    kind: str
    names: tuple[str, ...]
    column: str
    template: str
    max_length: int

    def __post_init__(self) -> None:
        assert self.kind in (CLASSIFICATION, REGRESSION)
        assert len(self.names) >= 2 if self.kind == CLASSIFICATION else len(self.names) == 1

    @property
    def outputs(self) -> int:
        """What a head predicts for one text: a logit a class, or one number."""
        return len(self.names)

    @property
    def is_regression(self) -> bool:
        return self.kind == REGRESSION

    def save(self, folder: Path) -> None:
        """Write the task beside a model."""
        (folder / TASK_FILE).write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")


def read_task(folder: Path) -> Task | None:
    """The task that lies beside a model; None where there is none: it writes text. Raises ValueError for a file that is
    not whole."""
    file = folder / TASK_FILE
    if not file.is_file():
        return None
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return Task(**{**found, "names": tuple(found["names"])})
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{file}: is no task of kdlab ({error})") from error
