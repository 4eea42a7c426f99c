"""What is asked of a server, what it tells, and what makes an answer unusable. Importable without torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Text:
    """The token ids of one text, and the positions whose predictions are wanted, rising."""

    ids: list[int]
    rows: list[int]


@dataclass(frozen=True)
class Prediction:
    """The k most likely ids with their log-probabilities, falling, and the log-probability of the text's own next token
    (None where the server does not tell)."""

    ids: list[int]
    logp: list[float]
    label: float | None


class AnswerError(Exception):
    """An answer that cannot be used. `again`: another one may be better, so it is worth asking again."""

    def __init__(self, reason: str, *, again: bool = True) -> None:
        super().__init__(reason)
        self.again = again


class OtherProtocolError(AnswerError):
    """The server answered, but not as this protocol does."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, again=False)


class TooFewError(AnswerError):
    """The server gives fewer log-probabilities a token than were asked for."""

    def __init__(self, given: int, k: int) -> None:
        super().__init__(
            f"teacher.server.k={k}: the server gives {given} a token; ask for fewer, or raise its own limit "
            "(vLLM: --max-logprobs)",
            again=False,
        )
