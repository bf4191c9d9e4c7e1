"""What the evaluation of a model costs, part by part, and how many epochs of its training that is.

    .venv/bin/python benchmarks/evaluation.py                               # on MNIST
    .venv/bin/python benchmarks/evaluation.py --dataset digits --samples 1000

Trains GHVAEs, then measures them as the stages of a run do (`hvae_core.pipeline.stages`): on the CPU one at a time, one
thread; on a GPU, where there is one, in blocks (`hvae_core.evaluation.stacked`). Tensors are computed on the device;
I_q(y; z_2)
and the classifiers on the latents always on the CPU, one thread for one model, in as many processes as there are cores.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from hvae_core.data.dataset import Dataset
from hvae_core.data.readers import load
from hvae_core.evaluation import generation, rates, reconstruction, representation, stacked
from hvae_core.evaluation.classifier import Classifier, classifier_for
from hvae_core.models import build
from hvae_core.models.distributions import Gaussian
from hvae_core.runs import provenance
from hvae_core.training.plan import Member, Plan
from hvae_core.training.population import train

BETAS = ((0.1, 0.1), (1.0, 1.0), (1.0, 10.0), (10.0, 1.0))
COMPUTED = ("rates, training images", "rates, test images", "PSNR", "samples and their classifier", "latents")
GRID = 441  # models of a full grid


def parts(data: Dataset, classifier: Classifier, samples: int) -> dict[str, stacked.Compute]:
    """What is computed on the device, by name; the samples once more without the classifier."""
    return {
        "rates, training images": lambda model, seed: {"terms": rates.mean_terms(model, data.x_train, seed)},
        "rates, test images": lambda model, seed: {"terms": rates.mean_terms(model, data.x_test, seed)},
        "PSNR": lambda model, seed: {"errors": reconstruction.errors(model, data.x_test)},
        "samples": lambda model, seed: {"x": generation.samples(model, samples, seed, data.x_test.device)[:1]},
        "samples and their classifier": lambda model, seed: {
            "p": classifier.probabilities(generation.samples(model, samples, seed, data.x_test.device))
        },
        "latents": lambda model, seed: representation.latents(model, data.x_test, seed),
    }


def seconds(function: Callable[[], Any]) -> tuple[float, Any]:
    """Wall time of a call, and what it returns."""
    start = time.perf_counter()
    value = function()
    return time.perf_counter() - start, value


def measure(data: Dataset, device: str, count: int, epochs: int, samples: int) -> dict[str, float]:
    """Seconds a model of every part, and of an epoch of training, mean over so many models."""
    here = data.to(torch.device(device))
    classifier = classifier_for(here)
    members = [Member(BETAS[i % len(BETAS)], 0) for i in range(count)]

    def trained(epochs: int) -> Any:
        return train(
            partial(build, "ghvae", data.image_shape), members, here.x_train, Plan(epochs=epochs, learning_rate=1e-3)
        )

    trained(1)  # to warm up
    took, population = seconds(lambda: trained(epochs))
    result = {"an epoch of training": took / epochs / count}
    every, size = dict(enumerate(members)), stacked.at_once(here.x_train.device)
    with torch.no_grad():
        for name, compute in parts(here, classifier, samples).items():
            once = partial(stacked.each, compute, every, population.member, size)
            list(once())
            took, tensors = seconds(lambda once=once: dict(once()))  # type: ignore[misc]  # mypy cannot infer a lambda with a default
            result[name] = took / count
    if device == "cpu":  # the scores are the same wherever the latents come from
        assert data.y_test is not None
        information = everything = 0.0
        for latents in tensors.values():
            q = Gaussian(latents["mu2"], latents["std"])
            information += seconds(lambda q=q, z=latents["z2"]: representation.mutual_information(q, z, data.y_test))[0]  # type: ignore[misc]  # as above
            everything += seconds(
                lambda latents=latents: representation.scores(latents, data.y_test, data.num_classes)
            )[0]  # type: ignore[misc]  # as above
        result |= {"I_q(y; z_2)": information / count, "classifiers on the latents": (everything - information) / count}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--samples", type=int, default=10_000, help="images for the Inception Score")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    torch.set_num_threads(1)
    data, cores = load(args.dataset), provenance.cores()
    # One model of each betas on a CPU; as many as a block holds on a GPU.
    table = {"cpu": measure(data, "cpu", len(BETAS), args.epochs, args.samples)}
    if torch.cuda.is_available():
        table["cuda"] = measure(data, "cuda", stacked.LARGEST, args.epochs, args.samples)
    scores = table["cpu"]["I_q(y; z_2)"] + table["cpu"]["classifiers on the latents"]
    whole = {}
    for device, row in table.items():
        computed = sum(row[name] for name in COMPUTED)
        # A CPU shares everything out to its cores; a GPU computes one block after the other, its scores are shared out.
        total = GRID * ((computed + scores) / cores if device == "cpu" else max(computed, scores / cores))
        training = GRID * row["an epoch of training"] / (cores if device == "cpu" else 1)
        whole[device] = {"evaluation_s": total, "epochs_of_training": total / training}
    if args.json:
        print(
            json.dumps(
                {
                    "dataset": data.name,
                    "samples": args.samples,
                    "test_images": len(data.x_test),
                    "training_images": len(data.x_train),
                    "cores": cores,
                    "torch": torch.__version__,
                    "seconds_a_model": table,
                    f"of_{GRID}_models": whole,
                },
                indent=2,
            )
        )
        return
    print(
        f"{data.name}, {len(data.x_train)} training and {len(data.x_test)} test images, {args.samples} samples; "
        f"seconds a model on {', '.join(table)}"
    )
    for name in table["cpu"]:
        print(
            f"| {name} | "
            + " | ".join(f"{row[name]:.4f}" if name in row else "on the CPU" for row in table.values())
            + " |"
        )
    for device, values in whole.items():
        print(
            f"{GRID} models on {device} with {cores} cores: {values['evaluation_s']:.0f} s from these times, "
            f"as long as {values['epochs_of_training']:.1f} epochs of their training"
        )


if __name__ == "__main__":
    main()
