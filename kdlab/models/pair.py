"""Whether a student and a teacher predict over the same vocabulary, or over one that can be cut to what they share.

`check_pair(config.student, config.teacher, pairing=config.loss.pairing)` asks only tokenizers and configs, so a pair
that cannot work is refused before any weights are downloaded or read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from kdlab.models.student import StudentConfig
    from kdlab.teachers.base import Teacher
    from kdlab.teachers.options import TeacherConfig
    from kdlab.text.task import Task

CROSS = "a cross-tokenizer loss (loss=uld_hybrid or loss=span_kl)"
PROBE = "Ein text,  with 12\n\nlines & l\u00fccken"
"""What two tokenizers are compared on."""
SHOWN = 3
"""Differences that a message shows."""


def check_pair(
    student: StudentConfig,
    teacher: TeacherConfig,
    *,
    pairing: str = "strict",
    opened: Teacher | None = None,
    task: Task | None = None,
) -> None:
    """Raise ValueError, in one line, where the student and its teacher cannot be compared as `pairing` wants: see
    `refuse_pair`. `opened` is the teacher where it has no weights to read (a cache, a server). With a `task` both
    decide about texts, each with its own tokenizer, over the same classes.

    Does nothing where there is no teacher, and where the student is made out of the teacher's own files.
    """
    if task is not None:
        _check_task(student, teacher, task, opened)
        return
    if teacher.source == "none" or teacher.path is None or (student.path is None and student.tokenizer is None):
        return
    same = (student.path, student.revision) == (teacher.path, teacher.revision)
    if opened is None and same and student.tokenizer in (None, teacher.path):
        return
    from kdlab.models.loading import load_config, read_tokenizer, refuse_unless_language_model
    from kdlab.models.seq2seq import refuse_unlike
    from kdlab.models.source import resolve

    seq2seq: dict[str, bool] = {}

    def entries(path: str, revision: str | None, trust: bool, option: str) -> int:
        config = load_config(resolve(path, revision, option=option), f"{option}={path}", trust)
        refuse_unless_language_model(config, f"{option}={path}")
        seq2seq[option] = bool(config.is_encoder_decoder)
        return int(config.get_text_config().vocab_size)

    if opened is not None:
        theirs, teacher_tokenizer = opened.vocabulary, opened.tokenizer
    else:
        told = (teacher.path, teacher.revision, teacher.trust_remote_code)
        theirs, teacher_tokenizer = entries(*told, "teacher.path"), read_tokenizer(*told, option="teacher.path")
    if student.tokenizer is not None:
        tokenizer = read_tokenizer(student.tokenizer, option="student.tokenizer")
    else:
        assert student.path is not None
        tokenizer = read_tokenizer(student.path, student.revision, student.trust_remote_code, option="student.path")
    mine = theirs
    if student.path is not None:
        mine = entries(student.path, student.revision, student.trust_remote_code, "student.path")
        if pairing != "cross" and opened is None:
            refuse_unlike(named(student), seq2seq["student.path"], teacher.path, seq2seq["teacher.path"])
    elif student.architecture is not None:
        own = student.architecture.get("vocab_size")
        mine = int(own or bare_entries(tokenizer, teacher_tokenizer, teacher_entries=theirs))
    refuse_pair(
        named(student),
        teacher.path,
        tokenizer=tokenizer,
        entries=mine,
        teacher_tokenizer=teacher_tokenizer,
        teacher_entries=theirs,
        pairing=pairing,
    )
    if student.from_teacher is not None and pairing == "cross":
        refuse_foreign_tokenizer(tokenizer, teacher_tokenizer)


def _check_task(student: StudentConfig, teacher: TeacherConfig, task: Task, opened: Teacher | None) -> None:
    """Raise ValueError where the student cannot become a classifier, or the teacher is none of these classes."""
    from kdlab.models.adapter import refuse_other_kind
    from kdlab.models.label_names import names_of, refuse_no_classifier, refuse_other_names, say_other_task
    from kdlab.models.loading import load_config
    from kdlab.models.source import resolve

    if opened is not None and opened.vocabulary != task.outputs:
        raise ValueError(
            f"teacher.path={teacher.path}: predicts {opened.vocabulary} entries, and dataset.labels.column="
            f"{task.column} has {task.outputs}; give a teacher of these classes"
        )
    live = teacher.path if teacher.source == "live" else None
    sides = (("teacher.path", live, teacher), ("student.path", student.path, student))
    for option, path, side in sides:
        if path is None:
            continue
        source, name = resolve(path, side.revision, option=option), f"{option}={path}"
        config = load_config(source, name, side.trust_remote_code)
        refuse_no_classifier(config, name)
        refuse_other_kind(source, name, classifies=True)
        if option == "teacher.path" and source.kind != "tiny":
            refuse_other_names(names_of(config, source), task, name)
            say_other_task(source, task, name)


def named(student: StudentConfig) -> str:
    """The option that says where the student comes from, as the user typed it."""
    return f"student.path={student.path}" if student.path else f"student.{student.origins()[0]}"


def refuse_pair(
    student: str,
    teacher: str,
    *,
    tokenizer: PreTrainedTokenizerBase,
    entries: int,
    teacher_tokenizer: PreTrainedTokenizerBase,
    teacher_entries: int,
    pairing: str,
) -> None:
    """Raise ValueError where student and teacher do not fit, with the remedy.

    `pairing` "strict" wants equal vocabularies and heads of one size (`entries`); "shared" ids that mean the same
    wherever both have one (`shared_entries`); "cross" asks nothing of the two tokenizers. Every id of the student's
    tokenizer must fit its own head.
    """
    if size(tokenizer) > entries:
        raise ValueError(f"{student}: its tokenizer has {size(tokenizer)} entries, its head only {entries}")
    if pairing == "shared":
        shared_entries(
            tokenizer,
            teacher_tokenizer,
            entries=entries,
            teacher_entries=teacher_entries,
            student=student,
            teacher=teacher,
        )
    if pairing != "strict":
        return
    if not same_tokens(tokenizer, teacher_tokenizer):
        mine, theirs = _strings(tokenizer, entries), _strings(teacher_tokenizer, teacher_entries)
        agree = mine.keys() & theirs.keys() and not _different(mine, theirs)
        raise ValueError(
            f"{student} and the teacher ({teacher}) have different vocabularies "
            f"({len(tokenizer)} and {len(teacher_tokenizer)} entries); "
            + ("set loss.vocab=shared: the ids that both have mean the same" if agree else f"choose {CROSS}")
        )
    if entries != teacher_entries:
        raise ValueError(
            f"{student} predicts {entries} entries and the teacher ({teacher}) {teacher_entries}, with the same "
            "tokenizer; set loss.vocab=shared"
        )


def shared_entries(
    tokenizer: PreTrainedTokenizerBase,
    teacher_tokenizer: PreTrainedTokenizerBase,
    *,
    entries: int,
    teacher_entries: int,
    student: str = "the student",
    teacher: str = "the teacher",
) -> int:
    """How many ids, from 0 on, mean the same to both: K = 1 + the largest id that both tokenizers have, in both heads.

    Ids from K on are padding of a head, or tokens that one tokenizer has and the other has not. Raises ValueError
    where an id means one string to one and another string to the other, naming the first of them, and where no id is
    shared.
    """
    mine, theirs = _strings(tokenizer, entries), _strings(teacher_tokenizer, teacher_entries)
    different = _different(mine, theirs)
    if different:
        shown = ", ".join(f"{i} is {mine[i]!r} and {theirs[i]!r}" for i in different[:SHOWN])
        raise ValueError(
            f"loss.vocab=shared: {len(different)} ids mean different strings to {student} and {teacher}: {shown}"
            f"{', ...' if len(different) > SHOWN else ''}; choose {CROSS}"
        )
    both = mine.keys() & theirs.keys()
    if not both:
        raise ValueError(f"loss.vocab=shared: {student} and {teacher} share no id; choose {CROSS}")
    return 1 + max(both)


def bare_entries(
    tokenizer: PreTrainedTokenizerBase, teacher_tokenizer: PreTrainedTokenizerBase | None, *, teacher_entries: int
) -> int:
    """How many entries a student made from nothing predicts: as many as the teacher where they share a tokenizer (a
    padded head too), else what its own tokenizer has."""
    if teacher_tokenizer is not None and same_tokens(tokenizer, teacher_tokenizer):
        return teacher_entries
    return size(tokenizer)


def refuse_foreign_tokenizer(tokenizer: PreTrainedTokenizerBase, teacher_tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise ValueError where a student cut from the teacher would read with another tokenizer: its embeddings are the
    teacher's."""
    if not same_tokens(tokenizer, teacher_tokenizer):
        raise ValueError(
            "student.tokenizer: a student cut from the teacher has the teacher's embeddings and reads with its "
            "tokenizer; leave student.tokenizer out, or give student.path"
        )


def size(tokenizer: PreTrainedTokenizerBase) -> int:
    """1 + the largest id of a tokenizer: what a head must have."""
    return 1 + max(int(i) for i in tokenizer.get_vocab().values())


def same_tokens(tokenizer: PreTrainedTokenizerBase, other: PreTrainedTokenizerBase) -> bool:
    """Whether two tokenizers have the same entries under the same ids."""
    return tokenizer is other or bool(tokenizer.get_vocab() == other.get_vocab())


def reads_alike(tokenizer: PreTrainedTokenizerBase, other: PreTrainedTokenizerBase) -> bool:
    """Whether two tokenizers make the same batch of any texts: the same ids under the same special tokens, padded with
    the same one (a classifier decides in front of its padding)."""
    if tokenizer is other:
        return True
    alike = same_tokens(tokenizer, other) and tokenizer.pad_token_id == other.pad_token_id
    return alike and bool(tokenizer(PROBE).input_ids == other(PROBE).input_ids)


def _strings(tokenizer: PreTrainedTokenizerBase, entries: int) -> dict[int, str]:
    """The string of each id that is within the head."""
    return {i: string for string, i in tokenizer.get_vocab().items() if i < entries}


def _different(mine: dict[int, str], theirs: dict[int, str]) -> list[int]:
    """Ids that both have and that mean different strings, in order."""
    return sorted(i for i in mine.keys() & theirs.keys() if mine[i] != theirs[i])
