"""A whole online-distillation step: teacher, student, loss, backward, clip and AdamW, in kdlab and in others.

    python benchmarks/step.py                  # every system, about 10 minutes on one core
    python benchmarks/step.py --threads 2      # wall time on two threads instead of CPU time on one
    python benchmarks/step.py --systems kdlab trl --rounds 3

Teacher SmolLM2-135M-Instruct, student 6 of its 30 layers, 4 x 256 tokens of the Python language reference, forward KL
at temperature 1, every token supervised. All systems see the same batches and start from the same student.

Each system is a process of its own. `x bound` is the time of a step over that of the work done without distilling:
the float32 teacher's forward with logits, and the student's own training step on its labels (transformers' loss,
fused AdamW, no clipping), taken immediately before each step in the same process; the median is shown. Time is CPU time
of the process with one thread, which other jobs disturb little, else wall time. `peak MB` is the resident memory of the
whole process during a step, taken before anything of the bound exists. `loss` is the first step's: the same for all.

Systems that cannot be imported are left out, with a message; so is a bfloat16 teacher where the processor only
emulates it, unless it is asked for by name.
"""

from __future__ import annotations

import argparse
import copy
import ctypes
import gc
import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

from loss import status
from step_systems import (
    EXAMPLES,
    LAYERS,
    LENGTH,
    TEACHER,
    Work,
    bound,
    in_a_loop,
    kdlab_loss,
    load,
    naive_loss,
    run_trl_trainer,
    trl_loss,
)

SYSTEMS = {
    "kdlab": "kdlab",
    "kdlab compiled": "kdlab",
    "kdlab, bf16 teacher": "kdlab",
    "kdlab compiled, bf16 teacher": "kdlab",
    "naive": "torch",
    "trl loss": "trl",
    "trl GKDTrainer": "trl",
}
"""Each system and the package it needs."""
PEER = "trl loss"
WARM_STEPS = 2
"""Steps before the first timed one."""


# One system, in a process of its own


class Meter:
    """Warm steps first, the last of them for memory; then, before each step, the bound, which starts here."""

    def __init__(self, teacher: Any, student: Any, *, threads: int, bfloat16: bool) -> None:
        self.clock = time.process_time if threads == 1 else time.perf_counter
        self.teacher, self.untrained, self.bfloat16 = teacher, copy.deepcopy(student.state_dict()), bfloat16
        self.student_config = student.config
        self.done, self.peak, self.bound = 0, 0, None
        self.ratios: list[float] = []
        self.seconds: list[float] = []

    def before(self, batch: Any) -> None:
        self.reference = 0.0
        if self.done == WARM_STEPS - 1:
            gc.collect()
            ctypes.CDLL(None).malloc_trim(0)
            Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
        if self.done >= WARM_STEPS:
            if self.bound is None:
                self.bound = self._start_bound()
                self.bound(batch)
            began = self.clock()
            self.bound(batch)
            self.reference = self.clock() - began
        self.began = self.clock()

    def after(self) -> None:
        taken = self.clock() - self.began
        if self.done == WARM_STEPS - 1:
            self.peak = status("VmHWM")
        if self.reference:
            self.seconds.append(taken)
            self.ratios.append(taken / self.reference)
        self.done += 1

    def _start_bound(self) -> Work:
        """A student and, beside a bfloat16 teacher, a float32 teacher of the bound's own."""
        from transformers import AutoModelForCausalLM

        from kdlab.models.loading import load_language_model

        student = AutoModelForCausalLM.from_config(self.student_config).float().train()
        student.load_state_dict(self.untrained)
        teacher = load_language_model(TEACHER, dtype="float32") if self.bfloat16 else self.teacher.model
        return bound(teacher, student)


def run_loop(step: Work, batches: list[Any], meter: Meter, *, rounds: int) -> float:
    """Drive a plain loop; returns the first loss."""
    losses = []
    for index in range(WARM_STEPS + rounds):
        batch = batches[index % len(batches)]
        meter.before(batch)
        losses.append(step(batch))
        meter.after()
    return losses[0]


def run_system(name: str, *, rounds: int, threads: int) -> None:
    """Measure one system and print the result as a line of JSON."""
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    bfloat16 = name.endswith("bf16 teacher")
    teacher, student, batches = load("bfloat16" if bfloat16 else "float32")
    meter = Meter(teacher, student, threads=threads, bfloat16=bfloat16)
    if name == "trl GKDTrainer":
        first = run_trl_trainer(teacher, student, batches, meter, steps=WARM_STEPS + rounds)
    else:
        if name.startswith("kdlab"):
            loss = kdlab_loss(teacher, student, compiled="compiled" in name)
        else:
            loss = naive_loss(teacher, student) if name == "naive" else trl_loss(teacher, student)
        first = run_loop(in_a_loop(loss, student), batches, meter, rounds=rounds)
    result = {"ratios": meter.ratios, "seconds": statistics.median(meter.seconds), "peak": meter.peak, "loss": first}
    print(json.dumps(result))


# The table


def measured(name: str, *, rounds: int, threads: int) -> dict[str, Any] | None:
    """One system in a fresh process; None, with a message, where it fails."""
    command = [sys.executable, __file__, "--system", name, str(rounds), str(threads)]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "TRL_EXPERIMENTAL_SILENCE": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{name}: failed: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return None
    lines = [line for line in done.stdout.splitlines() if line.startswith('{"ratios"')]
    result: dict[str, Any] = json.loads(lines[-1])
    return result


def available(asked: list[str] | None) -> list[str]:
    """The systems that can run here; those left out are said."""
    from kdlab.models.dtype import processor_has_bfloat16

    found = []
    for name in asked or SYSTEMS:
        if importlib.util.find_spec(SYSTEMS[name]) is None:
            print(f"{name}: {SYSTEMS[name]} is not installed; left out", file=sys.stderr)
        elif name.endswith("bf16 teacher") and not asked and not processor_has_bfloat16():
            print(f"{name}: this processor has no bfloat16 instructions; left out", file=sys.stderr)
        else:
            found.append(name)
    return found


def versions(systems: list[str]) -> str:
    """What was measured, on what, when."""
    packages = ["torch", "transformers", *(["trl"] if any(name.startswith("trl") for name in systems) else [])]
    said = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in packages)
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    processor = models[0].split(":", 1)[1].strip() if models else platform.machine()
    return f"{date.today()}; Python {platform.python_version()}, {said}; {processor}, {os.cpu_count()} cores"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", nargs="+", choices=list(SYSTEMS), help="default: all that can run here")
    parser.add_argument("--rounds", type=int, default=5, help="timed steps of each system")
    parser.add_argument("--threads", type=int, default=1, help="1: CPU time; more: wall time")
    arguments = parser.parse_args()
    systems = available(arguments.systems)

    clock = "CPU time, 1 thread" if arguments.threads == 1 else f"wall time, {arguments.threads} threads"
    print(f"{versions(systems)}; {clock}, median of {arguments.rounds}")
    print(f"{TEACHER}, student {LAYERS} layers, {EXAMPLES} x {LENGTH} tokens, forward KL\n")
    results = {name: measured(name, rounds=arguments.rounds, threads=arguments.threads) for name in systems}
    peer = results.get(PEER)
    print("| system | x bound | x TRL | seconds | tokens/s | peak MB | x TRL | loss |")
    print("|---|---|---|---|---|---|---|---|")
    for name, result in results.items():
        if result is None:
            continue
        ratio, peak, seconds = statistics.median(result["ratios"]), result["peak"], result["seconds"]
        time_of_trl = f"{ratio / statistics.median(peer['ratios']):.2f}" if peer else "-"
        memory_of_trl = f"{peak / peer['peak']:.2f}" if peer else "-"
        print(
            f"| {name} | {ratio:.2f} ({min(result['ratios']):.2f}-{max(result['ratios']):.2f}) | {time_of_trl} "
            f"| {seconds:.2f} | {EXAMPLES * LENGTH / seconds:.0f} | {peak / 1e6:.0f} | {memory_of_trl} "
            f"| {result['loss']:.4f} |"
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--system"]:
        run_system(sys.argv[2], rounds=int(sys.argv[3]), threads=int(sys.argv[4]))
    else:
        main()
