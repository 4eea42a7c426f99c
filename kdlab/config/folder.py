"""The folder of a run, named by what was overridden: the same options find the same folder, and its checkpoint."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf

from kdlab.config.options import knows
from kdlab.pipelines.planning import key_of, steers
from kdlab.training.options import STEERING, among

LONGEST = 120
UNSAFE = re.compile(r"[^A-Za-z0-9_.=+~-]+")
PATH = re.compile(r"=.*/(?=[^/]+/[^/]*$)")
"""What stands before the last two parts of a path."""
DEFAULT_NAME = "train"
MAKERS = ("cache", "train", "generate")
"""The verbs that make what later stages learn from."""
NAMELESS = re.compile(r"name|manual|dry_run|stages\.\w+\.enabled|values\.repo")


def run_folder(name: str, overrides: Iterable[str]) -> str:
    """A file name for a list of overrides: `loss=reverse_kl,loss.temperature=2`, or `default` where there are none.

    Sorted, so their order does not matter. `name=` is left out, and `manual=`, which grades what is there, `dry_run=`,
    `stages.<name>.enabled=` and `values.repo=`, for the same pipeline goes on with a stage more or less, and what only
    steers a run, such as `trainer.progress=`; `experiment=` too unless the run has the default name, since `name`
    already says it. Of a pipeline's `extra=` there is what changes a model: `+trainer.max_epochs=3`.

    Characters other than letters, digits and `_.=+~-` become `-`; of a long name paths keep their last two parts, and
    its end is cut. Then eight digits of a hash of the overrides keep the name unique.
    """
    pairs: dict[str, str] = {}
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        key = override.key_or_group
        if key == "extra" and isinstance(options := override.value(), list):
            added = [str(option) for option in options if _changes_a_model(str(option))]
            pairs |= {f"+{key_of(option)}": f"+{option.lstrip('+')}" for option in added}
            continue
        if NAMELESS.fullmatch(key) or among(key, STEERING) or (key == "experiment" and name != DEFAULT_NAME):
            continue
        pairs[key] = ("~" if override.is_delete() else "") + f"{key}={value_text(override)}"
    if not pairs:
        return "default"
    parts = [pairs[key] for key in sorted(pairs)]
    exact = "\0".join(parts)
    safe = _safe(parts)
    if safe == ",".join(parts) and len(safe) <= LONGEST:
        return safe
    if len(safe) > LONGEST:
        safe = _safe([PATH.sub("=", part) for part in parts])
    return f"{safe[:LONGEST].rstrip('-.,=')}-{hashlib.sha256(exact.encode()).hexdigest()[:8]}"


def _safe(parts: Iterable[str]) -> str:
    return ",".join(re.sub(r"\.{2,}", ".", UNSAFE.sub("-", part)) for part in parts)


def _changes_a_model(option: str) -> bool:
    """Whether an option that a pipeline adds to its stages changes what is trained there, and not only what is made or
    measured of it: a stage that is finished stays finished where the others are given such options."""
    key = key_of(option)
    return not steers(key) and any(knows(verb, key) for verb in MAKERS)


def value_text(override: Override) -> str:
    """The value without quotes, so that `a='x'` and `a=x` are the same run."""
    value = override.value()
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


# `${run_folder:<name>,<overrides>}` for hydra.run.dir and hydra.sweep.subdir, known wherever a job is unpickled
OmegaConf.register_new_resolver("run_folder", run_folder, replace=True)
