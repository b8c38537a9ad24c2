"""Makes the many copies of these tests quick."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module", autouse=True)
def without_asking_git_for_each_file() -> Iterator[None]:
    """Copier asks Git about each file that it writes, which is a third of the time and does not matter here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("copier._main.is_git_available", lambda: False)
        yield
