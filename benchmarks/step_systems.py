"""The systems of benchmarks/step.py: models, batches, and one online-distillation step in kdlab, plain PyTorch and TRL.

Shape letters: B batch, T time, V vocabulary.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any

TEACHER = "HuggingFaceTB/SmolLM2-135M-Instruct"
LAYERS, EXAMPLES, LENGTH = 6, 4, 256
LEARNING_RATE, CLIP = 1e-4, 1.0
Work = Callable[[Any], float]
"""A step on a batch; returns its loss."""


def load(dtype: str) -> tuple[Any, Any, list[Any]]:
    """The teacher, the student cut from it (always float32), and batches of whole examples."""
    from kdlab.data.collate import padded
    from kdlab.data.dataset import DatasetConfig, Side, build
    from kdlab.models.student import CutConfig, StudentConfig, build_student
    from kdlab.teachers.live import load_teacher
    from kdlab.teachers.options import TeacherConfig

    teacher = load_teacher(TeacherConfig(path=TEACHER, dtype=dtype), device="cpu")
    config = StudentConfig(from_teacher=CutConfig(layers=LAYERS))
    student = build_student(config, teacher.model, teacher.tokenizer, seed=0).model.float().train()
    entries = int(teacher.model.get_input_embeddings().weight.shape[0])
    side = Side(tokenizer=teacher.tokenizer, entries=entries)
    store = build(DatasetConfig(path="python_docs", max_length=LENGTH), side).train
    whole = [index for index in range(len(store)) if len(store[index]) == LENGTH]
    layout = store.layout(pad_id=int(teacher.tokenizer.pad_token_id or 0))
    parts = [whole[start : start + EXAMPLES] for start in range(0, 8 * EXAMPLES, EXAMPLES)]
    batches = [padded([store[index] for index in part], layout) for part in parts]
    assert all(batch.input_ids_BT.shape == (EXAMPLES, LENGTH) for batch in batches)
    return teacher, student, batches


def adamw(student: Any) -> Any:
    import torch

    return torch.optim.AdamW(student.parameters(), lr=LEARNING_RATE, fused=True)


# The systems: each returns a function that makes the loss's scalar of a batch


def kdlab_loss(teacher: Any, student: Any, *, compiled: bool) -> Callable[[Any], Any]:
    """Split models, supervised rows only, the fused engine."""
    from kdlab.losses import LOSSES
    from kdlab.losses.engine import row_loss
    from kdlab.models.head import SplitModel
    from kdlab.training.pair import ModelPair

    pair, chosen = ModelPair(split=SplitModel(student), teacher=teacher), LOSSES["forward_kl"](compile=compiled)

    def run(batch: Any) -> Any:
        rows = pair.rows(batch)
        return row_loss(chosen, rows, count=len(rows)).loss

    return run


def logits_of_both(teacher: Any, student: Any, batch: Any) -> tuple[Any, Any, Any]:
    """All logits of student and teacher, and the labels they predict."""
    import torch

    inputs = batch.model_inputs()
    student_BTV = student(**inputs, use_cache=False).logits
    with torch.no_grad():
        teacher_BTV = teacher.model(**inputs, use_cache=False).logits
    return student_BTV[:, :-1], teacher_BTV[:, :-1], batch.labels_BT[:, 1:]


def naive_loss(teacher: Any, student: Any) -> Callable[[Any], Any]:
    """Two log_softmaxes over all logits, torch's kl_div, a mask."""
    from torch.nn.functional import kl_div

    def run(batch: Any) -> Any:
        student_BTV, teacher_BTV, labels_BT = logits_of_both(teacher, student, batch)
        q_BTV, p_BTV = student_BTV.log_softmax(-1), teacher_BTV.log_softmax(-1)
        mask_BT = labels_BT != -100
        return (kl_div(q_BTV, p_BTV, reduction="none", log_target=True).sum(-1) * mask_BT).sum() / mask_BT.sum()

    return run


def trl_loss(teacher: Any, student: Any) -> Callable[[Any], Any]:
    """TRL's GKDTrainer.generalized_jsd_loss (beta=0 is the forward KL) over all logits."""
    from trl.experimental.gkd import GKDTrainer

    def run(batch: Any) -> Any:
        student_BTV, teacher_BTV, labels_BT = logits_of_both(teacher, student, batch)
        return GKDTrainer.generalized_jsd_loss(student_BTV, teacher_BTV, labels_BT, beta=0.0)

    return run


def in_a_loop(loss: Callable[[Any], Any], student: Any) -> Work:
    """The plain training loop around a loss."""
    import torch

    optimizer = adamw(student)

    def step(batch: Any) -> float:
        optimizer.zero_grad(set_to_none=True)
        value = loss(batch)
        value.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), CLIP)
        optimizer.step()
        return float(value.detach())

    return step


def bound(teacher: Any, student: Any) -> Work:
    """The teacher's forward with logits, then the student's own step on its labels."""
    import torch

    optimizer = adamw(student)

    def step(batch: Any) -> float:
        inputs = batch.model_inputs()
        with torch.no_grad():
            teacher(**inputs, use_cache=False)
        optimizer.zero_grad(set_to_none=True)
        value = student(**inputs, labels=batch.labels_BT, use_cache=False).loss
        value.backward()
        optimizer.step()
        return float(value.detach())

    return step


def run_trl_trainer(teacher: Any, student: Any, batches: list[Any], meter: Any, *, steps: int) -> float:
    """Drive TRL's GKDTrainer off-policy in float32 without checkpointing of activations; returns the first loss.

    `meter.before(batch)` and `meter.after()` are called around each step.
    """
    from datasets import Dataset
    from transformers import TrainerCallback, default_data_collator
    from trl.experimental.gkd import GKDConfig, GKDTrainer

    columns: dict[str, list[list[int]]] = {"input_ids": [], "attention_mask": [], "labels": []}
    for index in range(steps):
        batch = batches[index % len(batches)]
        for column, tensor_BT in (batch.model_inputs() | {"labels": batch.labels_BT}).items():
            columns[column] += tensor_BT.tolist()

    class Metered(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            meter.before(batches[state.global_step % len(batches)])

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            meter.after()

    class InOrder(GKDTrainer):  # type: ignore[misc]
        def _get_train_sampler(self, *_: Any) -> None:
            return None

    with tempfile.TemporaryDirectory() as folder:
        arguments = GKDConfig(
            output_dir=folder,
            lmbda=0.0,
            beta=0.0,
            temperature=1.0,
            bf16=False,
            gradient_checkpointing=False,
            use_cpu=True,
            per_device_train_batch_size=EXAMPLES,
            max_steps=steps,
            learning_rate=LEARNING_RATE,
            lr_scheduler_type="constant",
            max_grad_norm=CLIP,
            optim="adamw_torch_fused",
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            remove_unused_columns=False,
            dataset_kwargs={"skip_prepare_dataset": True},
        )
        trainer = InOrder(
            model=student,
            teacher_model=teacher.model,
            args=arguments,
            processing_class=teacher.tokenizer,
            train_dataset=Dataset.from_dict(columns),
            callbacks=[Metered()],
        )
        trainer.data_collator = default_data_collator
        trainer.train()
    return float(trainer.state.log_history[0]["loss"])
