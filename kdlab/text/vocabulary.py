"""Token strings as bytes, and which ids of two vocabularies mean the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Matched:
    """Ids that mean the same string: `student_K[i]` and `teacher_K[i]`."""

    student_K: Tensor
    teacher_K: Tensor


def match(student: Any, teacher: Any) -> Matched:
    """Which ids of two tokenizers mean the same string."""
    raise TypeError("not written yet")
