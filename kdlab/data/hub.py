"""Datasets of the hub: pinned to the commit they were read at, from the local cache where the hub does not answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kdlab.data.files import nearest
from kdlab.models import places
from kdlab.models.places import ask_hub


def load(
    path: str,
    *,
    subset: str | None,
    split: str,
    revision: str | None,
    streaming: bool,
    option: str,
    split_option: str = "dataset.split",
) -> tuple[Any, str]:
    """The dataset, and a name of its content that changes when its rows do.

    Raises FileNotFoundError for what neither the hub nor its cache has, ValueError for an unknown subset or split.
    """
    import datasets

    commit, silent = _ask(path, revision, option)
    try:
        with _offline(silent is not None):
            data = datasets.load_dataset(path, subset, split=split, revision=commit or revision, streaming=streaming)
    except (OSError, ValueError, RuntimeError) as error:
        raise _explained(error, path, subset, f"{split_option}={split}", option, silent) from error
    known = commit if commit is not None else getattr(data, "_fingerprint", revision)
    return data, f"{path} {subset} {split} {known}"


def _ask(path: str, revision: str | None, option: str) -> tuple[str | None, str | None]:
    """The commit `revision` names; or None, and why the hub is silent."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        got = ask_hub(lambda: HfApi().dataset_info(path, revision=revision, timeout=places.HUB_SECONDS))
    except RevisionNotFoundError as error:
        raise ValueError(f"dataset.revision={revision}: {path} has no such revision") from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise FileNotFoundError(
            f"{option}={path}: no such file or folder{nearest(Path(path))}, and no such dataset on the hub "
            "(for a private or gated one: `hf auth login`)"
        ) from error
    return (None, got) if isinstance(got, str) else (str(got.sha), None)


@contextmanager
def _offline(silent: bool) -> Iterator[None]:
    """Spares `datasets` half a minute of retries where the hub is known to be silent."""
    from datasets import config

    before = config.HF_HUB_OFFLINE
    config.HF_HUB_OFFLINE = before or silent
    try:
        yield
    finally:
        config.HF_HUB_OFFLINE = before


def _explained(
    error: Exception, path: str, subset: str | None, split: str, option: str, silent: str | None
) -> Exception:
    why = " ".join(str(error).split())[:300]
    if "split" in why.lower() and isinstance(error, ValueError):
        return ValueError(f"{split}: {why}")
    if isinstance(error, ValueError) and ("config" in why.lower()):
        return ValueError(f"dataset.subset={subset}: {why}")
    if silent is not None:
        return FileNotFoundError(
            f"{option}={path}: no such file or folder{nearest(Path(path))}; the hub does not answer ({silent}) and its "
            "cache has no copy"
        )
    return FileNotFoundError(f"{option}={path}: {type(error).__name__}: {why}")
