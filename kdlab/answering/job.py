"""What `kdlab generate` and `kdlab evaluate` have in common: questions, a model, and an answer to each question."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from kdlab.answering.answers_file import Answer, AnswersFile
from kdlab.answering.judging import judged
from kdlab.answering.questions import Questions, read_questions
from kdlab.answering.record import Record
from kdlab.answering.write import write_missing
from kdlab.durable import disk_is_full
from kdlab.models.loading import load_config, load_language_model, load_tokenizer, refuse_unless_language_model
from kdlab.models.size import measure
from kdlab.models.source import Source, disk_bytes, resolve
from kdlab.models.weights_hash import source_hash
from kdlab.text.final_numbers import gold
from kdlab.text.prompts import fill
from kdlab.training.device import find_device, quiet_libraries
from kdlab.training.manifest import describe_device
from kdlab.training.stopping import RunFailed

if TYPE_CHECKING:
    from kdlab.answering.recipe import AnswerConfig


def answer_all(config: AnswerConfig, record: Record, *, wording: str, must_judge: str | None) -> list[Answer]:
    """Every question of `config.dataset`, worded by `wording`, answered by `config.model` and judged by `config.rules`;
    in the order of rows and draws. What a killed process has written is kept.

    `must_judge` names the option for which a reference has to come to a number (None: none has to). Raises ValueError
    or FileNotFoundError with one line.
    """
    file = AnswersFile(record.path.parent)
    if record.content["bound"] is None and file.path.exists():
        raise ValueError(
            f"{file.path}: {record.path.name} beside it is gone or damaged; delete the folder to begin again"
        )
    try:
        with quiet_libraries():
            _Work(config, record, wording).run(file, must_judge)
    except OSError as error:
        if not disk_is_full(error):
            raise
        raise RunFailed(f"{file.path}: {error.strerror}; make room and rerun the same command") from error
    return file.read()


@dataclass
class _Work:
    """One process's share of a job."""

    config: AnswerConfig
    record: Record
    wording: str

    def run(self, file: AnswersFile, must_judge: str | None) -> None:
        config, content = self.config, self.record.content
        began = time.perf_counter()
        if config.writing.threads is not None:
            torch.set_num_threads(config.writing.threads)
        device = find_device(config.writing.accelerator, group="writing")
        content["hardware"] |= describe_device(device)
        source, tokenizer, seq2seq = self.open()
        questions = self.questions(tokenizer, seq2seq, must_judge)
        model = self.load(source, tokenizer, questions, device)
        content["seconds"]["load"] += time.perf_counter() - began
        self.record.write()
        self.write(model, tokenizer, questions, file, device)
        answers = file.read()
        file.replace(answers)  # in the order of rows: it was written longest first
        content["limit_reached"] = sum(answer["stopped"] == "limit" for answer in answers)
        content["answer_count"] = len(answers)
        content["tokens"] = {
            "prompt": sum(answer["prompt_tokens"] for answer in answers),
            "written": sum(answer["tokens"] for answer in answers),
        }

    def open(self) -> tuple[Source, Any, bool]:
        """Where the model lies, its tokenizer, and whether it is an encoder-decoder."""
        asked = self.config.model
        assert asked.path is not None, "the rules of the options refuse it"
        source = resolve(asked.path, asked.revision, option="model.path")
        shape = load_config(source, f"model.path={asked.path}", asked.trust_remote_code)
        refuse_unless_language_model(shape, f"model.path={asked.path}")
        tokenizer = load_tokenizer(asked.path, asked.revision, asked.trust_remote_code, option="model.path")
        return source, tokenizer, bool(getattr(shape, "is_encoder_decoder", False))

    def questions(self, tokenizer: Any, seq2seq: bool, must_judge: str | None) -> Questions:
        config = self.config
        questions = read_questions(
            config.dataset, tokenizer, seq2seq=seq2seq, wording=self.wording, examples=config.writing.examples
        )
        without = sum(gold(question.reference) is None for question in questions.asked)
        print(questions, flush=True)
        if must_judge is not None and without == len(questions.asked):
            raise ValueError(
                f"dataset.path={config.dataset.path}: none of its answers comes to a number, which {must_judge} needs; "
                "a number is what stands behind ####, in \\boxed{}, or alone"
            )
        if must_judge is not None and without:
            print(f"{without:,} of {len(questions.asked):,} references come to no number: they are not judged")
        self.record.content |= {"data": questions.as_dict(), "questions": len(questions.asked)}
        return questions

    def load(self, source: Source, tokenizer: Any, questions: Questions, device: torch.device) -> Any:
        """The model, described in the record, which refuses another than the job began with."""
        asked = self.config.model
        assert asked.path is not None
        model = load_language_model(
            asked.path,
            revision=asked.revision,
            dtype=asked.dtype,
            trust_remote_code=asked.trust_remote_code,
            quantization=self.config.quantization,
            device=device,
            option="model.path",
        )
        identity = source_hash(source)
        self.record.bind(questions=questions.fingerprint, model=identity)
        self.record.content["model"] = {
            "source": source.description,
            "identity": identity,
            **measure(model).as_dict(),
            "dtype": str(model.dtype).removeprefix("torch."),
            "disk_bytes": disk_bytes(source),
            "tokenizer": f"{len(tokenizer)} tokens",
        }
        return model

    def write(self, model: Any, tokenizer: Any, questions: Questions, file: AnswersFile, device: torch.device) -> None:
        """Write what is missing; the seconds in the record are those of all processes of the job."""
        content, last = self.record.content, [time.perf_counter()]

        def after(answers: list[Answer]) -> None:
            now = time.perf_counter()
            content["seconds"]["write"] += now - last[0]
            last[0] = now
            content["answer_count"] += len(answers)
            self.record.write()

        write_missing(
            self.config,
            model,
            tokenizer,
            questions.asked,
            file,
            device=device,
            judge=self.judge(),
            after=after,
        )

    def judge(self) -> Callable[[Answer], Answer]:
        """What an answer comes to; an answer that repeats its question is not judged by the question's numbers."""

        def by_rules(answer: Answer) -> Answer:
            asked = fill(self.wording, question=answer["question"], answer="")
            return judged(answer, rules=self.config.rules, question=asked)

        return by_rules
