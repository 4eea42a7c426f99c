import pytest
import torch
from architectures import NAMES, random_ids, random_model
from transformers import AutoModelForCausalLM

from kdlab.models.choosing import choose_layers
from kdlab.models.cut import cut, find_layers
from kdlab.models.student import CutConfig

LAYERS = 6


def make(name, config, **more):
    teacher = random_model(name, layers=LAYERS)
    student, kept = cut(teacher, config, dtype=torch.float32, **more)
    return teacher, student, kept[""]


def same(a, b):
    with torch.no_grad():
        x, y = (model(random_ids(), use_cache=False).logits for model in (a, b))
    return torch.equal(x, y)


@pytest.mark.parametrize("name", NAMES)
def test_all_layers_give_the_teacher_itself(name):
    teacher, student, kept = make(name, CutConfig(layers=LAYERS))
    assert kept == list(range(LAYERS))
    assert same(teacher, student)


@pytest.mark.parametrize("name", NAMES)
def test_the_student_is_the_teacher_without_the_dropped_layers(name):
    """Oracle: the teacher itself, its other layers taken out of the list by hand."""
    teacher, student, kept = make(name, CutConfig(layers=[0, 2, 3]))
    _, layers = find_layers(teacher)
    originals = list(layers)
    for layer, original in zip(find_layers(student)[1], [originals[i] for i in kept], strict=True):
        for (key, mine), (_, theirs) in zip(layer.named_parameters(), original.named_parameters(), strict=True):
            assert torch.equal(mine, theirs), key
            assert mine.data_ptr() != theirs.data_ptr()
    del layers[4:], layers[1]
    teacher.config.num_hidden_layers = 3
    for key, values in list(vars(teacher.config).items()):
        if isinstance(values, list) and len(values) == LAYERS:
            setattr(teacher.config, key, [values[i] for i in kept])
    assert same(teacher, student)


@pytest.mark.parametrize("name", NAMES)
def test_a_cut_student_reloads_plainly_and_generates(name, tmp_path):
    _, student, _ = make(name, CutConfig(layers=[1, 2, 5]))
    student.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert same(student, again)
    for model in (student, again):  # generation keeps a cache by layer number
        assert model.generate(random_ids(1, 4), max_new_tokens=3, do_sample=False).shape == (1, 7)


def test_the_generation_config_comes_along_as_a_copy():
    teacher = random_model("llama", layers=LAYERS)
    teacher.generation_config.temperature = 0.25
    student, _ = cut(teacher, CutConfig(layers=2), dtype=torch.float32)
    assert student.generation_config.temperature == 0.25
    student.generation_config.temperature = 1.0
    assert teacher.generation_config.temperature == 0.25


def test_a_half_precision_teacher_gives_float32_weights_of_its_own():
    teacher = random_model("llama", layers=LAYERS).to(torch.bfloat16).requires_grad_(False)
    student, _ = cut(teacher, CutConfig(layers=2), dtype=torch.float32)
    assert {p.dtype for p in student.parameters()} == {torch.float32}
    assert all(p.requires_grad for p in student.parameters())
    before = teacher.model.embed_tokens.weight.clone()
    student.model.embed_tokens.weight.data.zero_()
    assert torch.equal(teacher.model.embed_tokens.weight, before)


def test_a_tied_head_stays_tied():
    _, student, _ = make("llama", CutConfig(layers=2))
    untied = random_model("llama", layers=LAYERS, tie_word_embeddings=False)
    assert student.config.tie_word_embeddings is False or student.lm_head.weight is student.model.embed_tokens.weight
    tied, _ = cut(random_model("llama", layers=6, tie_word_embeddings=True), CutConfig(layers=2), dtype=torch.float32)
    assert tied.lm_head.weight is tied.model.embed_tokens.weight
    apart, _ = cut(untied, CutConfig(layers=2), dtype=torch.float32)
    assert apart.lm_head.weight is not apart.model.embed_tokens.weight


@pytest.mark.parametrize(
    ("asked", "pick", "count", "expected"),
    [
        (10, "even", 30, [0, 3, 6, 10, 13, 16, 19, 23, 26, 29]),
        (6, "even", 30, [0, 6, 12, 17, 23, 29]),
        (2, "even", 30, [0, 29]),
        (1, "even", 30, [0]),
        (5, "ends", 12, [0, 1, 2, 10, 11]),
        (4, "ends", 12, [0, 1, 10, 11]),
        ([1, 4, 5], "even", 12, [1, 4, 5]),
    ],
)
def test_which_layers_are_kept(asked, pick, count, expected):
    assert choose_layers(CutConfig(layers=asked, pick=pick), count, list) == expected


@pytest.mark.parametrize("pick", ["even", "ends"])
def test_any_count_gives_that_many_different_layers(pick):
    for count in range(1, 40):
        for asked in range(1, count + 1):
            kept = choose_layers(CutConfig(layers=asked, pick=pick), count, list)
            assert len(set(kept)) == asked
            assert kept == sorted(kept)
            assert kept[0] == 0
            assert kept[-1] == count - 1 or asked == 1


def test_importance_drops_the_layers_that_do_nothing():
    teacher = random_model("llama", layers=LAYERS)
    for idle in (0, 3):
        teacher.model.layers[idle].self_attn.o_proj.weight.data.zero_()
        teacher.model.layers[idle].mlp.down_proj.weight.data.zero_()
    config = CutConfig(layers=4, pick="importance")
    student, kept = cut(teacher, config, dtype=torch.float32, calibration_BT=random_ids(2, 16))
    assert kept == {"": [1, 2, 4, 5]}
    torch.testing.assert_close(student(random_ids()).logits, teacher(random_ids()).logits)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (40, "student.from_teacher.layers=40: the teacher has 6 layers"),
        ([0, 6], r"student.from_teacher.layers=\[0, 6\]: must be increasing layer numbers from 0 to 5"),
        ([-1, 2], "must be increasing layer numbers"),
        ([2, 2], "must be increasing layer numbers"),
        ([3, 1], "must be increasing layer numbers"),
    ],
)
def test_layers_the_teacher_does_not_have_are_refused(layers, message):
    with pytest.raises(ValueError, match=message):
        make("llama", CutConfig(layers=layers))


def test_a_layer_that_would_change_its_kind_is_refused():
    teacher = random_model("llama", layers=LAYERS)
    teacher.model.layers[4].self_attn.window = 16  # something the config does not know of
    with pytest.raises(ValueError, match=r"layer 4 of llama would change its self_attn\.window"):
        cut(teacher, CutConfig(layers=[0, 4]), dtype=torch.float32)


def test_scaling_by_layer_number_is_refused_where_numbers_change():
    teacher = random_model("gpt2", layers=4, scale_attn_by_inverse_layer_idx=True)
    cut(teacher, CutConfig(layers=[0, 1]), dtype=torch.float32)
    with pytest.raises(ValueError, match=r"layer 3 of gpt2 would change its attn.scal"):
        cut(teacher, CutConfig(layers=[0, 3]), dtype=torch.float32)


def test_an_architecture_without_one_list_of_layers_is_refused():
    teacher = random_model("llama", layers=2)
    teacher.extra = torch.nn.ModuleList([torch.nn.Identity(), torch.nn.Identity()])
    with pytest.raises(ValueError, match=r"student.from_teacher: the layers of llama are not understood"):
        find_layers(teacher)
