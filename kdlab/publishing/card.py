"""The card of a model that kdlab made: README.md with the header that the hub reads, from records alone.

    text = model_card(records, repo="me/student", licence=None, links=chain(records.run), task=None, adapter=False)

No clock and no network goes into it: the same records give the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kdlab.publishing.figures import FIGURES, PARTS, folds_of, repeats, spread
from kdlab.publishing.licences import Licence, of_base
from kdlab.publishing.prose import sections
from kdlab.publishing.records import Records, Told
from kdlab.text.task import Task

SOMEWHERE = "<user>/<name>"
"""The repository of a card that is only looked at."""


def model_card(
    records: Records,
    *,
    repo: str | None,
    licence: str | None,
    links: Sequence[Licence],
    task: Task | None,
    adapter: bool,
) -> str:
    """The whole README.md. `licence` is the result's, None where it is not known; `links` are what it stands on; `task`
    says what the model decides (None: it writes text); `adapter`: whether adapter/ goes too."""
    header = _header(records, repo or SOMEWHERE, licence, links, task)
    parts = sections(records, repo=repo or SOMEWHERE, licence=licence, links=links, task=task, adapter=adapter)
    return f"---\n{header.to_yaml()}\n---\n\n" + "\n\n".join(parts) + "\n"


def _header(records: Records, repo: str, licence: str | None, links: Sequence[Licence], task: Task | None) -> Any:
    from huggingface_hub import ModelCardData

    base = of_base(list(links))
    data = next((link.id for link in links if link.role == "dataset"), None)  # the run's own is the first
    read = list(dict.fromkeys(link.id for link in links if link.role == "dataset" and link.id))
    results = _results(records, data, task)
    return ModelCardData(
        base_model=base.id if base is not None else None,
        datasets=read or None,
        library_name="transformers",
        license=licence,
        metrics=sorted({result.metric_type for result in results}) or None,
        model_name=repo.rpartition("/")[2],
        eval_results=results or None,
        pipeline_tag="text-classification" if task is not None else _written(records.run),
        tags=["kdlab", "knowledge-distillation"] if records.run.taught else ["kdlab"],
    )


def _written(run: Told) -> str:
    """What kind of text a model writes: one with a target apart from its source turns the one into the other."""
    sources = run.number("data", "train", "source_tokens")
    return "text2text-generation" if sources else "text-generation"


def _results(records: Records, data: str | None, task: Task | None) -> list[Any]:
    """The figures that the hub has a name for, of the test rows where there are any, else of the held-out ones."""
    from huggingface_hub import EvalResult

    dataset = records.run.record["config"]["dataset"]
    known, over_what = [], "runs" if folds_of(records.seeds) is None else "folds"
    for part, _ in PARTS:
        for figure in FIGURES:
            values = repeats(figure, records.seeds, "after", part)
            if figure.hub is None or not values:
                continue
            mean = spread(values, folds=folds_of(records.seeds)).mean
            over = "" if len(values) == 1 else f", mean of {len(values)} {over_what}"
            known.append(
                EvalResult(
                    task_type="text-classification" if task is not None else _written(records.run),
                    dataset_type=data or "custom",
                    dataset_name=data or "rows of the run",
                    dataset_split=(dataset.get("test_split") or "test") if part else "held out",
                    metric_type=figure.hub,
                    metric_name=f"{figure.title}{over}",
                    metric_value=round(mean, 6),
                )
            )
        if known:
            return known
    return known
