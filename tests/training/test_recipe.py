"""Impossible values are refused by the option's name, as typed."""

from __future__ import annotations

import pytest

from kdlab.training.recipe import (
    BenchmarkConfig,
    CheckpointConfig,
    EarlyStoppingConfig,
    TrainConfig,
    TrainerConfig,
)


@pytest.mark.parametrize(
    ("kind", "options", "named"),
    [
        (TrainConfig, {"seed": -1}, "seed=-1"),
        (TrainerConfig, {"max_steps": 0}, "trainer.max_steps=0"),
        (TrainerConfig, {"batch_size": 0}, "trainer.batch_size=0"),
        (TrainerConfig, {"accumulate": -2}, "trainer.accumulate=-2"),
        (TrainerConfig, {"precision": "16"}, "trainer.precision=16: must be one of auto, 32, bf16-mixed, 16-mixed"),
        (TrainerConfig, {"clip": float("nan")}, "trainer.clip=nan"),
        (TrainerConfig, {"ema": 1.0}, "trainer.ema=1.0"),
        (TrainerConfig, {"accelerator": "tpu"}, "trainer.accelerator=tpu"),
        (TrainerConfig, {"loggers": ["csv"]}, "trainer.loggers=csv"),
        (TrainerConfig, {"loggers": ["wandb", "wandb_offline"]}, "trainer.loggers"),
        (CheckpointConfig, {"every_steps": 0}, "trainer.checkpoint.every_steps=0"),
        (CheckpointConfig, {"monitor": "loss"}, "trainer.checkpoint.monitor=loss"),
        (CheckpointConfig, {"final": "best", "best": False}, "trainer.checkpoint.final=best"),
        (EarlyStoppingConfig, {"patience": 0}, "trainer.early_stopping.patience=0"),
        (EarlyStoppingConfig, {"min_delta": -0.1}, "trainer.early_stopping.min_delta=-0.1"),
        (BenchmarkConfig, {"tokens": 0}, "benchmark.tokens=0"),
        (BenchmarkConfig, {"max_new_tokens": 0}, "benchmark.max_new_tokens=0"),
    ],
)
def test_an_impossible_value_is_refused_by_its_option(kind, options, named):
    with pytest.raises(ValueError, match=r".+") as refused:
        kind(**options)
    assert str(refused.value).startswith(named)
    assert "\n" not in str(refused.value)
