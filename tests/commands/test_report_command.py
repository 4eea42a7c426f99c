"""kdlab report: where the page goes, and what a mistake looks like."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdlab.cli import main


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[list[str], Path]]:
    pages: list[tuple[list[str], Path]] = []

    def write_page(paths: list[str], out: Path) -> Path:
        pages.append((paths, out))
        return out

    monkeypatch.setattr("kdlab.reporting.report.write_page", write_page)
    monkeypatch.setattr("kdlab.reporting.report.print_table", lambda paths: None)
    monkeypatch.chdir(tmp_path)
    return pages


def test_the_page_lies_beside_the_run(asked: list[tuple[list[str], Path]], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    assert main(["report", "run"]) == 0
    assert main(["report", "run", "other"]) == 0
    assert main(["report", "run", "--out", "pages/all.html"]) == 0
    assert [page for _, page in asked] == [Path("run/report.html"), Path("report.html"), Path("pages/all.html")]


def test_a_path_without_a_run_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["report", "nowhere"]) == 1
    err = capsys.readouterr().err
    assert "nowhere" in err
    assert len(err.splitlines()) == 1
    assert main(["report"]) == 2
    assert "PATH" in capsys.readouterr().err
