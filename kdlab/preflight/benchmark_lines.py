"""The findings about benchmarks of others: what they ask of models and of a judge, and what the judge costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from kdlab.benchmarking.asking import CHARACTERS, Asked, count_asked
from kdlab.benchmarking.questions import read_bench
from kdlab.benchmarking.recipe import JUDGE, JudgeConfig
from kdlab.preflight.benchmarks import JUDGEMENT, Suites, judge_seconds
from kdlab.preflight.findings import Section, count, size, span
from kdlab.preflight.model_lines import dtype_name
from kdlab.preflight.sketch import Sketch, Sketches, sketch_model

if TYPE_CHECKING:
    from kdlab.benchmarking.harness_requests import Requests
    from kdlab.training.recipe import TrainConfig


def say_benchmarks(section: Section, config: TrainConfig, models: Sketches, device: torch.device) -> Suites:
    """Reads MT-Bench's files and the tasks' data. Raises as a run does where they are not to be had."""
    benchmark, asked, judge = config.benchmark, None, None
    requests: dict[str, Requests] = {}
    if benchmark.mt_bench is not None:
        told = benchmark.mt_bench
        bench = read_bench(told.path, modes=told.modes, count=told.questions)
        asked = count_asked(told, bench, teacher=models.teacher is not None)
        if told.judge.kind == "local":
            assert told.judge.path is not None
            judge = sketch_model(told.judge.path, option=f"{JUDGE}.path", device=device)
    if benchmark.harness is not None:
        from kdlab.benchmarking.harness import Harness

        requests = Harness(benchmark.harness).requests(models.student.tokenizer)
    found = Suites(asked=asked, judge=judge, requests=requests)
    if asked is not None:
        _say_mt_bench(section, config, found, asked)
    for task, told_of in requests.items():
        written = f", {told_of.written:,} written at most" if told_of.written else ""
        section.say(
            "ok",
            f"lm-evaluation-harness, {task}: {told_of.examples:,} examples, about {told_of.requests:,} requests, "
            f"{count(told_of.read)} tokens read{written}, of each model",
        )
    return found


def _say_mt_bench(section: Section, config: TrainConfig, found: Suites, asked: Asked) -> None:
    assert config.benchmark.mt_bench is not None
    judge = config.benchmark.mt_bench.judge
    who = " and ".join([", ".join(asked.models[:-1]), asked.models[-1]])
    section.say(
        "ok",
        f"MT-Bench: {asked.questions} questions, two turns; {who} write at most {asked.answer_tokens:,} tokens in all",
    )
    parts = ", ".join(f"{stage} {number:,}" for stage, number in asked.judgements.items())
    again = f"; one that cannot be read is asked for up to {judge.tries} times" if judge.tries > 1 else ""
    section.say("ok", f"{sum(asked.judgements.values()):,} judgements ({parts}){again}")
    section.say("note", _cost(judge, asked))
    if found.judge is not None:
        section.say("ok", _local(found.judge, judge))
        return
    section.say(
        "note",
        f"judging takes about {span(judge_seconds(found, config, None))} if a judgement takes {JUDGEMENT:g} s, "
        f"{judge.concurrency} at a time",
    )


def _cost(judge: JudgeConfig, asked: Asked) -> str:
    """The most that the judge reads and writes, and its price."""
    line = f"the judge reads at most {asked.tokens_in:,} tokens and writes {asked.tokens_out:,}"
    line += f", price at most {asked.price:,.4g}" if asked.price is not None else ""
    line += ", with every answer and judgement as long as it may be, each asked for once"
    return f"{line} (questions and prompts at {CHARACTERS} characters a token)"


def _local(side: Sketch, judge: JudgeConfig) -> str:
    found = side.size
    return (
        f"judge: {judge.path}, {count(found.parameters)} parameters, {dtype_name(side)}; before and after training "
        f"{size(found.bytes)} besides the other models, which are no part of the peak below"
    )
