import pytest
import torch

from kdlab.models import dtype


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        ({"avx512_bf16": True, "amx_bf16": False, "avx512_f": True}, True),
        ({"avx512_bf16": False, "amx_bf16": True}, True),
        ({"avx512_bf16": False, "amx_bf16": False, "avx512_f": True}, False),
        ({"architecture": "arm64", "bf16": True}, True),
        ({"architecture": "arm64", "bf16": False}, False),
    ],
)
def test_pytorchs_processor_report_is_asked_first(monkeypatch, tmp_path, report, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: report, raising=False)
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("flags\t\t: fpu avx512_bf16\n" if not expected else "flags : fpu\n")  # says the opposite
    assert dtype.processor_has_bfloat16(cpuinfo) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx512f avx512_bf16\n", True),
        ("flags\t\t: fpu amx_bf16 amx_tile\n", True),
        ("Features\t: fp asimd bf16 i8mm\n", True),
        ("flags\t\t: fpu avx512f avx512_vnni\n", False),
        ("", False),
    ],
)
def test_else_the_kernels_flags_decide(monkeypatch, tmp_path, text, expected):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(text)
    assert dtype.processor_has_bfloat16(cpuinfo) is expected
    assert dtype.processor_has_bfloat16(tmp_path / "missing") is False


def test_auto_follows_the_hardware_and_names_are_taken_literally(monkeypatch):
    for has, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(dtype, "processor_has_bfloat16", lambda has=has: has)
        assert dtype.resolve("auto", "cpu") is expected
    for name in ("float32", "bfloat16", "float16"):
        assert dtype.resolve(name, "cpu") is getattr(torch, name)


@pytest.mark.parametrize("has", [True, False])
def test_a_gpu_is_asked_whether_it_emulates(monkeypatch, has):
    asked = {}
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **options: asked.update(options) or has)
    assert dtype.native_bfloat16(torch.device("cuda")) is has
    assert asked == {"including_emulation": False}


def test_an_unknown_name_is_refused_with_its_option():
    with pytest.raises(ValueError, match=r"student.dtype=fp8: must be one of auto, float32, bfloat16, float16"):
        dtype.check("student.dtype", "fp8")
