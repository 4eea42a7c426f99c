"""The codecs of the teacher-signal cache: bytes, what they cost a gradient, and how fast they are read.

    python benchmarks/cache.py                      # every codec, about 15 minutes on one core
    python benchmarks/cache.py --tokens 512 --seeds 2

Teacher SmolLM2-135M-Instruct, examples of 256 supervised tokens spread over the Python language reference and
tutorial, encoded and decoded as `kdlab cache` and `kdlab train` do. `bytes/token` is all that lies on disk of a token,
payload and its share of the index; the head of `hidden`, which a cache holds once, is said apart. `KL` is
KL(full ‖ decoded), the mass that top-k leaves over spread evenly. `far` and `near` are |G' - G| / |G|, G the gradient
of forward KL with respect to the LM head's weight, for two students: 6 of the teacher's 30 layers as they are, and the
teacher without 3. `near` on the first 512 tokens too: noise averages out over tokens, bias does not. Draws: mean (and
range) over seeds. `tokens/s` is CPU time of one thread, 4 entries a call, to tensors ready for the loss.

The gradients are computed here in plain PyTorch, from each signal's definition. The second table is of the mean of
several redraws of the same rows: unbiased draws err as 1/sqrt(redraws), so its last columns stay at 1.

Shape letters: N rows, n rows of a chunk, V vocabulary, H hidden.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from step import versions

TEACHER = "HuggingFaceTB/SmolLM2-135M-Instruct"
FAR, DROPPED = 6, (7, 15, 22)
LENGTH, ENTRIES_A_CALL, CHUNK, FEW = 256, 4, 256, 512
CODECS: list[tuple[str, dict[str, Any]]] = [
    ("hidden", {}),
    ("topk", {"k": 128}),
    ("topk", {"k": 32}),
    ("topk", {"k": 128, "step": 0}),
    ("head_and_samples", {}),
    ("sampled", {}),
    ("sampled", {"draws": 200}),
]
REDRAWN: list[tuple[str, dict[str, Any]]] = [("head_and_samples", {}), ("sampled", {"draws": 200})]
REDRAWS = (1, 2, 4, 8)


@dataclass
class Inputs:
    """The rows: the teacher's hidden states and head, the labels, and both students' hidden states."""

    hidden_NH: Any
    weight_VH: Any
    labels_N: Any
    students: dict[str, Any]

    def teacher(self) -> Any:
        from kdlab.rows import Projected

        return Projected(hidden_NH=self.hidden_NH, weight_VH=self.weight_VH)

    def first(self, rows: int) -> Inputs:
        students = {name: hidden_NH[:rows] for name, hidden_NH in self.students.items()}
        return Inputs(self.hidden_NH[:rows], self.weight_VH, self.labels_N[:rows], students)

    @property
    def lengths(self) -> list[int]:
        return [LENGTH] * (len(self.labels_N) // LENGTH)


def load(tokens: int) -> Inputs:
    """Run the three models over as many examples as `tokens` asks for."""
    import torch

    from kdlab.data.collate import padded
    from kdlab.data.dataset import DatasetConfig, Side, build
    from kdlab.data.store import Layout
    from kdlab.models.head import SplitModel
    from kdlab.models.student import CutConfig, StudentConfig, build_student
    from kdlab.rows import supervised
    from kdlab.teachers.live import load_teacher
    from kdlab.teachers.options import TeacherConfig

    teacher = load_teacher(TeacherConfig(path=TEACHER, dtype="float32"))
    config = DatasetConfig(path="python_docs", max_length=LENGTH + 1)
    store = build(config, Side(tokenizer=teacher.tokenizer)).train
    whole = [index for index in range(len(store)) if len(store[index]) == LENGTH + 1]
    wanted = tokens // LENGTH
    chosen = [store[whole[i * len(whole) // wanted]] for i in range(wanted)]
    layout = Layout(pad_id=teacher.tokenizer.pad_token_id, longest=LENGTH + 1)
    batches = [padded(chosen[i : i + ENTRIES_A_CALL], layout) for i in range(0, wanted, ENTRIES_A_CALL)]
    places = [supervised(batch.labels_BT, shift=True) for batch in batches]

    def hidden(model: Any) -> Any:
        split = SplitModel(model.eval())
        with torch.no_grad():
            parts = [split.hidden(b).flatten(0, 1)[at] for b, (at, _) in zip(batches, places, strict=True)]
        return torch.cat(parts)

    def student(cut: CutConfig) -> Any:
        config = StudentConfig(from_teacher=cut)
        return build_student(config, teacher.model, teacher.tokenizer, seed=0).model.float()

    kept = [layer for layer in range(teacher.model.config.num_hidden_layers) if layer not in DROPPED]
    return Inputs(
        hidden_NH=hidden(teacher.model),
        weight_VH=teacher.model.get_output_embeddings().weight.detach(),
        labels_N=torch.cat([labels for _, labels in places]),
        students={
            "far": hidden(student(CutConfig(layers=FAR, pick="ends"))),
            "near": hidden(student(CutConfig(layers=kept))),
        },
    )


# Gradients


def target(signal: Any, part: slice, q_nV: Any) -> Any:
    """What a signal asks of a student, such that the gradient of its logits is q - target."""
    import torch

    from kdlab.rows import Sampled, TopK

    if isinstance(signal, Sampled):
        return torch.zeros_like(q_nV).scatter_add_(1, signal.ids_NK[part], signal.weight_NK[part])
    if isinstance(signal, TopK):  # the bucket of all others: the student keeps its own proportions there
        ids_nK = signal.ids_NK[part]
        others_nV = q_nV.scatter(1, ids_nK, 0.0)
        share_n1 = signal.rest_N[part].exp()[:, None] / others_nV.sum(1, keepdim=True).clamp_min(1e-30)
        return others_nV.mul_(share_n1).scatter_(1, ids_nK, signal.logp_NK[part].exp())
    return log_softmax(signal, part).exp_()


def log_softmax(side: Any, part: slice) -> Any:
    return (side.hidden_NH[part] @ side.weight_VH.T).log_softmax(1)


def gradient_errors(given: Inputs, student: str, signals: Sequence[Any], rows: int, *, means: bool = False) -> Any:
    """|G' - G| / |G| of each signal over the first `rows`; with `means`, of the mean of the first 1, 2, ... signals."""
    import torch

    hidden_NH = given.students[student]
    true_VH = torch.zeros_like(given.weight_VH)
    wrong = [torch.zeros_like(given.weight_VH) for _ in signals]
    for start in range(0, rows, CHUNK):
        part = slice(start, min(start + CHUNK, rows))
        p_nV = log_softmax(given.teacher(), part).exp_()
        q_nV = (hidden_NH[part] @ given.weight_VH.T).softmax(1)
        true_VH.addmm_((q_nV - p_nV).T, hidden_NH[part])
        for error_VH, signal in zip(wrong, signals, strict=True):
            error_VH.addmm_((p_nV - target(signal, part, q_nV)).T, hidden_NH[part])
    if means:
        for before, error_VH in pairwise(wrong):
            error_VH += before
        wrong = [error_VH / (i + 1) for i, error_VH in enumerate(wrong)]
    return [float(error_VH.norm() / true_VH.norm()) for error_VH in wrong]


def divergence(given: Inputs, signal: Any) -> float | None:
    """KL(full ‖ decoded) per row; None for draws."""
    import torch

    from kdlab.rows import Sampled, TopK

    if isinstance(signal, Sampled):
        return None
    total, rows = 0.0, len(given.labels_N)
    for start in range(0, rows, CHUNK):
        part = slice(start, min(start + CHUNK, rows))
        logp_nV = log_softmax(given.teacher(), part)
        if isinstance(signal, TopK):
            others = signal.vocabulary - signal.ids_NK.shape[1]
            even_nV = (signal.rest_N[part] - torch.tensor(float(others)).log())[:, None].expand_as(logp_nV)
            decoded_nV = even_nV.scatter(1, signal.ids_NK[part], signal.logp_NK[part])
        else:
            decoded_nV = log_softmax(signal, part)
        total += float((logp_nV.exp() * (logp_nV - decoded_nV)).sum(dtype=torch.float64))
    return total / rows


# The codecs


class Cache:
    """The rows, encoded by one codec."""

    def __init__(self, given: Inputs, name: str, options: dict[str, Any], seed: int) -> None:
        from dataclasses import replace

        from kdlab.teachers.codecs import CODECS as TABLE

        teacher = given.teacher()
        self.codec, self.lengths = TABLE[name](**options), given.lengths
        self.head = replace(teacher, hidden_NH=teacher.hidden_NH[:0])
        seeds = [seed * 1000 + entry for entry in range(len(self.lengths))]
        self.payloads = self.codec.encode(teacher, given.labels_N, lengths=self.lengths, seeds=seeds)

    def read(self, part: slice = slice(None)) -> Any:
        return self.codec.decode(
            self.payloads[part], lengths=self.lengths[part], vocabulary=self.head.vocabulary, head=self.head
        )

    def bytes_per_token(self) -> float:
        return sum(map(len, self.payloads)) / sum(self.lengths) + INDEX_BYTES / LENGTH

    def speed(self, *, seconds: float) -> float:
        """Tokens decoded in a second of CPU time, a few entries a call; the median of five goes."""
        found = []
        for _ in range(5):
            done, began = 0, time.process_time()
            while time.process_time() - began < seconds / 5:
                done += len(self.read(slice(0, ENTRIES_A_CALL)))
            found.append(done / (time.process_time() - began))
        return statistics.median(found)


INDEX_BYTES = 16 + 4 + 8 + 4
"""Of an entry in a cache's index: its key, its shard, where it lies and how many rows it has."""


def shown(values: Sequence[float]) -> str:
    """A mean, with the range where there are several."""
    mean = f"{statistics.mean(values):.4f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.4f}-{max(values):.4f})"


def line(given: Inputs, name: str, options: dict[str, Any], *, seeds: int, seconds: float) -> str:
    """One row of the first table."""
    drawn = name in ("head_and_samples", "sampled")
    caches = [Cache(given, name, options, seed) for seed in range(seeds if drawn else 1)]
    signals = [cache.read() for cache in caches]
    rows = len(given.labels_N)
    kl = divergence(given, signals[0])
    errors = [gradient_errors(given, *of) for of in (("far", signals, rows), ("near", signals, rows))]
    few = gradient_errors(given, "near", signals, min(FEW, rows))
    said = " ".join([name, *(f"{key}={value}" for key, value in options.items())])
    return (
        f"| {said} | {caches[0].bytes_per_token():.0f} | {'-' if kl is None else f'{kl:.1e}'} | {shown(errors[0])} "
        f"| {shown(errors[1])} | {shown(few)} | {caches[0].speed(seconds=seconds):,.0f} |"
    )


def redraw_lines(given: Inputs, name: str, options: dict[str, Any]) -> list[str]:
    """The second table: the error of the mean of some redraws."""
    few = given.first(min(FEW, len(given.labels_N)))
    signals = [Cache(few, name, options, 100 + seed).read() for seed in range(max(REDRAWS))]
    rows = len(few.labels_N)
    found = {student: gradient_errors(few, student, signals, rows, means=True) for student in few.students}
    return [
        f"| {name} | {n} | "
        + " | ".join(f"{errors[n - 1]:.4f} | {errors[n - 1] * n**0.5 / errors[0]:.2f}" for errors in found.values())
        + " |"
        for n in REDRAWS
    ]


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=2048, help="rows, a multiple of 256 (default 2048)")
    parser.add_argument("--seeds", type=int, default=3, help="of the codecs that draw")
    parser.add_argument("--seconds", type=float, default=5.0, help="CPU time that reading is timed for")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    given = load(arguments.tokens // LENGTH * LENGTH)
    print(f"{versions([])}; CPU time, 1 thread; {arguments.seeds} seeds of what is drawn")
    print(f"{TEACHER}, {len(given.labels_N)} tokens of python_docs in entries of {LENGTH}\n")
    print(f"| codec | bytes/token | KL | far | near | near, {FEW} tokens | tokens/s |")
    print("|---|---|---|---|---|---|---|")
    for name, options in CODECS:
        print(line(given, name, options, seeds=arguments.seeds, seconds=arguments.seconds), flush=True)
    print(f"\nThe head of `hidden`, once: {given.weight_VH.numel() * 4 / 1e6:.0f} MB in float32.")
    print("\n| codec | redraws | far | x sqrt(redraws) | near | x sqrt(redraws) |\n|---|---|---|---|---|---|")
    for name, options in REDRAWN:
        print("\n".join(redraw_lines(given, name, options)), flush=True)


if __name__ == "__main__":
    main()
