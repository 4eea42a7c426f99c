"""What the tokenizers of both sides are, and how their vocabularies meet."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from kdlab.models.pair import reads_alike, shared_entries
from kdlab.preflight.examples import ended
from kdlab.preflight.findings import Section
from kdlab.preflight.sketch import Sketch, Sketches
from kdlab.preflight.workload import Workload
from kdlab.text.templates import chat_template, read_template, turn_end
from kdlab.text.vocabulary import audit

if TYPE_CHECKING:
    from kdlab.teachers.base import Teacher
    from kdlab.training.recipe import TrainConfig

LITTLE = 0.5
"""A share of the student's vocabulary below which a cross-tokenizer loss by matched strings sees little."""
SHOWN = 5


def say_tokenizers(section: Section, config: TrainConfig, models: Sketches) -> dict[str, Any]:
    """Both tokenizers, and what `loss.pairing` makes of them. Returns the numbers.

    Raises ValueError where they do not go together.
    """
    student, teacher = models.student, models.reader
    numbers: dict[str, Any] = {"pairing": config.loss.pairing, "student": facts(student)}
    if config.dataset.labels is not None:
        return numbers | {"pairing": "classes"} | _classes(section, student, teacher)
    section.say("ok" if student.tokenizer.eos_token else "warning", f"student: {described(student)}")
    if teacher is None:
        return numbers
    numbers["teacher"] = facts(teacher)
    same = student.tokenizer is teacher.tokenizer
    section.say("ok", "teacher: the same tokenizer" if same else f"teacher: {described(teacher)}")
    if config.loss.pairing == "strict":
        section.say("ok", f"loss.vocab=strict: every one of {student.vocabulary:,} entries means the same to both")
    elif config.loss.pairing == "shared":
        numbers |= _shared(section, student, teacher)
    else:
        given = config.dataset.template
        template = None if given is None else read_template(given)
        numbers |= _cross(section, student, teacher, template)
    return numbers


def facts(side: Sketch | Teacher) -> dict[str, Any]:
    """A tokenizer in plain values."""
    tokenizer = side.tokenizer
    end = turn_end(tokenizer, chat_template(tokenizer))
    return {
        "entries": len(tokenizer),
        "head": side.vocabulary,
        "eos": tokenizer.eos_token,
        "bos": tokenizer.bos_token,
        "pad": tokenizer.pad_token,
        "turn_end": None if end is None else str(tokenizer.convert_ids_to_tokens(end)),
        "template": "own" if tokenizer.chat_template is not None else "plain",
    }


def _classes(section: Section, student: Sketch, teacher: Sketch | Teacher | None) -> dict[str, Any]:
    """Classifiers read each in its own way; only the classes meet."""
    section.say("ok", f"student: {specials(student)}")
    if teacher is None:
        return {}
    alike = reads_alike(student.tokenizer, teacher.tokenizer)
    section.say("ok", "teacher: reads as the student does" if alike else f"teacher: reads alone: {specials(teacher)}")
    return {"teacher": facts(teacher), "alike": alike}


def specials(side: Sketch | Teacher, *, padding: str = "") -> str:
    """A tokenizer's size and the tokens that stand for no text."""
    told = facts(side)
    special = ", ".join(f"{name} {told[name] or 'none'}" for name in ("bos", "eos", "pad"))
    return f"{told['entries']:,} entries{padding}; {special}"


def described(side: Sketch | Teacher) -> str:
    """A tokenizer in one line."""
    told = facts(side)
    template = "its own chat template" if told["template"] == "own" else "no chat template (kdlab's plain one)"
    turn = f", a turn ends with {told['turn_end']}" if told["turn_end"] else ""
    padding = "" if told["head"] == told["entries"] else f" (head: {told['head']:,})"
    return f"{specials(side, padding=padding)}; {template}{turn}"


def _shared(section: Section, student: Sketch, teacher: Sketch | Teacher) -> dict[str, Any]:
    shared = shared_entries(
        student.tokenizer, teacher.tokenizer, entries=student.vocabulary, teacher_entries=teacher.vocabulary
    )
    cut = {"student": student.vocabulary - shared, "teacher": teacher.vocabulary - shared}
    lost = " and ".join(f"{count:,} of the {whose}'s entries" for whose, count in cut.items() if count) or "nothing"
    section.say("ok", f"loss.vocab=shared: {shared:,} ids mean the same to both; cut: {lost}")
    section.say("note", "how much probability the teacher loses by the cut is measured when the run begins")
    return {"shared": shared, "cut": cut}


def _cross(section: Section, student: Sketch, teacher: Sketch | Teacher, template: str | None) -> dict[str, Any]:
    found = audit(student.tokenizer, teacher.tokenizer, template=template)
    share = f"{found.student_share:.1%} of the student's vocabulary, {found.teacher_share:.1%} of the teacher's"
    verdict = "ok" if found.student_share >= LITTLE else "warning"
    remedy = None if verdict == "ok" else "loss=uld sorts and needs no matches"
    section.say(verdict, f"{found.matched:,} entries mean the same to both: {share}", remedy)
    for whose, unmatched in (("student", found.unmatched_student), ("teacher", found.unmatched_teacher)):
        if unmatched:
            section.say("note", f"only the {whose} has: {', '.join(repr(token) for token in unmatched[:SHOWN])}, ...")
    return {"matched": found.matched, "audit": asdict(found)}


def say_ends(section: Section, models: Sketches, work: Workload, *, chat: bool) -> dict[str, int]:
    """Whether the student is taught to stop, as every example of a `chat` should."""
    tokenizer = models.student.tokenizer
    end = turn_end(tokenizer, chat_template(tokenizer))
    ends = {i for i in (tokenizer.eos_token_id, end) if i is not None}
    with_end, examples = ended(work.batches, ends)
    what = " or ".join(str(tokenizer.convert_ids_to_tokens(i)) for i in sorted(ends)) or "a token that ends a text"
    line = f"{with_end:,} of {examples:,} examples looked at have {what} among their targets"
    if with_end or not chat:
        section.say("ok" if with_end else "note", line)
    else:
        section.say(
            "warning", f"{line}: the student never learns to stop", "raise dataset.max_length, or see dataset.supervise"
        )
    return {"examples": examples, "with_end": with_end}
