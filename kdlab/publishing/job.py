"""`publish`: a finished model, its variants and its card, shown or sent.

    publish(config, output_dir=Path("multirun/publish/..."), resolved=..., overrides=[])

It leaves README.md (the card) and publish.json: what would go or went, file by file, in which commits, what stayed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdlab.durable import FolderLock, read_json, write_atomically, write_json
from kdlab.models.progress import say
from kdlab.publishing.card import SOMEWHERE, model_card
from kdlab.publishing.files import CARD, Plan, plan_files
from kdlab.publishing.hub import Hub, token_of
from kdlab.publishing.licences import chain, of_base
from kdlab.publishing.private import secrets_in
from kdlab.publishing.records import Records, read_records
from kdlab.publishing.telling import tell
from kdlab.text.task import read_task
from kdlab.training.manifest import now, record_head

if TYPE_CHECKING:
    from kdlab.publishing.licences import Licence
    from kdlab.publishing.recipe import PublishConfig

PUBLISH = "publish.json"


def publish(
    config: PublishConfig, *, output_dir: Path, resolved: dict[str, Any], overrides: list[str]
) -> dict[str, Any]:
    """Show what would go or send what is not there yet; return the content of publish.json.

    The same call goes on where it was cut off or refused, and does nothing where all has arrived; publish.json says
    `failed`, with the `error`, or `interrupted`. `resolved` is the config as plain values, `overrides` how the user
    made it. Raises ValueError or FileNotFoundError with one line: a run that is
    not finished, an export of another model, a file with a secret, no token, a hub that refuses or does not answer.
    """
    token = None if config.dry_run else token_of(os.environ)
    resolved = json.loads(json.dumps(resolved))
    _refuse_typed_secrets(overrides, os.environ)
    records = read_records(config)
    links = chain(records.run)
    licence = config.licence or _base_licence(links)
    with FolderLock(output_dir):
        card = _card(config, records, licence, links)
        plan = plan_files(records, card, adapter=config.adapter, environment=os.environ)
        content = _content(config, records, plan, licence, links, resolved, overrides)
        earlier = read_json(output_dir / PUBLISH)
        if isinstance(earlier, dict) and earlier.get("repo") == config.repo:
            content["commits"], content["started"] = earlier["commits"], earlier["started"]
        _warn(licence, links)
        tell(plan, config.repo or SOMEWHERE)
        _write_card(output_dir, plan)
        with _recorded(content, output_dir / PUBLISH, secret=token):
            if token is not None:
                assert config.repo is not None, "the rules of the options refuse it"
                _send(config, Hub(config.repo, token=token), plan, content, output_dir)
            else:
                print(f"nothing is sent (dry_run=true); the card is {output_dir / CARD}")
        return content


@contextmanager
def _recorded(content: dict[str, Any], file: Path, *, secret: str | None) -> Iterator[None]:
    """Write `content` to `file` before the work and, with how it ended, after it."""
    write_json(file, content)
    try:
        yield
    except (KeyboardInterrupt, Exception) as error:
        content |= {"status": "failed", "finished": now(), "error": _in_a_line(error, secret)}
        if isinstance(error, KeyboardInterrupt):
            content |= {"status": "interrupted", "error": None}
        with suppress(OSError):  # what ended the work is told, not that the disk is full as well
            write_json(file, content)
        raise
    content |= {"status": "finished", "finished": now()}
    write_json(file, content)


def _in_a_line(error: BaseException, secret: str | None) -> str:
    words = str(error).strip().splitlines() or [type(error).__name__]
    return words[0].replace(secret, "***") if secret else words[0]


def _send(config: PublishConfig, hub: Hub, plan: Plan, content: dict[str, Any], folder: Path) -> None:
    """Send what the repository does not have, and write down each commit as soon as it is there."""
    content["private"] = hub.create(private=config.private)
    missing, others, latest = hub.missing(plan.items)
    content["others"] = others
    if others:
        say(f"{hub.repo}: {len(others)} other files there stay as they are, such as {others[0]}")
    if not missing:
        content["commit"] = latest
        print(f"nothing to do: {hub.endpoint}/{hub.repo} has all {len(plan.items)} files (commit {latest[:12]})")
        return
    there = len(plan.items) - len(missing)
    if there:
        print(f"{there} of {len(plan.items)} files are there already", flush=True)
    for commit in hub.send(missing):
        content["commits"].append({"commit": commit.oid, "files": commit.paths, "when": now()})
        content["commit"] = commit.oid
        write_json(folder / PUBLISH, content)
        print(f"sent {', '.join(commit.paths)} (commit {commit.oid[:12]})", flush=True)
    print(f"published: {hub.endpoint}/{hub.repo}")


def _card(config: PublishConfig, records: Records, licence: str | None, links: list[Licence]) -> str:
    return model_card(
        records,
        repo=config.repo,
        licence=licence,
        links=links,
        task=read_task(records.run.folder / "model"),
        adapter=config.adapter and (records.run.folder / "adapter").is_dir(),
    )


def _base_licence(links: list[Licence]) -> str | None:
    base = of_base(links)
    return None if base is None else base.licence


def _warn(licence: str | None, links: list[Licence]) -> None:
    unknown = [f"{link.role} {link.thing}" for link in links if link.licence is None]
    if unknown:
        say(f"licence unknown of: {'; '.join(unknown)}; the card says so. Look it up before you pass the model on")
    if licence is None:
        say("licence is not set, and that of the base model is not known: write licence=<as the hub names it>")


def _write_card(folder: Path, plan: Plan) -> None:
    """The card as it goes, with this machine's folders taken out."""
    card = next(item.content for item in plan.items if item.path == CARD)
    assert card is not None
    write_atomically(folder / CARD, lambda file: file.write(card))


def _refuse_typed_secrets(overrides: list[str], environment: Mapping[str, str]) -> None:
    for override in overrides:
        found = secrets_in(override.encode(), environment)
        if found:
            raise ValueError(f"{override.partition('=')[0]}: has what looks like {found[0]}; no option takes a secret")


def _content(
    config: PublishConfig,
    records: Records,
    plan: Plan,
    licence: str | None,
    links: list[Licence],
    resolved: dict[str, Any],
    overrides: list[str],
) -> dict[str, Any]:
    return record_head("publish", resolved, overrides) | {
        "run": str(records.run.folder),
        "repo": config.repo,
        "dry_run": config.dry_run,
        "private": None,
        "licence": licence,
        "licences": [{"role": one.role, "thing": one.thing, "licence": one.licence} for one in links],
        "files": [{"path": item.path, "bytes": item.size, "sha256": item.sha256} for item in plan.items],
        "bytes": plan.size,
        "left_out": plan.left_out,
        "cleaned": plan.cleaned,
        "card": CARD,
        "others": [],
        "commits": [],
        "commit": None,
        "error": None,
    }
