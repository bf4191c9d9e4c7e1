"""The states to resume a training from."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open

from hvae_core.files import digest, whole_file

if TYPE_CHECKING:  # PyTorch takes seconds to import, and most processes of a batch read no weights
    import torch
    from torch import Tensor

CHECKPOINT_EVERY_S = 60.0
MOMENTS = ("exp_avg", "exp_avg_sq")  # Adam's names of its own


class Checkpoints:
    """The states to resume a training from: the last two, each one file with a checksum.

    Arguments:
        folder: theirs alone.
        identity: of the training; a checkpoint of another training is not continued.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        self.folder, self.identity = folder, identity

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("epoch-*.safetensors"))

    def save(self, epoch: int, tensors: dict[str, Tensor]) -> None:
        """Keep the state after ``epoch`` epochs, then drop all but the last two."""
        from safetensors.torch import save_file

        tensors = {name: value.contiguous() for name, value in tensors.items()}
        metadata = {"identity": self.identity, "epoch": str(epoch), "sha256": digest(tensors)}
        with whole_file(self.folder / f"epoch-{epoch:06d}.safetensors") as part:
            save_file(tensors, part, metadata)
        for old in self._files()[:-2]:
            old.unlink(missing_ok=True)

    def load(self, device: torch.device) -> tuple[int, dict[str, Tensor]] | None:
        """The newest readable state of this training, as (epochs done, tensors), or None."""
        from safetensors.torch import load_file

        for path in reversed(self._files()):
            try:
                with safe_open(path, "pt") as file:
                    metadata = file.metadata() or {}
                tensors = load_file(path)
                if metadata.get("identity") != self.identity:
                    wrong = "is of another training (settings, data or code changed); training anew"
                elif metadata.get("sha256") != digest(tensors):
                    wrong = "is damaged (wrong checksum); trying the one before"
                else:
                    return int(metadata["epoch"]), {name: value.to(device) for name, value in tensors.items()}
            except (OSError, SafetensorError) as error:
                wrong = f"cannot be read ({error}); trying the one before"
            print(f"{path} {wrong}", file=sys.stderr)
            with contextlib.suppress(OSError):
                path.unlink()  # or it would be taken for one of the last two
        return None


def adam_state(optimiser: torch.optim.Adam, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Adam's moments, by name."""
    return {
        f"{moment}.{name}": optimiser.state[parameter][moment]
        for name, parameter in parameters.items()
        for moment in MOMENTS
    }
