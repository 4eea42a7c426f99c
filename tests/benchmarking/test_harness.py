from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from statistics import fmean

import pytest
import torch

from kdlab.benchmarking.harness import Harness
from kdlab.benchmarking.harness_items import moved
from kdlab.benchmarking.recipe import HarnessConfig
from kdlab.models.loading import load_language_model, load_tokenizer

pytestmark = pytest.mark.slow

QUESTIONS = [(f"What is {i}?", ["yes", "no, never"], i % 2) for i in range(6)]


def write_task(folder: Path) -> Path:
    """A folder with a task of two choices."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{"q": asked, "choices": choices, "answer": answer} for asked, choices, answer in QUESTIONS]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "tiny_choice.yaml").write_text(
        f"""task: tiny_choice
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder / "rows.jsonl"}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{q}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{answer}}}}"
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
metadata: {{version: 3}}
"""
    )
    return folder


def test_a_local_task_on_a_model_in_memory(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model, tokenizer = load_language_model("tiny:llama"), load_tokenizer("tiny:llama")
    model.train()
    model.model.layers[0].eval()
    tokenizer.padding_side = "right"
    was = (copy.deepcopy(model.generation_config), [module.training for module in model.modules()])
    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    capfd.readouterr()
    harness = Harness(HarnessConfig(tasks=["tiny_choice"], include_path=str(write_task(tmp_path)), batch_size=4))
    found = harness.run(model, tokenizer)
    said = capfd.readouterr()
    assert said.out + said.err == ""
    assert (model.generation_config, [module.training for module in model.modules()]) == was
    assert (tokenizer.padding_side, tokenizer.pad_token) == ("right", load_tokenizer("tiny:llama").pad_token)
    assert all(torch.equal(weight, weights[name]) for name, weight in model.state_dict().items())
    # by hand: the choice whose tokens, behind a space, are the most likely
    right = []
    with torch.no_grad():
        model.eval()
        for asked, choices, answer in QUESTIONS:
            scores = []
            for choice in choices:
                prompt, rest = (
                    tokenizer(text, add_special_tokens=False)["input_ids"] for text in (asked, " " + choice)
                )
                bos = [] if tokenizer(asked)["input_ids"][0] == prompt[0] else tokenizer(asked)["input_ids"][:1]
                logp = model(torch.tensor([bos + prompt + rest])).logits[0].log_softmax(-1)
                begin = len(bos) + len(prompt) - 1
                scores.append(sum(float(logp[begin + t, token]) for t, token in enumerate(rest)))
            right.append(scores.index(max(scores)) == answer)
    share = sum(right) / 6
    assert found["tiny_choice"]["acc"] == pytest.approx(share)
    assert found["tiny_choice"]["acc_stderr"] == pytest.approx(math.sqrt(share * (1 - share) / 5))
    assert harness.about["versions"] == {"tiny_choice": 3}
    assert harness.about["examples"] == {"tiny_choice": 6}
    limited = Harness(HarnessConfig(tasks=["tiny_choice"], include_path=str(tmp_path), limit=2, chat_template=False))
    limited.run(model, tokenizer)
    assert limited.about["examples"] == {"tiny_choice": 2}


def test_the_same_examples_are_asked_before_and_after(tmp_path: Path) -> None:
    before, after = load_language_model("tiny:llama"), load_language_model("tiny:llama")
    after.lm_head.weight.data += torch.randn(after.lm_head.weight.shape, generator=torch.Generator().manual_seed(0))
    tokenizer, folder = load_tokenizer("tiny:llama"), str(write_task(tmp_path))
    sides = []
    for model in (before, after):
        harness = Harness(HarnessConfig(tasks=["tiny_choice"], include_path=folder))
        found = harness.run(model, tokenizer)["tiny_choice"]
        items = json.loads(json.dumps(harness.items))  # as benchmarks.json has them
        assert fmean(items["tiny_choice"]["values"]["acc"]) == pytest.approx(found["acc"])
        assert len(items["tiny_choice"]["values"]["acc"]) == 6
        sides.append((found["acc"], items))
    assert sides[0][1]["tiny_choice"]["asked"] == sides[1][1]["tiny_choice"]["asked"]
    told = moved(sides[0][1], sides[1][1])["tiny_choice"]["acc"]
    assert told is not None
    assert (told["difference"], told["count"]) == (pytest.approx(sides[1][0] - sides[0][0]), 6)
    limited = Harness(HarnessConfig(tasks=["tiny_choice"], include_path=folder, limit=2))
    limited.run(after, tokenizer)
    assert limited.items["tiny_choice"]["values"]["acc"] == sides[1][1]["tiny_choice"]["values"]["acc"][:2]
    assert moved(sides[0][1], limited.items)["tiny_choice"]["acc"] is None, "other examples are no pair"
    rows = (tmp_path / "rows.jsonl").read_text()
    (tmp_path / "rows.jsonl").write_text(rows.replace("What is 3?", "What is 33?"))
    changed = Harness(HarnessConfig(tasks=["tiny_choice"], include_path=folder))
    changed.run(after, tokenizer)
    assert moved(sides[0][1], changed.items)["tiny_choice"]["acc"] is None


def test_an_unknown_task_is_named_with_those_near(tmp_path: Path) -> None:
    harness = Harness(HarnessConfig(tasks=["tiny_choise"], include_path=str(write_task(tmp_path))))
    with pytest.raises(ValueError, match=r"tasks=\[tiny_choise\]: .* no such task; did you mean tiny_choice") as error:
        harness.run(load_language_model("tiny:llama"), load_tokenizer("tiny:llama"))
    assert "\n" not in str(error.value)


def test_data_that_cannot_be_had_is_one_line(tmp_path: Path) -> None:
    folder = write_task(tmp_path)
    (folder / "rows.jsonl").unlink()
    harness = Harness(HarnessConfig(tasks=["tiny_choice"], include_path=str(folder)))
    with pytest.raises(ValueError, match=r"the data of a task cannot be had .*include_path") as error:
        harness.run(load_language_model("tiny:llama"), load_tokenizer("tiny:llama"))
    assert "\n" not in str(error.value)
