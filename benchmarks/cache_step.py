"""A whole distillation step with the teacher live, and with its signals read from a cache.

    python benchmarks/cache_step.py                  # about 10 minutes on one core
    python benchmarks/cache_step.py --rounds 2 --tiny  # does it run? tiny random models

Teacher SmolLM2-135M-Instruct, student 6 of its 30 layers, 4 x 256 tokens of the Python language reference, forward KL
at temperature 1, every token supervised: student forward, rows, fused loss, backward, clipping and AdamW, as
benchmarks/step.py has it. The caches are written by `kdlab cache` for the same examples first, and kept under
multirun/cache_step.

Every round takes one step of each teacher on the same batch, in turn, each with a student of its own; the median over
the rounds is shown. Time is CPU time of one thread. `reading` is what `CachedTeacher.signal` takes of a step: keys,
mapped bytes, decoding; each batch of a round is another one, so nothing is read twice in a row. `x live` must be at
least 1.6 for topk, and `reading` below 3 %.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from step import versions
from step_systems import EXAMPLES, LAYERS, LENGTH, TEACHER, in_a_loop, kdlab_loss

CODECS: dict[str, dict[str, Any]] = {"topk": {"k": 128}, "hidden": {}}
FOLDER = Path("multirun/cache_step")
WARM_ROUNDS = 2
"""Rounds before the first timed one."""
NEEDED, SHARE = 1.6, 0.03


@dataclass
class Arm:
    """One teacher with a student of its own: seconds of each step, and those of them spent on reading."""

    step: Callable[[Any], float]
    teacher: Any
    seconds: list[float] = field(default_factory=list)
    reading: list[float] = field(default_factory=list)
    loss: float = 0.0

    def run(self, batch: Any, *, timed: bool) -> None:
        before, began = self.teacher.spent, time.process_time()
        loss = self.step(batch)
        taken = time.process_time() - began
        if timed:
            self.seconds.append(taken)
            self.reading.append(self.teacher.spent - before)
        self.loss = self.loss or loss


class Watched:
    """A teacher that adds up how long it takes to answer."""

    def __init__(self, teacher: Any) -> None:
        self.teacher, self.spent = teacher, 0.0

    def signal(self, batch: Any, positions_N: Any) -> Any:
        began = time.process_time()
        found = self.teacher.signal(batch, positions_N)
        self.spent += time.process_time() - began
        return found


def prepare(path: str, examples: int) -> tuple[Any, Any, list[Any], dict[str, Any]]:
    """The live teacher, the student cut from it, batches of whole examples, and the cached teachers by codec."""
    from kdlab.caching.job import cache
    from kdlab.caching.recipe import CacheConfig
    from kdlab.data.collate import padded
    from kdlab.data.dataset import DatasetConfig, Side, build
    from kdlab.models.student import CutConfig, StudentConfig, build_student
    from kdlab.teachers.codecs import CODECS as KINDS
    from kdlab.teachers.live import load_teacher
    from kdlab.teachers.opening import open_teacher
    from kdlab.teachers.options import TeacherConfig
    from kdlab.training.recipe import TrainerConfig

    told = TeacherConfig(path=path, dtype="float32")
    dataset = DatasetConfig(path="python_docs", max_length=LENGTH, num_samples=examples)
    teacher = load_teacher(told)
    cut = StudentConfig(from_teacher=CutConfig(layers=min(LAYERS, teacher.model.config.num_hidden_layers - 1)))
    student = build_student(cut, teacher.model, teacher.tokenizer, seed=0).model.float().train()
    cached = {}
    for codec, options in CODECS.items():
        folder = FOLDER / f"{path.replace('/', '--').replace(':', '-')}-{examples}-{codec}"
        config = CacheConfig(
            teacher=told,
            student=cut,
            dataset=dataset,
            codec=KINDS[codec](**options),
            fidelity_rows=0,
            trainer=TrainerConfig(accelerator="cpu", batch_size=EXAMPLES),
        )
        cache(config, output_dir=folder, overrides=[])
        cached[codec] = open_teacher(TeacherConfig(source="cached", path=str(folder)))
    entries = int(teacher.model.get_input_embeddings().weight.shape[0])
    store = build(dataset, Side(tokenizer=teacher.tokenizer, entries=entries)).train
    whole = [index for index in range(len(store)) if len(store[index]) == LENGTH]
    layout = store.layout(pad_id=int(teacher.tokenizer.pad_token_id or 0))
    parts = [whole[start : start + EXAMPLES] for start in range(0, len(whole) - EXAMPLES + 1, EXAMPLES)]
    return teacher, student, [padded([store[index] for index in part], layout) for part in parts], cached


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="timed steps of each teacher")
    parser.add_argument("--documents", type=int, default=12, help="of the Python language reference")
    parser.add_argument("--tiny", action="store_true", help="tiny random models: shows that it runs, and no more")
    arguments = parser.parse_args()

    import torch

    torch.set_num_threads(1)
    path = "tiny:llama" if arguments.tiny else TEACHER
    teacher, student, batches, cached = prepare(path, arguments.documents)
    arms = {}
    for name, answers in {"live": teacher, **cached}.items():
        own, watched = copy.deepcopy(student), Watched(answers)
        arms[name] = Arm(step=in_a_loop(kdlab_loss(watched, own, compiled=False), own), teacher=watched)
    for number in range(WARM_ROUNDS + arguments.rounds):
        for arm in arms.values():
            arm.run(batches[number % len(batches)], timed=number >= WARM_ROUNDS)

    print(f"\n{versions([])}; CPU time, 1 thread, median of {arguments.rounds} interleaved rounds")
    print(f"{path}, {EXAMPLES} x {LENGTH} tokens, forward KL, {len(batches)} batches\n")
    print("| teacher | s/step | x live | reading | first loss | bytes/row |")
    print("|---|---|---|---|---|---|")
    for name, arm in arms.items():
        ratios = [a / b for a, b in zip(arms["live"].seconds, arm.seconds, strict=True)]
        share = statistics.median(r / s for r, s in zip(arm.reading, arm.seconds, strict=True))
        told = "-" if name == "live" else f"{share:.2%}"
        size = "-" if name == "live" else f"{arm.teacher.teacher.cache.manifest.bytes_per_row:.0f}"
        print(
            f"| {name} | {statistics.median(arm.seconds):.3f} | {statistics.median(ratios):.2f} "
            f"({min(ratios):.2f}-{max(ratios):.2f}) | {told} | {arm.loss:.4f} | {size} |"
        )
    print(f"\nneeded: x live >= {NEEDED} for topk, reading < {SHARE:.0%}")


if __name__ == "__main__":
    main()
