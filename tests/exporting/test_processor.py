from __future__ import annotations

from pathlib import Path

import pytest

from kdlab.exporting.processor import choose_processor


@pytest.mark.parametrize(
    ("flags", "machine", "name", "reduce_range"),
    [
        ("fpu avx2 avx512f avx512_vnni", "x86_64", "avx512_vnni", False),
        ("fpu avx2 avx_vnni", "x86_64", "avx512_vnni", False),
        ("fpu avx2 avx512f", "x86_64", "avx512", True),
        ("fpu avx2", "x86_64", "avx2", True),
        ("fp asimd", "aarch64", "arm64", False),
    ],
)
def test_auto_reads_what_the_processor_has(
    tmp_path: Path, flags: str, machine: str, name: str, reduce_range: bool
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\nflags\t\t: {flags}\n")
    found = choose_processor("auto", cpuinfo=cpuinfo, machine=machine)
    assert (found.name, found.reduce_range) == (name, reduce_range)
    assert choose_processor("arm64", cpuinfo=cpuinfo, machine=machine).signed
