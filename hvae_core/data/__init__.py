"""Named data sets and your own, as uint8 tensors.

    data = load("mnist")                   # or another of `NAMES`, mine.npz, my_folder/
    batch = pixels(data.x_train[:128])     # float32 within [0, 1], shape (128, 1, 28, 28)

::

    dataset.py    what the rest sees: `Dataset`, `pixels`, `to_uint8`
    readers.py    `load`, and a reader for each format
    pictures.py   picture files of every kind, as arrays
    mini.py       `mnist-mini`, which comes with the package; make_mini.py makes its file again
    download.py   where files lie, and how they are fetched and checked
    sources.py    a checksum of the files that a data set is read from, without PyTorch
"""

import importlib
from typing import TYPE_CHECKING, Any

from hvae_core.names import DATASETS as NAMES

if TYPE_CHECKING:
    from hvae_core.data.dataset import Dataset, pixels, to_uint8
    from hvae_core.data.readers import load

__all__ = ["NAMES", "Dataset", "load", "pixels", "to_uint8"]


def __getattr__(name: str) -> Any:
    """The public names, imported when they are first used: PyTorch takes seconds."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    place = importlib.import_module(f"{__name__}.{'readers' if name == 'load' else 'dataset'}")
    globals()[name] = value = getattr(place, name)
    return value
