"""How many threads an operation of PyTorch takes, while something is trained."""

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def threads_of_an_operation(count: int) -> Iterator[None]:
    """So many threads for each operation of PyTorch, while the block lasts.

    Threads wait for each other at the end of each operation. On a busy machine the wait is longer than what they save
    in small operations.

    Example:
        >>> with threads_of_an_operation(1):
        ...     torch.get_num_threads()
        1
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
