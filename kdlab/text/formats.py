"""Dataset formats: which columns a row has, and the conversation or plain text it stands for.

Every row becomes a `Document`: a list of messages (`{"role", "content"}`) or a plain string. The table `FORMATS` is
tried from top to bottom; the first entry whose columns are all there wins.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from kdlab.text.prompts import QUESTION, worded

Row = dict[str, Any]
Messages = list[dict[str, str]]
Document = Messages | str

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
}
"""Role names as datasets write them, and as chat templates read them."""

SYSTEM = ("system", "system_prompt")
SHOWN = 60
"""Characters of the columns that a message shows."""
TASKS = {
    "qa": "Question: {input}\nAnswer:",
    "question_answering": "Question: {input}\nAnswer:",
    "summarization": "Summarize the following text:\n{input}",
    "summarisation": "Summarize the following text:\n{input}",
}


@dataclass(frozen=True, kw_only=True)
class Wording:
    """How the user's side of a row is worded. `prefix` stands before the user's text, in place of the instruction that
    a format brings itself (None: the format's own); `source_language` and `target_language` name the two sides of a
    `translation` (None: in the order in which the row has them). `prompt` words the whole of it, instruction and
    prefix included: see `prompts.worded`."""

    prefix: str | None = None
    source_language: str | None = None
    target_language: str | None = None
    prompt: str = QUESTION

    def instruct(self, own: str, text: str) -> str:
        """`text` behind the prefix, or behind the format's `own` instruction where no prefix is given."""
        return (own if self.prefix is None else self.prefix) + text


OWN = Wording()


class SkipRow(Exception):  # noqa: N818 (it is a verdict on a row, not an error)
    """A row that cannot become a document; the message is the reason it is counted under."""


@dataclass(frozen=True, kw_only=True)
class Format:
    """`needs`: of each group at least one column must be there. `optional`: read where they are there."""

    name: str
    needs: tuple[tuple[str, ...], ...]
    optional: tuple[str, ...] = ()
    read: Callable[[Row, Wording], Document]

    def convert(self, row: Row, wording: Wording = OWN) -> Document:
        """The document of a row. Raises SkipRow where it has none, ValueError where `wording` does not fit it."""
        return worded(self.read(row, wording), wording.prompt)

    def matches(self, columns: Iterable[str]) -> bool:
        present = set(columns)
        return all(present.intersection(group) for group in self.needs)

    def reads(self) -> set[str]:
        """Every column this format may read."""
        return {column for group in self.needs for column in group} | set(self.optional)

    def __str__(self) -> str:
        extra = (
            f"(+{'|'.join(c for c in self.optional if c not in SYSTEM)})" if set(self.optional) - set(SYSTEM) else ""
        )
        first, *rest = ("|".join(group) for group in self.needs)
        return "+".join([first + extra, *rest])


def detect(columns: Iterable[str], *, forced: str = "auto", typed: str = "dataset.path") -> Format:
    """The format of rows with these columns; `forced` names one instead (`dataset.format`).

    Raises ValueError where none fits, naming `typed` (the option that gave the rows), the columns seen, and what may
    have been meant.
    """
    seen = sorted(columns)
    if forced != "auto":
        chosen = FORMATS[forced]
        if not chosen.matches(seen):
            raise ValueError(f"dataset.format={forced}: needs columns {chosen}; the rows have {_cut(seen)}")
        return chosen
    for candidate in FORMATS.values():
        if candidate.matches(seen):
            return candidate
    meant = _meant(seen)
    remedy = f"did you mean {' and '.join(meant)}?" if meant else "rename them, such as prompt and completion, or text"
    raise ValueError(f"{typed}: no known format has the columns {_cut(seen)}; {remedy}")


def _meant(seen: list[str]) -> list[str]:
    """The known columns that, in place of those they look like, make the rows fit a format; none where none do."""
    known = sorted(set().union(*(form.reads() for form in FORMATS.values())))
    near = {c: difflib.get_close_matches(c.lower().strip(), known, n=1, cutoff=0.7) for c in seen if c not in known}
    renamed = {column: found[0] for column, found in near.items() if found}
    for form in FORMATS.values():
        if form.matches([renamed.get(column, column) for column in seen]):
            return [new for new in renamed.values() if any(new in group for group in form.needs)]
    return []


def _cut(columns: list[str]) -> str:
    """Column names, in at most some 60 characters and a count of the rest."""
    shown: list[str] = []
    for column in columns:
        if shown and len(", ".join([*shown, column])) > SHOWN:
            return f"{', '.join(shown)} and {len(columns) - len(shown)} more"
        shown.append(column)
    return ", ".join(shown)


def matching(columns: Iterable[str]) -> list[str]:
    """Names of all formats these columns would fit, best first."""
    seen = list(columns)
    return [name for name, f in FORMATS.items() if f.matches(seen)]


def _field(row: Row, *names: str, empty_ok: bool = False) -> str:
    """The first of `names` that the row has, as text."""
    for name in names:
        value = row.get(name)
        if value is None:
            continue
        if not isinstance(value, str):
            raise SkipRow(f"{name} is not text")
        if not value.strip() and not empty_ok:
            raise SkipRow(f"{name} is empty")
        return _valid(value, name)
    if empty_ok:
        return ""
    raise SkipRow(f"no {' or '.join(names)}")


def _valid(value: str, name: str) -> str:
    """JSON can spell half a surrogate pair, which is no character and which no tokenizer takes."""
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise SkipRow(f"{name} is not valid Unicode") from error
    return value


def _exchange(row: Row, prompt: str, response: str) -> Messages:
    system = _field(row, *SYSTEM, empty_ok=True)
    messages = [{"role": "system", "content": system}] if system.strip() else []
    return [*messages, {"role": "user", "content": prompt}, {"role": "assistant", "content": response}]


def _instruction(row: Row, wording: Wording) -> Messages:
    prompt, extra = _field(row, "instruction"), _field(row, "input", "context", empty_ok=True)
    prompt = f"{prompt}\n\n{extra}" if extra.strip() else prompt
    return _exchange(row, wording.instruct("", prompt), _field(row, "output", "response"))


def _task(row: Row, wording: Wording) -> Messages:
    task, given = _field(row, "task"), _field(row, "input")
    template = TASKS.get(task.strip().lower().replace("-", "_").replace(" ", "_"))
    prompt = template.replace("{input}", given) if template else f"{task}: {given}"
    if wording.prefix is not None:
        prompt = wording.prefix + given
    return _exchange(row, prompt, _field(row, "output"))


def _context_response(row: Row, wording: Wording) -> Messages:
    return _exchange(row, wording.instruct("", _field(row, "context")), _field(row, "response"))


def _prompt_completion(row: Row, wording: Wording) -> Messages:
    prompt, completion = row.get("prompt"), row.get("completion", row.get("response"))
    if isinstance(prompt, list) and isinstance(completion, list):
        return _conversation([*prompt, *completion], row, wording)
    return _exchange(row, wording.instruct("", _field(row, "prompt")), _field(row, "completion", "response"))


def _question_answer(row: Row, wording: Wording) -> Messages:
    question, context = _field(row, "question"), _field(row, "context", empty_ok=True)
    prompt = f"{context}\n\n{question}" if context.strip() else question
    return _exchange(row, wording.instruct("", prompt), _field(row, "answer", "response"))


def _article_highlights(row: Row, wording: Wording) -> Messages:
    prompt = wording.instruct("Summarize the following text:\n", _field(row, "article"))
    return _exchange(row, prompt, _field(row, "highlights"))


def _source_target(row: Row, wording: Wording) -> Messages:
    source, target = row.get("source"), row.get("target")
    if isinstance(source, list):
        source = " ".join(_all_text(source, "source"))
    if isinstance(target, list):
        target = next(iter(_all_text(target, "target")), None)
    told = {**row, "source": source, "target": target}
    return _exchange(row, wording.instruct("", _field(told, "source")), _field(told, "target"))


def _all_text(values: list[Any], name: str) -> list[str]:
    if not all(isinstance(value, str) for value in values):
        raise SkipRow(f"{name} is not text")
    return values


def _translation(row: Row, wording: Wording) -> Messages:
    source, target = languages(row, wording)
    sides = row["translation"]
    prompt = wording.instruct(f"Translate from {source} to {target}:\n", _field(sides, source))
    return _exchange(row, prompt, _field(sides, target))


def languages(row: Row, wording: Wording) -> tuple[str, str]:
    """From which language into which a `translation` row is read."""
    sides = row.get("translation")
    if not isinstance(sides, dict):
        raise SkipRow("translation is not a pair of languages")
    source, target = wording.source_language, wording.target_language
    if source is None or target is None:
        spoken = [language for language, text in sides.items() if text is not None]
        if len(spoken) > 2:
            raise ValueError(
                f"dataset.source_language=null: the rows have more than two languages ({', '.join(spoken)}); name two, "
                "by dataset.source_language and dataset.target_language"
            )
        if len(spoken) < 2:
            raise SkipRow("translation has fewer than two languages")
        source, target = spoken
    return source, target


def _text(row: Row, wording: Wording) -> str:
    if wording.prefix:
        raise ValueError(f"dataset.prefix={wording.prefix}: plain text has no source to put it before; drop it")
    return _field(row, "text")


def _messages(row: Row, wording: Wording) -> Messages:
    for name in ("messages", "conversations", "conversation"):
        if row.get(name) is not None:
            return _conversation(row[name], row, wording)
    raise SkipRow("no messages or conversations")


def _conversation(turns: Any, row: Row, wording: Wording) -> Messages:
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise SkipRow("messages are not a list of turns")
    messages = []
    for turn in turns:
        role, content = turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))
        if role not in ROLES:
            raise SkipRow(f"a turn with the unknown role {role!r}")
        if isinstance(content, list) and all(isinstance(p, dict) and isinstance(p.get("text"), str) for p in content):
            content = "".join(part["text"] for part in content)
        if not isinstance(content, str):
            raise SkipRow("a turn without text")
        messages.append({"role": ROLES[role], "content": _valid(content, "a turn")})
    system = _field(row, *SYSTEM, empty_ok=True)
    if system.strip() and (not messages or messages[0]["role"] != "system"):
        messages.insert(0, {"role": "system", "content": system})
    spoken = [m for m in messages if m["role"] != "system"]
    if not any(m["role"] == "assistant" and m["content"].strip() for m in spoken):
        raise SkipRow("no assistant turn")
    if spoken[0]["role"] == "assistant":
        raise SkipRow("the conversation starts with the assistant")
    spoken[0]["content"] = wording.instruct("", spoken[0]["content"])
    return messages


FORMATS: dict[str, Format] = {
    f.name: f
    for f in (
        Format(
            name="messages",
            needs=(("messages", "conversations", "conversation"),),
            optional=SYSTEM,
            read=_messages,
        ),
        Format(
            name="instruction",
            needs=(("instruction",), ("output", "response")),
            optional=("input", "context", *SYSTEM),
            read=_instruction,
        ),
        Format(name="task", needs=(("task",), ("input",), ("output",)), optional=SYSTEM, read=_task),
        Format(
            name="question_answer",
            needs=(("question",), ("answer", "response")),
            optional=("context", *SYSTEM),
            read=_question_answer,
        ),
        Format(
            name="prompt_completion",
            needs=(("prompt",), ("completion", "response")),
            optional=SYSTEM,
            read=_prompt_completion,
        ),
        Format(name="context_response", needs=(("context",), ("response",)), optional=SYSTEM, read=_context_response),
        Format(
            name="article_highlights",
            needs=(("article",), ("highlights",)),
            optional=SYSTEM,
            read=_article_highlights,
        ),
        Format(name="source_target", needs=(("source",), ("target",)), optional=SYSTEM, read=_source_target),
        Format(name="translation", needs=(("translation",),), optional=SYSTEM, read=_translation),
        Format(name="text", needs=(("text",),), read=_text),
    )
}
