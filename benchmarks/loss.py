"""The loss step alone, hidden states to gradients: kdlab's engine against plain PyTorch, TRL and Liger.

    python benchmarks/loss.py            # every loss and system, about 20 minutes on one core
    python benchmarks/loss.py --quick    # 512 positions, two rounds: a few minutes
    python benchmarks/loss.py --losses forward_kl --systems kdlab trl --threads 2

Every system gets the same tensors: hidden states and LM heads of a student and a teacher, labels (a quarter masked), a
temperature; and makes the same thing: the mean divergence per unmasked position, with the gradients of the student's
hidden states and head. Each is checked against float64 autograd on some of the rows first.

Each cell is a process of its own. `x bound` is time over that of the four matrix products no method avoids (student and
teacher logits, both gradients; unmasked rows only, buffers reused), taken immediately before each repetition; the
median is shown. Time is CPU time of the process with one thread, which other jobs disturb little, else wall time.
`extra MB` is peak memory over inputs loaded and kernels warm; the gradients themselves are part of it.

Systems that cannot be imported are left out, with a message.

Shape letters: N positions, n rows of a chunk, V vocabulary, H hidden.
"""

from __future__ import annotations

import argparse
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
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

LOSSES = ("forward_kl", "reverse_kl", "jensen_shannon", "skew_forward", "skew_reverse")
BETA = {"forward_kl": 0.0, "reverse_kl": 1.0, "jensen_shannon": 0.5}
"""The losses that TRL and Liger have, as their beta."""
SYSTEMS = {
    "trl": "trl",
    "kdlab": "kdlab",
    "kdlab compiled": "kdlab",
    "naive": "torch",
    "liger": "liger_kernel",
    "liger compiled": "liger_kernel",
}
"""Each system and the package it needs; TRL first, because the others are shown relative to it."""
TEMPERATURE = 2.0
CHECKED_ROWS = 96
CHUNK = 256


@dataclass
class Inputs:
    """What every system is given; float32."""

    hidden_NH: Any
    weight_VH: Any
    teacher_hidden_NH: Any
    teacher_weight_VH: Any
    labels_N: Any

    @property
    def leaves(self) -> tuple[Any, Any]:
        return self.hidden_NH, self.weight_VH

    def forget_gradients(self) -> None:
        for leaf in self.leaves:
            leaf.grad = None


def make_inputs(positions: int, vocabulary: int, hidden: int) -> Inputs:
    """Logits with the spread of a language model's; a quarter of the labels is masked, in runs as prompts are."""
    import torch

    draw = torch.Generator().manual_seed(0)

    def normal(*shape: int, scale: float) -> Any:
        return torch.randn(*shape, generator=draw) * scale

    spread = 3.0 / hidden**0.5
    labels_N = torch.randint(vocabulary, (positions,), generator=draw)
    labels_N[torch.arange(positions) % 256 < 64] = -100
    return Inputs(
        hidden_NH=normal(positions, hidden, scale=1.0).requires_grad_(),
        weight_VH=normal(vocabulary, hidden, scale=spread).requires_grad_(),
        teacher_hidden_NH=normal(positions, hidden, scale=1.0),
        teacher_weight_VH=normal(vocabulary, hidden, scale=spread),
        labels_N=labels_N,
    )


# The systems: each returns a function that makes the loss's scalar from inputs


def plain_formula(loss: str) -> Callable[[Any, Any], Any]:
    """The divergence per row from log-probabilities of student and teacher, as one writes it with torch's kl_div."""
    from torch.nn.functional import kl_div

    def kl(a_NV: Any, b_NV: Any) -> Any:
        return kl_div(b_NV, a_NV, reduction="none", log_target=True).sum(-1)

    def mix(a_NV: Any, b_NV: Any, weight: float) -> Any:
        return (weight * a_NV.exp() + (1 - weight) * b_NV.exp()).log()

    def jensen_shannon(q_NV: Any, p_NV: Any) -> Any:
        m_NV = mix(p_NV, q_NV, 0.5)
        return 0.5 * kl(p_NV, m_NV) + 0.5 * kl(q_NV, m_NV)

    formulas: dict[str, Callable[[Any, Any], Any]] = {
        "forward_kl": lambda q_NV, p_NV: kl(p_NV, q_NV),
        "reverse_kl": lambda q_NV, p_NV: kl(q_NV, p_NV),
        "jensen_shannon": jensen_shannon,
        "skew_forward": lambda q_NV, p_NV: kl(p_NV, mix(p_NV, q_NV, 0.1)),
        "skew_reverse": lambda q_NV, p_NV: kl(q_NV, mix(q_NV, p_NV, 0.1)),
    }
    return formulas[loss]


def naive(loss: str) -> Callable[[Inputs], Any]:
    """All logits, two log_softmaxes, the formula, a mask."""
    import torch

    formula = plain_formula(loss)

    def run(given: Inputs) -> Any:
        student_NV = given.hidden_NH @ given.weight_VH.T
        with torch.no_grad():
            teacher_NV = given.teacher_hidden_NH @ given.teacher_weight_VH.T
        q_NV = (student_NV / TEMPERATURE).log_softmax(-1)
        p_NV = (teacher_NV / TEMPERATURE).log_softmax(-1)
        mask_N = given.labels_N != -100
        return (formula(q_NV, p_NV) * mask_N).sum() / mask_N.sum()

    return run


def trl(loss: str) -> Callable[[Inputs], Any]:
    """TRL's GKDTrainer.generalized_jsd_loss on the logits of all positions."""
    import torch
    from trl.experimental.gkd import GKDTrainer

    def run(given: Inputs) -> Any:
        student_NV = given.hidden_NH @ given.weight_VH.T
        with torch.no_grad():
            teacher_NV = given.teacher_hidden_NH @ given.teacher_weight_VH.T
        return GKDTrainer.generalized_jsd_loss(
            student_NV[None], teacher_NV[None], given.labels_N[None], beta=BETA[loss], temperature=TEMPERATURE
        )

    return run


def liger(loss: str, *, compiled: bool) -> Callable[[Inputs], Any]:
    """Liger's LigerFusedLinearJSDLoss, soft term only, its default chunk of 1024."""
    from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss

    module = LigerFusedLinearJSDLoss(
        weight_hard_loss=0.0, weight_soft_loss=1.0, beta=BETA[loss], temperature=TEMPERATURE, compiled=compiled
    )

    def run(given: Inputs) -> Any:
        return module(
            given.hidden_NH, given.weight_VH, given.teacher_hidden_NH, given.teacher_weight_VH, given.labels_N
        )

    return run


def kdlab(loss: str, *, compiled: bool) -> Callable[[Inputs], Any]:
    """The engine, masked positions dropped first as `rows` does. T² is off: the others have none."""
    from kdlab.losses import LOSSES as TABLE
    from kdlab.losses.engine import row_loss
    from kdlab.rows import Projected, Rows, supervised

    chosen = TABLE[loss](temperature=TEMPERATURE, t2_scale=False, compile=compiled)

    def run(given: Inputs) -> Any:
        positions_n, labels_n = supervised(given.labels_N[None], shift=False)
        rows = Rows(
            student=Projected(hidden_NH=given.hidden_NH[positions_n], weight_VH=given.weight_VH),
            teacher=Projected(hidden_NH=given.teacher_hidden_NH[positions_n], weight_VH=given.teacher_weight_VH),
            labels_N=labels_n,
        )
        return row_loss(chosen, rows, count=len(labels_n)).loss

    return run


def system(name: str, loss: str) -> Callable[[Inputs], Any]:
    compiled = name.endswith(" compiled")
    if name.startswith("kdlab"):
        return kdlab(loss, compiled=compiled)
    if name.startswith("liger"):
        return liger(loss, compiled=compiled)
    return trl(loss) if name == "trl" else naive(loss)


# One cell, in a process of its own


def bound(given: Inputs) -> Callable[[], None]:
    """The four matrix products on the unmasked rows, in chunks, into memory allocated once."""
    import torch

    valid_n = given.labels_N != -100
    student_nH = given.hidden_NH.detach()[valid_n]
    teacher_nH = given.teacher_hidden_NH[valid_n]
    weight_VH = given.weight_VH.detach()
    logits_nV = torch.empty(CHUNK, len(weight_VH))
    hidden_nH, gradient_VH = torch.empty_like(student_nH), torch.zeros_like(weight_VH)

    def run() -> None:
        for start in range(0, len(student_nH), CHUNK):
            part = slice(start, start + CHUNK)
            out_nV = logits_nV[: len(student_nH[part])]
            torch.mm(student_nH[part], weight_VH.T, out=out_nV)
            torch.mm(teacher_nH[part], given.teacher_weight_VH.T, out=out_nV)
            torch.mm(out_nV, weight_VH, out=hidden_nH[part])
            gradient_VH.addmm_(out_nV.T, student_nH[part])

    return run


def error_against_float64(run: Callable[[Inputs], Any], loss: str, given: Inputs) -> float:
    """The largest relative error of loss and gradients, by norm, on the first rows; raises where it is above 1e-4."""
    import torch

    def part(dtype: torch.dtype) -> Inputs:
        rows = slice(0, CHECKED_ROWS)
        return Inputs(
            hidden_NH=given.hidden_NH.detach()[rows].to(dtype, copy=True).requires_grad_(),
            weight_VH=given.weight_VH.detach().to(dtype, copy=True).requires_grad_(),
            teacher_hidden_NH=given.teacher_hidden_NH[rows].to(dtype),
            teacher_weight_VH=given.teacher_weight_VH.to(dtype),
            labels_N=given.labels_N[rows],
        )

    exact, tested = part(torch.float64), part(torch.float32)
    expected, got = naive(loss)(exact), run(tested)
    expected.backward()
    got.backward()
    pairs = [
        (got.detach(), expected.detach()),
        *((a.grad, b.grad) for a, b in zip(tested.leaves, exact.leaves, strict=True)),
    ]
    worst = max(float((a.double() - b).norm() / b.norm()) for a, b in pairs)
    assert worst < 1e-4, f"{loss}: the result is {worst:.1e} away from float64 autograd"
    return worst


def status(field: str) -> int:
    """A line of /proc/self/status, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"this system's /proc/self/status has no {field}; memory is measured on Linux only")


def extra_memory(step: Callable[[], None]) -> int:
    """Peak resident bytes while `step` runs, over what is resident before it; run once before to warm the kernels."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
    before = status("VmRSS")
    step()
    return status("VmHWM") - before


def run_cell(loss: str, name: str, *, positions: int, vocabulary: int, hidden: int, rounds: int, threads: int) -> None:
    """Measure one system on one loss and print the result as a line of JSON."""
    import torch

    torch.set_num_threads(threads)
    clock = time.process_time if threads == 1 else time.perf_counter
    given = make_inputs(positions, vocabulary, hidden)
    run = system(name, loss)
    error = error_against_float64(run, loss, given)

    def step() -> None:
        given.forget_gradients()
        run(given).backward()

    step()
    given.forget_gradients()
    extra = extra_memory(step)
    reference = bound(given)
    reference()
    ratios, seconds = [], []
    for _ in range(rounds):
        started = clock()
        reference()
        middle = clock()
        step()
        seconds.append(clock() - middle)
        ratios.append(seconds[-1] / (middle - started))
    print(json.dumps({"ratios": ratios, "seconds": statistics.median(seconds), "extra": extra, "error": error}))


# The table


def cell(loss: str, name: str, arguments: argparse.Namespace) -> dict[str, Any] | None:
    """One cell measured in a fresh process; None, with a message, where it fails."""
    sizes = [arguments.positions, arguments.vocabulary, arguments.hidden, arguments.rounds, arguments.threads]
    command = [sys.executable, __file__, "--cell", loss, name, *map(str, sizes)]
    environment = os.environ | {"OMP_NUM_THREADS": str(arguments.threads)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{loss}, {name}: failed: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return None
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def versions(systems: list[str]) -> str:
    """What was measured, on what, when."""
    packages = ["torch", *sorted({SYSTEMS[name].replace("_", "-") for name in systems} - {"torch", "kdlab"})]
    said = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in packages)
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    processor = models[0].split(":", 1)[1].strip() if models else platform.machine()
    return f"{date.today()}; Python {platform.python_version()}, {said}; {processor}, {os.cpu_count()} cores"


def available(systems: list[str]) -> list[str]:
    found = []
    for name in systems:
        if importlib.util.find_spec(SYSTEMS[name]):
            found.append(name)
        else:
            print(f"{name}: {SYSTEMS[name]} is not installed; left out", file=sys.stderr)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="512 positions and two rounds")
    parser.add_argument("--losses", nargs="+", choices=LOSSES, default=list(LOSSES))
    parser.add_argument("--systems", nargs="+", choices=list(SYSTEMS), default=list(SYSTEMS))
    parser.add_argument("--positions", type=int, help="N, masked ones included (default 2048)")
    parser.add_argument("--vocabulary", type=int, default=49152)
    parser.add_argument("--hidden", type=int, default=576)
    parser.add_argument("--rounds", type=int, help="repetitions of each cell (default 5)")
    parser.add_argument("--threads", type=int, default=1, help="1: CPU time; more: wall time")
    arguments = parser.parse_args()
    arguments.positions = arguments.positions or (512 if arguments.quick else 2048)
    arguments.rounds = arguments.rounds or (2 if arguments.quick else 5)
    systems = available([name for name in SYSTEMS if name in arguments.systems])

    clock = "CPU time, 1 thread" if arguments.threads == 1 else f"wall time, {arguments.threads} threads"
    print(f"{versions(systems)}; {clock}, median of {arguments.rounds}")
    print(
        f"V={arguments.vocabulary} H={arguments.hidden} N={arguments.positions} T={TEMPERATURE:g}, a quarter masked\n"
    )
    print("| loss | system | x bound | x TRL | seconds | extra MB | x TRL | error |")
    print("|---|---|---|---|---|---|---|---|")
    for loss in arguments.losses:
        peer = None
        for name in systems:
            if loss not in BETA and SYSTEMS[name] not in ("kdlab", "torch"):
                continue
            result = cell(loss, name, arguments)
            if name == "trl":
                peer = result
            if result is not None:
                print(line(loss, name, result, peer), flush=True)


def line(loss: str, name: str, result: dict[str, Any], peer: dict[str, Any] | None) -> str:
    """One line of the table; `peer` is TRL's result."""
    ratio, low, high = (f(result["ratios"]) for f in (statistics.median, min, max))
    time_of_trl = f"{ratio / statistics.median(peer['ratios']):.2f}" if peer else "-"
    memory_of_trl = f"{result['extra'] / peer['extra']:.3f}" if peer else "-"
    return (
        f"| {loss} | {name} | {ratio:.2f} ({low:.2f}-{high:.2f}) | {time_of_trl} | {result['seconds']:.2f} "
        f"| {result['extra'] / 1e6:.0f} | {memory_of_trl} | {result['error']:.0e} |"
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--cell"]:
        N, V, H, repeat, cores = map(int, sys.argv[4:9])
        run_cell(sys.argv[2], sys.argv[3], positions=N, vocabulary=V, hidden=H, rounds=repeat, threads=cores)
    else:
        main()
