"""A run of the simulation hears errors itself: it knows which of them the bug that it plants leads to."""

import pytest


@pytest.fixture(autouse=True)
def no_error_was_swallowed() -> None:
    """In the place of the one that hears them for all other tests."""
