"""Makes ``mnist_mini.npy`` again from the official files of MNIST: ``.venv/bin/python -m hvae_core.data.make_mini``.

They are looked for as those of any data set, under HVAE_DATA, and downloaded where they are missing.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

from hvae_core.data.dataset import Dataset
from hvae_core.data.mini import FILE, packed
from hvae_core.data.readers import load
from hvae_core.errors import InputError
from hvae_core.files import whole_file


def made_of(mnist: Dataset) -> bytes:
    """The stored file, of the data set `mnist`, in whole.

    Example:
        >>> from hvae_core.data import load
        >>> mnist = load("mnist")  # doctest: +SKIP
        >>> made_of(mnist) == FILE.read_bytes()  # doctest: +SKIP
        True
    """
    if mnist.y_train is None or mnist.y_test is None:
        raise InputError(f"{mnist.name} has no labels; needed is mnist, which has")
    return packed(*(part.numpy() for part in (mnist.x_train, mnist.y_train, mnist.x_test, mnist.y_test)))


def main(argv: Sequence[str]) -> int:
    """Write the file, or the one that is named, and print its SHA-256; returns the exit status."""
    path = Path(argv[0]) if argv else FILE
    try:
        made = made_of(load("mnist"))
        with whole_file(path) as part:
            part.write_bytes(made)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{hashlib.sha256(made).hexdigest()}  {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
