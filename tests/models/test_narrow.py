import pytest
import torch
from architectures import NAMES, random_ids, random_model
from transformers import AutoModelForCausalLM

from kdlab.models.cut import cut
from kdlab.models.student import CutConfig

WITH_FREE_HEADS = ["cohere", "gemma2", "granite", "llama", "mistral", "phi", "qwen2", "qwen3"]
FFN_OUTPUT = {"gpt2": "mlp.c_proj", "gpt_neo": "mlp.c_proj", "gptj": "mlp.fc_out", "opt": "fc2", "phi": "mlp.fc2"}
ATTENTION_OUTPUT = {"phi": "self_attn.dense"}


def layers_of(model):
    return next(m for m in model.modules() if isinstance(m, torch.nn.ModuleList))


def silence(model, name, keep):
    """Zero all but the inputs `keep` of the module `name` of every layer: what narrowing must amount to."""
    for layer in layers_of(model):
        module = layer.get_submodule(name)
        weight = module.weight.data if type(module).__name__ == "Conv1D" else module.weight.data.T
        mask = torch.zeros(weight.shape[0], 1)
        mask[keep] = 1.0
        weight.mul_(mask)


def agree(a, b):
    with torch.no_grad():
        torch.testing.assert_close(a(random_ids()).logits, b(random_ids()).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_the_most_important_neurons_survive(name, tmp_path):
    teacher = random_model(name)
    width = teacher.config.to_dict().get("intermediate_size") or teacher.config.to_dict().get("ffn_dim") or 4 * 32
    strong = torch.arange(1, width, 2)
    output = FFN_OUTPUT.get(name, "mlp.down_proj")
    for layer in layers_of(teacher):  # make every second neuron matter: its output is a hundred times larger
        module = layer.get_submodule(output)
        weight = module.weight.data if type(module).__name__ == "Conv1D" else module.weight.data.T
        weight[strong] *= 100
        weight /= 100
    student, _ = cut(teacher, CutConfig(layers=2, ffn=len(strong)), dtype=torch.float32)
    silence(teacher, output, strong)
    agree(student, teacher)
    student.save_pretrained(tmp_path)
    agree(AutoModelForCausalLM.from_pretrained(tmp_path), student)


@pytest.mark.parametrize("name", WITH_FREE_HEADS)
def test_the_most_important_group_of_heads_survives(name, tmp_path):
    teacher = random_model(name)  # 4 heads of 8 in 2 groups
    output = ATTENTION_OUTPUT.get(name, "self_attn.o_proj")
    second_group = torch.arange(16, 32)
    for layer in layers_of(teacher):
        layer.get_submodule(output).weight.data[:, second_group] *= 100
        layer.get_submodule(output).weight.data /= 100
    student, _ = cut(teacher, CutConfig(layers=2, heads=2), dtype=torch.float32)
    assert (student.config.num_attention_heads, student.config.num_key_value_heads) == (2, 1)
    silence(teacher, output, second_group)
    agree(student, teacher)
    student.save_pretrained(tmp_path)
    agree(AutoModelForCausalLM.from_pretrained(tmp_path), student)


@pytest.mark.parametrize("name", NAMES)
def test_full_width_changes_nothing(name):
    teacher = random_model(name)
    values = teacher.config.to_dict()
    width = values.get("intermediate_size") or values.get("ffn_dim") or 4 * 32
    heads = 4 if name in WITH_FREE_HEADS else None
    student, _ = cut(teacher, CutConfig(layers=2, ffn=width, heads=heads), dtype=torch.float32)
    agree(student, teacher)


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("llama", {"ffn": 49}, "student.from_teacher.ffn=49: the teacher has 48 feed-forward neurons"),
        ("llama", {"heads": 3}, "student.from_teacher.heads=3: must be a multiple of 2"),
        ("llama", {"heads": 8}, "student.from_teacher.heads=8: the teacher has 4 attention heads"),
        (
            "gpt2",
            {"heads": 2},
            "student.from_teacher.heads=2: gpt2 ties heads and head size to its hidden size; "
            "set student.from_teacher.heads=null",
        ),
    ],
)
def test_impossible_widths_are_refused(name, config, message):
    with pytest.raises(ValueError, match=message):
        cut(random_model(name), CutConfig(layers=2, **config), dtype=torch.float32)
