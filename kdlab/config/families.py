"""What kind of model a path names, as far as its name or its config.json tells: nothing is loaded."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from kdlab.config.mistakes import nearest
from kdlab.models import tiny
from kdlab.models.adapter import base_of, is_adapter

T5S = {"t5", "mt5", "byt5", "umt5", "longt5"}
"""Their feed-forward layers leave float16."""
KINDS = {
    "encoder": {"bert", "distilbert", "modernbert", "roberta", "distilroberta", "albert", "deberta", "electra"},
    "encoder-decoder": T5S | {"bart", "mbart", "distilbart", "pegasus", "marian", "opus", "nllb"},
    "causal": {"gpt", "gpt2", "gptj", "opt", "llama", "tinyllama", "llama2", "llama3", "qwen", "qwen2", "qwen3"}
    | {"smollm", "smollm2", "smollm3", "mistral", "mixtral", "phi", "phi3", "gemma", "gemma2", "gemma3", "bloom"}
    | {"falcon", "pythia", "olmo", "olmo2", "granite", "cohere", "codegen", "distilgpt2"},
}
"""Families by the word that stands in their names and in `model_type`."""


def check_model(option: str, path: str, *, labelled: bool = False) -> None:
    """A local model exists, and as far as its name or config tells it writes text; with `labelled` it is of a kind that
    can decide about one."""
    if path.startswith("tiny:") and path.removeprefix("tiny:") not in tiny.KINDS:
        raise ValueError(f"{option}={path}: must be one of {', '.join(f'tiny:{known}' for known in tiny.KINDS)}")
    check_place(option, path)
    if is_adapter(Path(path).expanduser()):
        base_of(Path(path).expanduser(), f"{option}={path}")  # whatever is amiss is said of the option
    check_family(f"{option}={path}", kind_of(path), labelled=labelled)


def check_family(named: str, kind: str, *, labelled: bool) -> None:
    """A kind of model does what is asked: an encoder decides, an encoder-decoder writes, a causal one does both."""
    if kind == "encoder" and not labelled:
        raise ValueError(
            f"{named}: an encoder model, and `kdlab train` teaches models that write text; choose a causal one "
            "such as gpt2, llama, opt, qwen or smollm2, or an encoder-decoder such as t5 or bart, or set "
            "dataset.labels to teach a classifier"
        )
    if kind == "encoder-decoder" and labelled:
        raise ValueError(
            f"{named}: an encoder-decoder model, and dataset.labels teaches a classifier; choose a causal model such "
            "as llama, qwen or smollm2, or an encoder such as bert or roberta"
        )


def kind_of(path: str) -> str:
    """ "causal", "encoder-decoder" or "encoder"; empty where neither name nor config tells."""
    config = local_config(path)
    if config.get("is_encoder_decoder"):
        return "encoder-decoder"
    if config.get("is_decoder"):
        return "causal"
    return kind_of_family(str(config.get("model_type") or Path(path.removeprefix("tiny:")).name))


def kind_of_family(name: str) -> str:
    """The kind that a model's name or `model_type` tells; empty where it tells none, or two."""
    found = [kind for kind, known in KINDS.items() if words(name) & known]
    return found[0] if len(found) == 1 else ""


def is_t5(path: str) -> bool:
    """Whether the path names a model of the T5 family."""
    return bool(words(str(local_config(path).get("model_type") or Path(path.removeprefix("tiny:")).name)) & T5S)


def words(name: str) -> set[str]:
    return set(re.split(r"[^a-z0-9]+", name.lower()))


def check_place(option: str, path: str) -> None:
    """A path that can only be a local one exists."""
    place = Path(path).expanduser()
    local = path.endswith(".gguf") or path.startswith(("/", ".", "~")) or path.count("/") > 1
    if local and not path.startswith("tiny:") and not place.exists():
        siblings = [entry.name for entry in place.parent.iterdir()] if place.parent.is_dir() else []
        near = nearest(place.name, siblings)
        guess = f"; did you mean {' or '.join(str(place.parent / name) for name in near)}?" if near else ""
        raise FileNotFoundError(f"{option}={path}: no such file or folder{guess}")


def local_config(path: str) -> dict[str, Any]:
    """config.json of a local model folder, of an adapter that of the model it belongs to (or that one's name as its
    kind); empty where there is none to read."""
    folder = Path(path).expanduser()
    file = folder / "config.json"
    if is_adapter(folder):
        base, _ = base_of(folder, path)
        return local_config(base) or {"model_type": Path(base.removeprefix("tiny:")).name}
    if not file.is_file():
        return {}
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file}: not valid JSON ({error})") from error
    return config if isinstance(config, dict) else {}
