"""One completion server for all tests of remote teachers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from completion_server import served


@pytest.fixture(scope="session")
def root() -> Iterator[str]:
    """The address below which each test chooses how the server behaves (see `completion_server`)."""
    with served() as address:
        yield address
