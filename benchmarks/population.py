"""How fast a population trains, against the loop that anyone would write.

    .venv/bin/python benchmarks/population.py                  # this machine's CPU, and its GPU if there is one
    .venv/bin/python benchmarks/population.py --json           # the same for machines

One *model-step* is forward, backward and Adam for one model on one batch. Both sides are measured in one run, warm, in
turn, several times; the ratio is of the medians. The baseline trains one model at a time: eager, float32, `DataLoader`
with a transform for every image. Ours is `hvae_core.population.train`; on a CPU in as many processes as there are
cores, as `./run_all.sh` runs the blocks of a grid.
"""

import argparse
import json
import multiprocessing
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch.utils.data import DataLoader, Dataset

from hvae_core.config import Member
from hvae_core.data import pixels
from hvae_core.models import build
from hvae_core.population import train

SHAPES = {"28x28x1": (1, 28, 28), "32x32x3": (3, 32, 32)}


# --- the baseline -------------------------------------------------------------------------------------------------


class Images(Dataset):
    """Images with a transform each: to floats within [0, 1], and rounded where the likelihood is binary."""

    def __init__(self, x: torch.Tensor) -> None:
        self.x = x.numpy()

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> torch.Tensor:
        image = torch.from_numpy(self.x[index]).float().div(255)
        return image.round() if image.shape[0] == 1 else image


def baseline(x: torch.Tensor, shape: tuple[int, int, int], batch: int, device: str) -> float:
    """Seconds a model-step of one model, trained for one epoch in the plain style."""
    model = build("ghvae", shape).to(device)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-4)
    loader = DataLoader(Images(x), batch_size=batch, shuffle=True)
    start, steps = time.perf_counter(), 0
    for images in loader:
        images = images.to(device)
        noise = [torch.randn(len(images), *s, device=device) for s in model.latent_shapes]
        terms = model(images, noise)
        loss = (terms.distortion + terms.rates.sum(1)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        steps += 1
        loss.item()  # what is printed after each step
    return (time.perf_counter() - start) / steps


# --- ours ---------------------------------------------------------------------------------------------------------


def members(count: int) -> list[Member]:
    """A line of betas."""
    return [Member((10 ** (3 * i / max(1, count - 1) - 1), 1.0), 0) for i in range(count)]


def ours(x: torch.Tensor, shape: tuple[int, int, int], batch: int, device: str, count: int, chunk: int | None) -> float:
    """Seconds a model-step of a population of so many, trained for one epoch."""
    images = x.to(device)
    start = time.perf_counter()
    train(lambda: build("ghvae", shape), members(count), images, epochs=1, batch_size=batch, chunk=chunk)
    if device == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / (count * -(-len(x) // batch))


def _worker(queue, barrier, shape, batch, count, steps, repeats) -> None:  # type: ignore[no-untyped-def]
    torch.set_num_threads(1)
    x = random_images(shape, batch * steps)
    ours(x[: 2 * batch], shape, batch, "cpu", 1, None)
    for _ in range(repeats):
        barrier.wait()
        queue.put(ours(x, shape, batch, "cpu", count, None))
        barrier.wait()


def random_images(shape: tuple[int, int, int], count: int) -> torch.Tensor:
    """Images of the right kind: what they show does not matter to the clock."""
    levels = torch.randint(0, 256, (count, *shape), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return (levels >= 128) * torch.tensor(255, dtype=torch.uint8) if shape[0] == 1 else levels


def cpu(shape: tuple[int, int, int], batch: int, count: int, steps: int, repeats: int) -> dict[str, float]:
    """Model-steps a second of both sides on all cores, in turn."""
    cores = os.cpu_count() or 1
    context = multiprocessing.get_context("spawn")
    queue, barrier = context.Queue(), context.Barrier(cores + 1)
    workers = [
        context.Process(target=_worker, args=(queue, barrier, shape, batch, count, steps, repeats), daemon=True)
        for _ in range(cores)
    ]
    for worker in workers:
        worker.start()
    x = random_images(shape, batch * steps)
    baseline(x[: 2 * batch], shape, batch, "cpu")
    plain, populations = [], []
    for _ in range(repeats):
        barrier.wait()
        seconds = [queue.get() for _ in workers]
        barrier.wait()
        populations.append(cores / statistics.mean(seconds))
        plain.append(1 / baseline(x, shape, batch, "cpu"))
    for worker in workers:
        worker.join()
    return summary(plain, populations) | {"processes": cores}


def cuda(shape: tuple[int, int, int], batch: int, count: int, steps: int, repeats: int) -> dict[str, float]:
    """Model-steps a second of both sides on one GPU, in turn."""
    x = random_images(shape, batch * steps)
    baseline(x[: 2 * batch], shape, batch, "cuda")
    ours(x[: 2 * batch], shape, batch, "cuda", count, None)
    torch.cuda.reset_peak_memory_stats()
    plain, populations = [], []
    for _ in range(repeats):
        populations.append(1 / ours(x, shape, batch, "cuda", count, None))
        plain.append(1 / baseline(x, shape, batch, "cuda"))
    return summary(plain, populations) | {"peak_memory_gib": torch.cuda.max_memory_allocated() / 2**30}


def summary(plain: list[float], populations: list[float]) -> dict[str, float]:
    """Medians, their ratio, and the spread of the ratio over the repeats."""
    ratios = [b / a for a, b in zip(plain, populations, strict=True)]
    return {
        "baseline_steps_per_s": statistics.median(plain),
        "ours_steps_per_s": statistics.median(populations),
        "ratio": statistics.median(ratios), "ratio_min": min(ratios), "ratio_max": max(ratios),
    }  # fmt: skip


def breakdown(shape: tuple[int, int, int], batch: int, threads: int = 1) -> dict[str, float]:
    """Where the milliseconds of one model-step go on one core: data, forward, backward, Adam."""
    torch.set_num_threads(threads)
    model, x = build("ghvae", shape), random_images(shape, batch)
    optimiser = torch.optim.Adam(model.parameters(), fused=True)
    source = torch.Generator().manual_seed(0)
    order = torch.randperm(batch)
    spent: dict[str, list[float]] = {"data and noise": [], "forward": [], "backward": [], "Adam": []}
    for repeat in range(25):
        marks = [time.perf_counter()]
        images, noise = pixels(x[order]), model.noise(batch, source)
        marks.append(time.perf_counter())
        terms = model(images, noise)
        loss = (terms.distortion + terms.rates.sum(1)).mean()
        marks.append(time.perf_counter())
        loss.backward()
        marks.append(time.perf_counter())
        optimiser.step()
        optimiser.zero_grad()
        marks.append(time.perf_counter())
        if repeat >= 5:
            for name, a, b in zip(spent, marks, marks[1:], strict=False):
                spent[name].append(1000 * (b - a))
    return {name: statistics.median(times) for name, times in spent.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--quick", action="store_true", help="a few steps only, to see that it runs")
    args = parser.parse_args()
    say: Callable[[str], None] = (lambda text: print(text, file=sys.stderr)) if args.json else print
    steps, repeats = (2, 2) if args.quick else (10, args.repeats)
    result: dict[str, object] = {
        "machine": platform.processor() or platform.machine(), "cores": os.cpu_count(), "torch": torch.__version__,
        "cpu": {}, "gpu": {},
    }  # fmt: skip
    for name, shape in SHAPES.items():
        say(f"\n{name}, batch {args.batch}, CPU, {os.cpu_count()} cores")
        times = breakdown(shape, args.batch)
        say("  one step on one core: " + ", ".join(f"{part} {ms:.1f} ms" for part, ms in times.items()))
        torch.set_num_threads(os.cpu_count() or 1)
        row = cpu(shape, args.batch, count=2, steps=steps, repeats=repeats)
        row["peak_memory_gib"] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        report(say, row)
        result["cpu"][name] = {**row, "breakdown_ms": times}  # type: ignore[index]
        if torch.cuda.is_available():
            for count in (1, 8) if args.quick else (1, 8, 64, 441):
                say(f"{name}, batch {args.batch}, {torch.cuda.get_device_name()}, {count} members")
                row = cuda(shape, args.batch, count, steps, repeats)
                report(say, row)
                result["gpu"][f"{name} x {count}"] = row  # type: ignore[index]
    if not torch.cuda.is_available():
        say("\nno GPU here: not measured")
    if args.json:
        print(json.dumps(result, indent=2))


def report(say: Callable[[str], None], row: dict[str, float]) -> None:
    """One measurement in words."""
    say(f"  one at a time {row['baseline_steps_per_s']:.1f} model-steps/s, ours {row['ours_steps_per_s']:.1f}: "
        f"ratio {row['ratio']:.2f} ({row['ratio_min']:.2f} to {row['ratio_max']:.2f}), "
        f"peak memory {row['peak_memory_gib']:.1f} GiB a process")  # fmt: skip


if __name__ == "__main__":
    main()
