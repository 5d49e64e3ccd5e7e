"""Shared by all tests: shapes in signatures are checked at run time, one thread, fixed random state."""

import pytest
from jaxtyping import install_import_hook

# Before anything imports rcnnlib: every function called in a test checks its annotated shapes with beartype.
install_import_hook("rcnnlib", "shape_checker.check")

import torch  # noqa: E402


@pytest.fixture(autouse=True)
def _fixed_random_state():
    """Give every test the same random numbers, whatever ran before it, and one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
    torch.set_num_threads(threads)
