"""How fast a population trains, against the loop that anyone would write.

    .venv/bin/python benchmarks/population.py                  # this machine's CPU, and its GPU if there is one
    .venv/bin/python benchmarks/population.py --json           # the same for machines

One *model-step* is forward, backward and Adam for one model on one batch. Both sides are measured in one run, warm, in
turn, several times; the ratio is of the medians. The baseline trains one model at a time: eager, float32, `DataLoader`
with a transform for every image. Ours is `hvae_core.training.population.train`; on a CPU in as many processes as there
are cores, as `./run_all.sh` runs the blocks of a grid; in float32 and with the layers in bfloat16 (`precision:
bfloat16`).
"""

import argparse
import itertools
import json
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from hvae_core.data.dataset import pixels
from hvae_core.models import build
from hvae_core.randomness import Noise
from hvae_core.runs import provenance
from hvae_core.training.plan import Member, Plan
from hvae_core.training.population import train

PRECISIONS = ("float32", "bfloat16")
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


def ours(
    x: torch.Tensor,
    shape: tuple[int, int, int],
    batch: int,
    device: str,
    count: int,
    chunk: int | None,
    precision: str = "float32",
) -> float:
    """Seconds a model-step of a population of so many, trained for one epoch."""
    images = x.to(device)
    start = time.perf_counter()
    train(
        lambda: build("ghvae", shape),
        members(count),
        images,
        Plan(epochs=1, batch_size=batch, precision=precision),
        chunk=chunk,
    )
    if device == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / (count * -(-len(x) // batch))


def _serve(pipe, threads, kind, shape, batch, count, steps) -> None:  # type: ignore[no-untyped-def]  # pickled for a process
    """A process that times one side each time it is asked to; each side has processes, and memory, of its own."""
    torch.set_num_threads(threads)
    x = random_images(shape, batch * steps)

    def timed(images: torch.Tensor) -> float:
        return (
            baseline(images, shape, batch, "cpu")
            if kind == "baseline"
            else ours(images, shape, batch, "cpu", count, None, kind)
        )

    timed(x[: 2 * batch])
    while pipe.recv():
        pipe.send(timed(x))


def random_images(shape: tuple[int, int, int], count: int) -> torch.Tensor:
    """Images of the right kind: what they show does not matter to the clock."""
    levels = torch.randint(0, 256, (count, *shape), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return (levels >= 128) * torch.tensor(255, dtype=torch.uint8) if shape[0] == 1 else levels


def cpu(shape: tuple[int, int, int], batch: int, count: int, steps: int, repeats: int) -> dict[str, dict[str, float]]:
    """Model-steps a second of both sides on all cores, in turn; ours in each precision."""
    cores = provenance.cores()
    context = multiprocessing.get_context("spawn")

    def start(kind: str, threads: int) -> Connection:
        here, there = context.Pipe()
        context.Process(target=_serve, args=(there, threads, kind, shape, batch, count, steps), daemon=True).start()
        return here

    def ask(pipes: list[Connection]) -> float:
        for pipe in pipes:
            pipe.send(True)
        return len(pipes) / statistics.mean([pipe.recv() for pipe in pipes])

    sides = {
        "baseline": [start("baseline", cores)],
        **{kind: [start(kind, 1) for _ in range(cores)] for kind in PRECISIONS},
    }
    rates: dict[str, list[float]] = {kind: [] for kind in sides}
    for _ in range(repeats):
        for kind, pipes in sides.items():
            rates[kind].append(ask(pipes))
    for pipe in itertools.chain(*sides.values()):
        pipe.send(False)
    for process in multiprocessing.active_children():
        process.join()
    return {kind: summary(rates["baseline"], rates[kind]) for kind in PRECISIONS}


def cuda(shape: tuple[int, int, int], batch: int, count: int, steps: int, repeats: int) -> dict[str, dict[str, float]]:
    """Model-steps a second of both sides on one GPU, in turn; ours in each precision."""
    x = random_images(shape, batch * steps)
    baseline(x[: 2 * batch], shape, batch, "cuda")
    plain: list[float] = []
    populations: dict[str, list[float]] = {kind: [] for kind in PRECISIONS}
    for kind in PRECISIONS:
        ours(x[: 2 * batch], shape, batch, "cuda", count, None, kind)
    torch.cuda.reset_peak_memory_stats()
    for _ in range(repeats):
        plain.append(1 / baseline(x, shape, batch, "cuda"))
        for kind in PRECISIONS:
            populations[kind].append(1 / ours(x, shape, batch, "cuda", count, None, kind))
    return {kind: summary(plain, populations[kind]) for kind in PRECISIONS}


def summary(plain: list[float], populations: list[float]) -> dict[str, float]:
    """Medians, their ratio, and the spread of the ratio over the repeats."""
    ratios = [b / a for a, b in zip(plain, populations, strict=True)]
    return {
        "baseline_steps_per_s": statistics.median(plain),
        "ours_steps_per_s": statistics.median(populations),
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
    }


def growth(
    shape: tuple[int, int, int], batch: int, device: str, counts: tuple[int, ...], batches: tuple[int, ...]
) -> dict[str, dict[int, float]]:
    """Model-steps a second of ours in one process, as the members grow at this batch, and as the batch grows."""
    torch.set_num_threads(1)
    x = random_images(shape, 16 * max(batches))
    ours(x[: 2 * batch], shape, batch, device, 1, None)
    by_members = {
        count: 1 / ours(x[: batch * max(1, 16 // count)], shape, batch, device, count, None) for count in counts
    }
    members = 1 if device == "cpu" else counts[-2]
    return {
        "members": by_members,
        "batch": {size: 1 / ours(x[: 8 * size], shape, size, device, members, None) for size in batches},
    }


def split(shape: tuple[int, int, int], batch: int, device: str, members: int = 1) -> dict[str, float]:
    """Where the milliseconds of one model-step go, in one process with one thread.

    *data*: images to floats, and noise. *launches*: what a step costs at batch 1, whatever the batch. *memory*: what
    the kernel of the operating system takes for mapping and zeroing memory; once more without `keep_memory`, in a
    process that has not called it. *arithmetic*: the rest, with what it comes to in GFLOP/s beside a matrix product's.
    """
    torch.set_num_threads(1)
    model, steps = build("ghvae", shape).to(device), 20

    def seconds(size: int) -> tuple[float, float]:
        x = random_images(shape, size * steps)
        ours(x[: 2 * size], shape, size, device, members, None)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_stime
        spent = ours(x, shape, size, device, members, None)
        return spent, (resource.getrusage(resource.RUSAGE_SELF).ru_stime - before) / steps / members

    without = _in_new_process(_plain_seconds, shape, batch) if device == "cpu" else None
    whole, kernel = seconds(batch)
    launches = seconds(1)[0]
    x, source = random_images(shape, batch).to(device), Noise(0, device=device)
    data = median_seconds(lambda: (pixels(x), model.noise(batch, source)), device) / members
    with FlopCounterMode(display=False) as counter:
        terms = model(pixels(x), model.noise(batch, source))
        (terms.distortion.mean() + terms.rates.sum(1).mean()).backward()
    flops = counter.get_total_flops() / 1e9
    a = torch.randn(1024, 1024, device=device)
    peak = 2 * 1.024**3 / median_seconds(lambda: a @ a, device)
    result = {"step": 1000 * whole, "data": 1000 * data, "launches": 1000 * launches}
    arithmetic = whole - data - launches
    if device == "cpu":
        assert without is not None
        result |= {
            "memory": 1000 * kernel,
            "step without keep_memory": 1000 * without[0],
            "memory without keep_memory": 1000 * without[1],
        }
        arithmetic -= kernel
    return result | {
        "arithmetic": 1000 * arithmetic,
        "GFLOP": flops,
        "GFLOP/s": flops / arithmetic,
        "GFLOP/s of a matrix product": peak,
    }


def _plain_seconds(queue, shape, batch, steps=20) -> None:  # type: ignore[no-untyped-def]  # pickled for a process
    torch.set_num_threads(1)
    model, source = build("ghvae", shape), Noise(0)
    optimiser = torch.optim.Adam(model.parameters(), fused=True)
    x = pixels(random_images(shape, batch))
    for step in range(2 * steps):
        if step == steps:
            start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_stime
        terms = model(x, model.noise(batch, source))
        optimiser.zero_grad()
        (terms.distortion + terms.rates.sum(1)).mean().backward()
        optimiser.step()
    kernel = resource.getrusage(resource.RUSAGE_SELF).ru_stime - before
    queue.put(((time.perf_counter() - start) / steps, kernel / steps))


def _in_new_process(function: Callable[..., None], *args: object) -> tuple[float, float]:
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=function, args=(queue, *args))
    process.start()
    result: tuple[float, float] = queue.get()
    process.join()
    return result


def median_seconds(function: Callable[[], object], device: str, repeats: int = 9) -> float:
    """Median wall time of a call."""
    times = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        function()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times[2:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--device", choices=("cpu", "cuda"), help="only this one; default: all that are there")
    parser.add_argument("--quick", action="store_true", help="a few steps only, to see that it runs")
    args = parser.parse_args()
    say: Callable[[str], None] = (lambda text: print(text, file=sys.stderr)) if args.json else print
    steps, repeats = (2, 2) if args.quick else (10, args.repeats)
    counts, batches = ((1, 8), (16, 64)) if args.quick else ((1, 8, 64, 441), (16, 64, 256, 1024))
    devices = [args.device] if args.device else ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    result: dict[str, object] = {"cores": provenance.cores(), "torch": torch.__version__}
    for device in devices:
        what = torch.cuda.get_device_name() if device == "cuda" else f"{provenance.cores()} cores"
        for name, shape in SHAPES.items():
            say(f"\n{name}, batch {args.batch}, {device}, {what}")
            if device == "cpu":
                torch.set_num_threads(provenance.cores())
                sides = cpu(shape, args.batch, count=2, steps=steps, repeats=repeats)
                peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
            else:
                sides = cuda(shape, args.batch, counts[-1], steps, repeats)
                peak = torch.cuda.max_memory_allocated() / 2**30
            for kind, measured in sides.items():
                say(
                    f"  {kind}: "
                    + "one at a time {baseline_steps_per_s:.1f} model-steps/s, ours {ours_steps_per_s:.1f}: ratio "
                    "{ratio:.2f} "
                    "({ratio_min:.2f} to {ratio_max:.2f})".format(**measured)
                )
            say(f"  peak memory {peak:.1f} GiB a process")
            row: dict[str, object] = {**sides, "peak_memory_gib": peak}
            row["split_ms"] = parts = split(shape, args.batch, device, 1 if device == "cpu" else counts[-1])
            say(
                "  one model-step: "
                + ", ".join(f"{part} {value:.2f}" for part, value in parts.items())
                + " (times in ms)"
            )
            row["growth"] = grown = growth(shape, args.batch, device, counts, batches)
            for what_grows, values in grown.items():
                say(
                    f"  model-steps/s by {what_grows}, one process: "
                    + ", ".join(f"{k}: {v:.1f}" for k, v in values.items())
                )
            result[f"{device} {name}"] = row
    if not torch.cuda.is_available():
        say("\nno GPU here: not measured")
    if args.json:
        print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
