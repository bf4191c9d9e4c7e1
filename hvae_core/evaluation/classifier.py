"""The classifier behind the Inception Score: trained once on the data set's own training images, then kept.

The paper takes ResNet-18 for SVHN and DenseNet-121 for CIFAR-10 (both here with a stem for 32x32 images: a 3x3
first convolution and no max-pooling) and a small network for MNIST.
"""

import hashlib
import json
import math
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from hvae_core.data.dataset import Dataset, pixels
from hvae_core.files import locked, save_tensors
from hvae_core.progress import track
from hvae_core.randomness import Purpose, generator
from hvae_core.training.checkpoints import CHECKPOINT_EVERY_S, MOMENTS, Checkpoints, adam_state
from hvae_core.training.precision import autocast, keep_memory

BATCH = 128


def small_cnn(image_shape: tuple[int, ...], classes: int) -> nn.Module:
    """Two convolutions and two dense layers."""
    channels, height, width = image_shape
    return nn.Sequential(
        nn.Conv2d(channels, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * (height // 4) * (width // 4), 128),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(128, classes),
    )


def resnet18(image_shape: tuple[int, ...], classes: int) -> nn.Module:
    """torchvision's ResNet-18 with a stem for small images."""
    from torchvision.models import resnet18 as build

    model = build(num_classes=classes)
    model.conv1 = nn.Conv2d(image_shape[0], 64, 3, padding=1, bias=False)
    model.maxpool = nn.Identity()
    return model


def densenet121(image_shape: tuple[int, ...], classes: int) -> nn.Module:
    """torchvision's DenseNet-121 with a stem for small images."""
    from torchvision.models import densenet121 as build

    model = build(num_classes=classes)
    model.features.conv0 = nn.Conv2d(image_shape[0], 64, 3, padding=1, bias=False)
    model.features.pool0 = nn.Identity()
    return model


ARCHITECTURES = {"small-cnn": small_cnn, "resnet-18": resnet18, "densenet-121": densenet121}


def architecture_for(data: Dataset) -> str:
    """The paper's choice for its data sets; for others a small network for 28x28, ResNet-18 for 32x32 images.

    Of `digits-colour`, which is easy and of a run of minutes, a small network, too.
    """
    if data.image_shape[0] == 1 or data.name == "digits-colour":
        return "small-cnn"
    return "densenet-121" if data.name == "cifar10" else "resnet-18"


def default_epochs(architecture: str, images: int) -> int:
    """Enough for the accuracy to settle: 30 epochs of the large networks; 5, or 40,000 images, of the small one."""
    return max(5, math.ceil(40_000 / images)) if architecture == "small-cnn" else 30


@dataclass(frozen=True)
class Classifier:
    """A trained classifier and what it is worth."""

    model: nn.Module
    architecture: str
    epochs: int
    test_accuracy: float
    device: torch.device

    @torch.no_grad()
    def probabilities(self, x: Tensor) -> Tensor:
        """p(y | x) for images in [0, 1], ``(images, classes)``."""
        return torch.cat([self.model(part).softmax(1) for part in x.split(500)])


def classifier_for(
    data: Dataset, keep: Path, epochs: int | None = None, seed: int = 0, precision: str = "float32", code: str = ""
) -> Classifier:
    """The classifier for a data set that lies on a device: read from the folder ``keep``, or trained and kept there.

    A training that was stopped goes on, with the same weights in the end.

    Arguments:
        data: with labels.
        keep: where trained classifiers are kept.
        epochs: of training; None: `default_epochs`.
        precision: of the layers in training, float32 or bfloat16, which takes half as long where the processor has it.
            It scores in float32.
        code: a fingerprint of the code that trains it; one that other code has trained is not used.
    """
    architecture = architecture_for(data)
    epochs = epochs or default_epochs(architecture, len(data.x_train))
    device = data.x_train.device
    described = [data.fingerprint, epochs, seed, precision, code]
    key = hashlib.sha256(json.dumps(described).encode()).hexdigest()[:16]
    path = keep / f"{data.name}-{architecture}-{key}.safetensors"
    with torch.random.fork_rng(), locked(path.with_suffix(".lock")):
        torch.manual_seed(generator(seed, Purpose.WEIGHTS).initial_seed())  # of all devices: dropout draws on its own
        model = ARCHITECTURES[architecture](data.image_shape, data.num_classes).to(device)
        if device.type == "cpu":
            keep_memory()
            # Channels last take 0.4 of the small network's time, 0.85 to 0.98 of the large ones'.
            model = model.to(memory_format=torch.channels_last)
        try:
            with safe_open(path, "pt") as file:
                accuracy = float(file.metadata()["test_accuracy"])
            model.load_state_dict(load_file(path))
        except (OSError, SafetensorError):
            checkpoints = Checkpoints(path.with_suffix(".resume"), key)
            _train(model, data, epochs, seed, architecture, precision, checkpoints)
            accuracy = _accuracy(model, data)
            save_tensors(path, model.state_dict(), {"test_accuracy": repr(accuracy), "architecture": architecture})
            shutil.rmtree(checkpoints.folder, ignore_errors=True)
    model.to(device).requires_grad_(False).eval()
    return Classifier(model, architecture, epochs, accuracy, device)


def _train(
    model: nn.Module,
    data: Dataset,
    epochs: int,
    seed: int,
    architecture: str,
    precision: str,
    checkpoints: Checkpoints,
) -> None:
    x, y = data.x_train, data.y_train
    assert y is not None
    batches = math.ceil(len(x) / BATCH)
    steps = epochs * batches
    optimiser = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps)
    done = _resume(model, optimiser, schedule, checkpoints, x.device, batches)
    model.train()
    saved = time.monotonic()
    with track(f"classifier {architecture}", epochs, "epochs", done) as progress:
        for epoch in range(done, epochs):
            order = torch.randperm(len(x), generator=generator(seed, Purpose.ORDER, epoch)).to(x.device)
            shifts = torch.randint(0, 5, (len(order), 2), generator=generator(seed, Purpose.NOISE, epoch))
            for step, batch in enumerate(order.split(BATCH)):
                images = pixels(x[batch])
                dy, dx = shifts[step].tolist()  # one random shift by up to 2 pixels a batch
                images = F.pad(images, (2, 2, 2, 2))[:, :, dy : dy + x.shape[2], dx : dx + x.shape[3]]
                with autocast(x.device, precision):
                    loss = F.cross_entropy(model(images), y[batch])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
                value = loss.detach()
                progress.update(epoch + (step + 1) * BATCH / len(x), lambda value=value: f"loss {value:.3f}")  # type: ignore[misc]  # mypy cannot infer a lambda with a default
            progress.update(epoch + 1)
            if time.monotonic() - saved > CHECKPOINT_EVERY_S:
                moments = adam_state(optimiser, dict(model.named_parameters()))
                checkpoints.save(epoch + 1, model.state_dict() | moments | _random(x.device))
                saved = time.monotonic()


def _random(device: torch.device) -> dict[str, Tensor]:
    """The states of the generators that dropout draws from."""
    states = {"random.cpu": torch.get_rng_state()}
    return states | ({"random.cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def _resume(
    model: nn.Module,
    optimiser: torch.optim.AdamW,
    schedule: torch.optim.lr_scheduler.OneCycleLR,
    checkpoints: Checkpoints,
    device: torch.device,
    batches: int,
) -> int:
    """Go on from the newest state; how many epochs are done."""
    if (found := checkpoints.load(device)) is None:
        return 0
    done, tensors = found
    model.load_state_dict({name: tensors[name] for name in model.state_dict()})
    for name, parameter in model.named_parameters():
        moments = {moment: tensors[f"{moment}.{name}"] for moment in MOMENTS}
        optimiser.state[parameter] = {"step": torch.tensor(float(done * batches)), **moments}
    schedule.load_state_dict({**schedule.state_dict(), "last_epoch": done * batches - 1, "_step_count": done * batches})
    schedule.step()
    torch.set_rng_state(tensors["random.cpu"].cpu())
    if device.type == "cuda":
        torch.cuda.set_rng_state(tensors["random.cuda"].cpu(), device)
    return done


@torch.no_grad()
def _accuracy(model: nn.Module, data: Dataset) -> float:
    assert data.y_test is not None
    model.eval()
    hits: int = sum(
        int((model(pixels(x)).argmax(1) == y).sum())
        for x, y in zip(data.x_test.split(500), data.y_test.split(500), strict=True)
    )
    return hits / len(data.x_test)
