"""Send files to a repository of the hub, and only those that it does not have yet.

Each group of files is one commit, so an upload that was cut off goes on with the next group; of a group that was cut
off the large files that arrived are not sent again (the hub knows them by their sha256). The token comes from HF_TOKEN
in the environment, goes out in the header of requests alone, and is in no message.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from kdlab.models.progress import say
from kdlab.publishing.files import Item
from kdlab.training.stopping import RunFailed

TOKEN = "HF_TOKEN"
OFFICIAL = "https://huggingface.co"


@dataclass(frozen=True, kw_only=True)
class Commit:
    """Files that arrived together."""

    oid: str
    paths: list[str]


def token_of(environment: Mapping[str, str]) -> str:
    """Raises ValueError, in one line, where there is none, or what is there could not be sent."""
    token = environment.get(TOKEN, "").strip()
    if not token:
        raise ValueError(
            f"dry_run=false: needs a token with write access in the environment variable {TOKEN}: make one at "
            f"{OFFICIAL}/settings/tokens, then {TOKEN}=... kdlab publish ..."
        )
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise ValueError(f"{TOKEN}: what it holds cannot be a token; set it anew")
    return token


class Hub:
    """A repository `repo` at the server that HF_ENDPOINT names (None: huggingface.co)."""

    def __init__(self, repo: str, *, token: str) -> None:
        from huggingface_hub import HfApi

        self.repo, self._token = repo, token
        self.endpoint = (os.environ.get("HF_ENDPOINT") or OFFICIAL).rstrip("/")
        self._api = HfApi(endpoint=self.endpoint, token=token)

    def create(self, *, private: bool) -> bool | None:
        """Make the repository, if it is not there; return whether it is private (None: the hub does not say).

        The hub leaves one that exists as it is. Raises RunFailed for one that is there for all to see where it is to be
        `private`.
        """
        self._ask(lambda: self._api.create_repo(self.repo, private=private, exist_ok=True))
        found: bool | None = self._ask(lambda: self._api.model_info(self.repo)).private
        if private and found is False:
            raise RunFailed(
                f"repo={self.repo}: is there already, and public, so that nothing is sent (private=true); write "
                "private=false to send it there, or give another repo"
            )
        if found and not private:
            say(f"{self.repo}: is there already, and private; it stays so (private=false makes no repository public)")
        return found

    def missing(self, items: Sequence[Item]) -> tuple[list[Item], list[str], str]:
        """Those that the repository does not have as they are; what else it has; and its latest commit."""
        from huggingface_hub.hf_api import RepoFile

        found = self._ask(lambda: list(self._api.list_repo_tree(self.repo, recursive=True)))
        there = {
            file.path: file.lfs.sha256 if file.lfs is not None else file.blob_id
            for file in found
            if isinstance(file, RepoFile)
        }
        rest = [item for item in items if there.get(item.path) not in (item.sha256, item.oid)]
        others = sorted(set(there) - {item.path for item in items} - {".gitattributes"})
        return rest, others, str(self._ask(lambda: self._api.model_info(self.repo)).sha)

    def send(self, items: Sequence[Item]) -> Iterator[Commit]:
        """One commit after the other; each is yielded when it is safe."""
        for group, members in groupby(items, key=lambda item: item.group):
            yield self._commit(group.rstrip("/"), list(members))

    def _commit(self, group: str, items: Sequence[Item]) -> Commit:
        from huggingface_hub import CommitOperationAdd

        adds = [
            CommitOperationAdd(item.path, item.content if item.content is not None else str(item.source))
            for item in items
        ]
        with _bars_on_terminals_only():
            done = self._ask(lambda: self._api.create_commit(self.repo, adds, commit_message=f"kdlab: {group}"))
        return Commit(oid=str(done.oid), paths=[item.path for item in items])

    def _ask(self, question: Callable[[], Any]) -> Any:
        """Raises RunFailed, in one line that has no token in it, for whatever goes wrong at the other end."""
        from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

        try:
            with _plain_transfer(self.endpoint):
                return question()
        except Exception as error:  # the client wraps what went wrong in errors of many kinds
            reason = next((one for one in _behind(error) if isinstance(one, HfHubHTTPError) or _is_network(one)), None)
            if isinstance(reason, HfHubHTTPError):
                raise RunFailed(self._refusal(reason)) from None
            if isinstance(reason, OfflineModeIsEnabled):
                raise RunFailed(f"repo={self.repo}: HF_HUB_OFFLINE is set; unset it to send") from None
            if reason is None:
                raise
            raise RunFailed(
                f"repo={self.repo}: {self.endpoint} does not answer ({type(reason).__name__}); "
                "the same command goes on where it stopped"
            ) from None

    def _refusal(self, error: Any) -> str:
        status = error.response.status_code
        said = (error.server_message or "").strip().splitlines()
        words = f" ({said[0][:200].replace(self._token, '***')})" if said else ""
        if status == 401:
            return f"{TOKEN}: {self.endpoint} does not accept it (401); is it whole, and of this hub?"
        if status == 403:
            return f"repo={self.repo}: the token in {TOKEN} may not write there (403){words}; give a repo of your own"
        if status == 404:
            return f"repo={self.repo}: {self.endpoint} does not know it (404){words}"
        if status == 429 or status >= 500:
            return (
                f"repo={self.repo}: {self.endpoint} answers {status}{words}; the same command goes on where it stopped"
            )
        return f"repo={self.repo}: {self.endpoint} refuses it ({status}){words}"


def _behind(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and those that it came from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_network(error: BaseException) -> bool:
    """Whether an error is of the connection: the client's own ones have no common base class with the system's."""
    ours = isinstance(error, ConnectionError | TimeoutError)
    return ours or type(error).__module__.partition(".")[0] in ("httpx", "httpx2", "httpcore", "httpcore2")


@contextmanager
def _bars_on_terminals_only() -> Iterator[None]:
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    shown = not are_progress_bars_disabled() and not sys.stderr.isatty()
    if shown:
        disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            enable_progress_bars()


@contextmanager
def _plain_transfer(endpoint: str) -> Iterator[None]:
    """Xet is a protocol of the hub itself: another server, or HF_HUB_DISABLE_XET=1, takes files over plain HTTP. The
    client reads that variable when it is imported, which may be long past."""
    from huggingface_hub import constants

    was = constants.HF_HUB_DISABLE_XET
    asked = os.environ.get("HF_HUB_DISABLE_XET", "").strip().upper() in ("1", "ON", "YES", "TRUE")
    constants.HF_HUB_DISABLE_XET = was or asked or endpoint != OFFICIAL
    try:
        yield
    finally:
        constants.HF_HUB_DISABLE_XET = was
