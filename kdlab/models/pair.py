"""Whether a student and a teacher predict over the same vocabulary.

`check_pair(config.student, config.teacher)` asks only tokenizers and configs, so a pair that cannot work is refused
before any weights are downloaded or read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from kdlab.models.student import StudentConfig
    from kdlab.teachers.live import TeacherConfig


def check_pair(student: StudentConfig, teacher: TeacherConfig, *, pairing: str = "strict") -> None:
    """Raise ValueError, in one line, where the student and its teacher cannot be compared entry by entry.

    Does nothing where there is no teacher, and where the student is made out of the teacher's own files.
    """
    if teacher.source == "none" or teacher.path is None or (student.path is None and student.tokenizer is None):
        return
    same = (student.path, student.revision) == (teacher.path, teacher.revision)
    if same and student.tokenizer in (None, teacher.path):
        return
    from kdlab.models.loading import load_config, read_tokenizer, refuse_unless_causal
    from kdlab.models.source import resolve

    def entries(path: str, revision: str | None, trust: bool, option: str) -> int:
        config = load_config(resolve(path, revision, option=option), f"{option}={path}", trust)
        refuse_unless_causal(config, f"{option}={path}")
        return int(config.get_text_config().vocab_size)

    theirs = entries(teacher.path, teacher.revision, teacher.trust_remote_code, "teacher.path")
    teacher_tokenizer = read_tokenizer(teacher.path, teacher.revision, teacher.trust_remote_code, option="teacher.path")
    mine = theirs
    if student.path is not None:
        mine = entries(student.path, student.revision, student.trust_remote_code, "student.path")
    elif student.architecture is not None:
        mine = int(student.architecture.get("vocab_size") or theirs)
    if student.tokenizer is not None:
        tokenizer = read_tokenizer(student.tokenizer, option="student.tokenizer")
    else:
        assert student.path is not None
        tokenizer = read_tokenizer(student.path, student.revision, student.trust_remote_code, option="student.path")
    refuse_unequal(
        named(student),
        teacher.path,
        tokenizer=tokenizer,
        entries=mine,
        teacher_tokenizer=teacher_tokenizer,
        teacher_entries=theirs,
    )


def named(student: StudentConfig) -> str:
    """The option that says where the student comes from, as the user typed it."""
    return f"student.path={student.path}" if student.path else f"student.{student.origins()[0]}"


def refuse_unequal(
    student: str,
    teacher: str,
    *,
    tokenizer: PreTrainedTokenizerBase,
    entries: int,
    teacher_tokenizer: PreTrainedTokenizerBase,
    teacher_entries: int,
) -> None:
    """Raise ValueError unless every id means the same to both: equal vocabularies, heads of one size (`entries`)."""
    if tokenizer is not teacher_tokenizer and tokenizer.get_vocab() != teacher_tokenizer.get_vocab():
        raise ValueError(
            f"{student} and the teacher ({teacher}) have different vocabularies "
            f"({len(tokenizer)} and {len(teacher_tokenizer)} entries); choose two models that share a tokenizer"
        )
    if entries != teacher_entries:
        raise ValueError(
            f"{student} predicts {entries} entries and the teacher ({teacher}) {teacher_entries}, with the same "
            "tokenizer; choose a pair with heads of one size"
        )


def shared_entries(
    tokenizer: PreTrainedTokenizerBase,
    teacher_tokenizer: PreTrainedTokenizerBase,
    *,
    entries: int,
    teacher_entries: int,
) -> int:
    """How many ids, from 0 on, mean the same to both."""
    raise TypeError("not written yet")
