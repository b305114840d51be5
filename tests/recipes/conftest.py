import pytest
import torch


@pytest.fixture(autouse=True)
def _same_threads():
    """Parsing a recipe sets torch's threads."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
