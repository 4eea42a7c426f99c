"""From whole documents to examples: windows and cuts of `max_length`, and the choice of what is held out.

Who is held out is decided by the hash of a document's tokens and `dataset.split_seed`, so a repeated row lands on the
same side as the first, and adding rows does not reshuffle the others.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kdlab.data.pairing import Teacher, alike, answered, covered, partners
from kdlab.data.store import TokenStore, count_supervised
from kdlab.data.token_file import Tokens
from kdlab.data.verdict import ONE_SIDED, Part, TeacherPart

FEW_DOCUMENTS = 10
"""With fewer plain-text documents than this, the tail of each is held out instead of whole documents."""

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


def examples(
    file: Tokens,
    chosen: Bools,
    *,
    max_length: int,
    max_target_length: int | None = None,
    keep: Bools | None = None,
    teacher: Teacher | None = None,
) -> tuple[TokenStore, Part]:
    """The examples of the chosen documents, and what became of them.

    Plain text: consecutive windows of `max_length` tokens; the last may be shorter, and takes a token from the one
    before rather than stand alone. A conversation: its first `max_length` tokens; the rest is cut and counted. With an
    encoder: the first `max_length` tokens of the source and `max_target_length` (None: as many) of the target. What is
    left without a supervised token is skipped and counted. `keep`, over the windows of all documents, narrows further.

    With a `teacher` each comes as it reads it too; a row that it skips is skipped and counted.
    """
    limit = max_target_length if file.seq2seq and max_target_length is not None else max_length
    starts, stops, source = windows(file, limit)
    within = chosen[source] if keep is None else chosen[source] & keep
    skipped: dict[str, int] = {}
    if teacher is not None:
        there = partners(file, teacher.tokens) >= 0
        for reason, count in teacher.tokens.reasons(file.rows[np.unique(source[within & ~there[source]])]).items():
            skipped[f"{ONE_SIDED}: {reason}"] = count
        if teacher.same_tokens:
            same = alike(file, teacher.tokens)
            if bare := int((within & there[source] & ~same[source]).sum()):
                skipped[f"{ONE_SIDED}: its prompt makes other tokens of the answer"] = bare
            there &= same
        within &= there[source]
    starts, stops, source = starts[within], stops[within], source[within]
    lost = np.maximum(np.where(file.chat, file.lengths, 0)[source] - (stops - starts), 0)
    usable = count_supervised(file.supervised_T, starts if file.seq2seq else starts + 1, stops) > 0
    if bare := int((~usable & (lost > 0)).sum()):
        skipped["whose response lies wholly beyond dataset.max_length"] = bare
    if bare := int((~usable & (lost == 0)).sum()):
        skipped["with no token to predict"] = bare
    starts, stops, source, lost = starts[usable], stops[usable], source[usable], lost[usable]
    store = TokenStore(
        file,
        starts=starts,
        stops=stops,
        source=source,
        max_length=max_length,
        max_target_length=limit,
        teacher=None if teacher is None else _teachers(teacher, file, starts, stops, source, max_length),
    )
    if store.teacher is not None and (bare := int((store.teacher.supervised == 0).sum())):
        skipped["with no token for the teacher to predict"] = bare
        kept = store.teacher.supervised > 0
        store, lost = store.only(kept), lost[kept]
    return store, _part(store, lost, skipped)


def _teachers(teacher: Teacher, file: Tokens, starts: Ints, stops: Ints, source: Ints, max_length: int) -> TokenStore:
    """The teacher's side of examples of a student's file."""
    if teacher.same_tokens:
        their_starts, their_stops = answered(file, teacher.tokens, stops=stops, source=source)
    else:
        their_starts, their_stops = covered(file, teacher.tokens, starts=starts, stops=stops, source=source)
    if teacher.prompted and teacher.tokens.seq2seq:
        max_length = int(teacher.tokens.source_lengths.max())
    return TokenStore(
        teacher.tokens,
        starts=their_starts,
        stops=their_stops,
        source=partners(file, teacher.tokens)[source],
        max_length=max_length,
        bos_id=teacher.bos_id,
        pad_id=teacher.pad_id,
    )


def _part(store: TokenStore, lost: Ints, skipped: dict[str, int]) -> Part:
    part = Part(examples=len(store), tokens=store.tokens, supervised=store.supervised_tokens, skipped=skipped)
    part.cut, part.cut_tokens = int((lost > 0).sum()), int(lost.sum())
    if store.seq2seq:
        part.source_tokens = int(store.source_lengths.sum())
        part.cut_sources, part.cut_source_tokens = _sources_cut(store)
    if store.teacher is not None:
        theirs = store.teacher
        cut_sources, cut_source_tokens = _sources_cut(theirs)
        part.teacher = TeacherPart(
            tokens=theirs.tokens,
            supervised=theirs.supervised_tokens,
            longest=int(theirs.lengths.max(initial=0)),
            cut_sources=cut_sources,
            cut_source_tokens=cut_source_tokens,
        )
    return part


def _sources_cut(store: TokenStore) -> tuple[int, int]:
    """How many examples have a source longer than is read of it, and what they lost together."""
    lost = store.file.source_lengths[store.source] - store.source_lengths
    return int((lost > 0).sum()), int(lost.sum())


def windows(file: Tokens, max_length: int) -> tuple[Ints, Ints, Ints]:
    """`starts`, `stops` and document index of all windows; a conversation has one, its beginning."""
    lengths, begins = file.lengths, file.offsets[:-1]
    counts = np.where(file.chat, 1, np.maximum(1, -(-lengths // max_length)))
    source = np.repeat(np.arange(len(file)), counts)
    number = np.arange(len(source)) - np.repeat(np.cumsum(counts) - counts, counts)
    starts = begins[source] + number * max_length
    stops = np.minimum(starts + max_length, begins[source] + lengths[source])
    alone = (stops - starts == 1) & (number > 0)
    starts[alone] -= 1
    stops[np.flatnonzero(alone) - 1] -= 1
    return starts, stops, source


def hold_out(file: Tokens, *, heldout: float, seed: int, max_length: int) -> tuple[Bools, Bools | None, str]:
    """Which documents are held out `[documents]`; or, for few plain texts, all True and which windows are; and how it
    was chosen, in words.

    `heldout` < 1 is a share: of the rows for conversations, of the tokens for plain text, whose documents differ in
    size. `heldout` >= 1 is a count of rows, documents or windows. Raises ValueError where nothing would be left to
    train on.
    """
    if not file.chat.any() and len(file) < FEW_DOCUMENTS:
        held_W = _tails(file, heldout, max_length)
        return np.ones(len(file), np.bool_), held_W, "the last windows of each document"
    unit = "rows" if file.chat.any() else "documents"
    if len(file) < 2:
        raise ValueError(
            f"dataset.heldout={heldout}: one row cannot be split; give held-out rows by dataset.heldout_path"
        )
    order = np.argsort(_scores(file.hashes, seed), kind="stable")
    if heldout >= 1 or file.chat.any():
        count = int(heldout) if heldout >= 1 else max(1, round(heldout * len(file)))
        taken = order[:count]
    else:
        taken = _up_to(file.lengths, order, heldout * float(file.lengths.sum()))
    held = np.isin(file.hashes, file.hashes[taken])  # a repeated row follows the first
    if held.all():
        raise ValueError(f"dataset.heldout={heldout}: leaves none of the {len(file):,} {unit} to train on")
    return held, None, f"{int(held.sum()):,} {unit} drawn by dataset.split_seed={seed}"


def _up_to(lengths: Ints, order: Ints, tokens: float) -> Ints:
    """Documents in this order until they have `tokens`; one that would overshoot it by a quarter is passed over."""
    taken, total = [], 0
    for document in order.tolist():
        length = int(lengths[document])
        if total + length <= 1.25 * tokens:
            taken.append(document)
            total += length
        if total >= tokens:
            break
    return np.array(taken or order[:1], np.int64)


def _scores(hashes: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    """A fixed random number for each content and seed (splitmix64)."""
    x = hashes ^ np.uint64(int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]))
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _tails(file: Tokens, heldout: float, max_length: int) -> Bools:
    """The last windows of each document, in proportion; at least one window altogether."""
    _, _, source = windows(file, max_length)
    counts = np.bincount(source, minlength=len(file))
    share = heldout if heldout < 1 else heldout / len(source)
    tails = np.floor(share * counts + 0.5).astype(np.int64)
    if not tails.any():
        tails[file.hashes == file.hashes[np.argmax(counts)]] = 1
    ends = np.repeat(np.cumsum(counts), counts)
    held = np.arange(len(source)) >= ends - tails[source]
    if held.all():
        raise ValueError(
            f"dataset.heldout={heldout}: leaves none of the {len(source)} windows of dataset.max_length={max_length} "
            "tokens to train on; lower either, or give dataset.heldout_path"
        )
    return np.asarray(held, np.bool_)


def repeats(file: Tokens) -> int:
    """Documents that are, token by token, the same as an earlier one."""
    return len(file) - len(np.unique(file.hashes))
