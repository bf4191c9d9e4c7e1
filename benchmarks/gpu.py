"""All that a GPU is wanted for, within a time: tests, ways to compute an update, the paper's protocol, its evaluation.

    .venv/bin/python benchmarks/gpu.py --minutes 12 --out gpu                   # on a machine with a GPU
    .venv/bin/python benchmarks/gpu.py --minutes 12 --out gpu --from gpu/pieces # goes on with what is in the pieces
    .venv/bin/python benchmarks/gpu.py --dry-run --out dry                      # every step, tiny, on a CPU

The parts come in this order, each with its share of the time, and what one leaves goes to the next:

tests        `pytest -m gpu`.
ways         What `hvae_core.training.ways` offers side by side, and the authors' way: one model at a time. Each is a
             process of its own; several prepare at once, and are timed one after the other. With the time of matrix
             products and of all else by the profiler, what noise takes of it, and the roofline of this card.
training     The runs of the protocol, block after block, in the fastest way that was found.
evaluation   The models of finished blocks: reconstruction, generation, representation.

What is found is in ``OUT/<part>.json`` as soon as it is found; an error in one place is noted there, and all else goes
on. The runs are in ``OUT/runs``. ``OUT/pieces`` holds what is new of them in files that are small enough to carry:
finished blocks, and the state of an unfinished one.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import re
import runpy
import signal
import statistics
import subprocess
import sys
import tarfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hvae_core.errors import InputError
from hvae_core.files import ROOT, whole_file, write_text

Row = dict[str, Any]
SHARES = {"tests": 2, "ways": 4, "training": 6, "evaluation": 1}
SHAPES = {"28x28x1": (1, 28, 28), "32x32x3": (3, 32, 32)}
RUNS: dict[str, Row] = {
    "mnist-ghvae": {"images": "28x28x1", "profile": "mnist-ghvae"},
    "cifar10-ghvae": {"images": "32x32x3", "profile": "cifar10-ghvae"},
    "mnist-lvae": {"images": "28x28x1", "profile": "mnist-ghvae", "changes": {"model": "lvae"}},
}
"""The full protocol, 441 models each."""

AUTHORS = "authors': one model at a time"
FIRST = "train"
WAYS: dict[str, Row] = {
    AUTHORS: {},
    FIRST: {"precision": "float32"},
    "train, bfloat16": {"precision": "bfloat16"},
    "whole, shared": {"precision": "float32", "whole": True, "shared": True},
    "whole, shared, bfloat16": {"precision": "bfloat16", "whole": True, "shared": True},
    "native, whole, shared": {"precision": "float32", "native": True, "whole": True, "shared": True},
    "native, whole, shared, bfloat16": {"precision": "bfloat16", "native": True, "whole": True, "shared": True},
    "kernels, whole": {"precision": "float32", "kernels": True, "whole": True},
    "kernels, whole, bfloat16": {"precision": "bfloat16", "kernels": True, "whole": True},
    "native": {"precision": "float32", "native": True},
    "native, bfloat16": {"precision": "bfloat16", "native": True},
    "whole": {"precision": "float32", "whole": True},
    "whole, bfloat16": {"precision": "bfloat16", "whole": True},
    "shared": {"precision": "float32", "shared": True},
    "train, batches of 128": {"precision": "float32", "batch": 128},
    "whole, shared, bfloat16, batches of 128": {"precision": "bfloat16", "whole": True, "shared": True, "batch": 128},
}
"""The most important first: time may not suffice for all."""

WAY_S = 150.0  # for one way, at most
CHECKPOINT_S = 15.0  # between states to resume from: what is lost when the time is up
PRODUCTS = re.compile("gemm|mm|cutlass|convolution|conv2d|cudnn|wgmma|matmul|cublas|_apply|_correlate", re.IGNORECASE)
"""In the names of what computes products; all else moves memory."""
AGREES = 0.02  # of the loss after a few updates: less than a way that computes something else would make it
READY = "ready"


@dataclass(frozen=True)
class Size:
    """How much there is to do.

    Attributes:
        groups: images, models, and how many ways prepare at the same time, for which the memory has to suffice.
    """

    device: str = "cuda"
    groups: tuple[tuple[str, int, int], ...] = (
        ("28x28x1", 81, 6),
        ("32x32x3", 81, 2),
        ("28x28x1", 441, 1),
        ("32x32x3", 441, 1),
    )
    ways: tuple[str, ...] = tuple(WAYS)
    batch: int = 256
    updates: int = 10
    square: int = 8192  # side of the matrices whose product gives the roofline
    copied: int = 2**31  # bytes
    drawn: int = 2**25  # numbers of noise: several times what is drawn at once


TINY = Size(
    "cpu",
    (("28x28x1", 2, 2),),
    (AUTHORS, FIRST, "native, whole, shared, bfloat16"),
    batch=4,
    updates=1,
    square=64,
    copied=2**20,
    drawn=2**17,
)
TINY_RUN: Row = {
    "betas": [0.5, 2.0],
    "epochs": 2,
    "batch_size": 16,
    "generated_samples": 10,
    "classifier_epochs": 1,
    "device": "cpu",
}


# --- a process for each step --------------------------------------------------------------------------------------


def one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _child(pipe: Connection, dry: bool, steps: Callable[..., Iterator[Any]], options: Row) -> None:
    """Send what a generator yields, or its error; after `READY` wait for a word."""
    os.setsid()  # with all processes of its own it is ended as one
    try:
        if dry:
            _without_a_compiler()
        for value in steps(**options):
            pipe.send(value)
            if value == READY:
                pipe.recv()
    except BaseException as error:  # whatever a card may do: it is noted, and the rest goes on
        pipe.send({"error": one_line(error)})


def _without_a_compiler() -> None:
    """To compile takes a minute a way on a CPU: a dry run does without. All else is as in a long training."""
    import torch

    from hvae_core.training import population

    torch.compile = lambda function, **options: function  # type: ignore[assignment]  # for a dry run
    population.COMPILED_ON, population.COMPILED_FROM = ("cpu",), 1
    torch.set_num_threads(1)


class Child:
    """A process that makes steps and sends what it finds."""

    def __init__(self, dry: bool, steps: Callable[..., Iterator[Any]], **options: Any) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["hvae_core.training.population"])
        self.pipe, there = context.Pipe()
        self.process = context.Process(target=_child, args=(there, dry, steps, options))
        self.process.start()
        there.close()

    def answer(self, until: float) -> Any:
        """What it sends next, or why nothing."""
        if not self.pipe.poll(max(0.0, until - time.monotonic())):
            return {"error": "out of time"}
        try:
            return self.pipe.recv()
        except EOFError:
            self.process.join()
            return {"error": f"the process died, exit status {self.process.exitcode}"}

    def end(self, patience: float = 0.0) -> None:
        """End it and what it started, after so many seconds in which it may end by itself."""
        self.process.join(patience)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid or 0, signal.SIGKILL)
        self.process.join()


# --- the parts ----------------------------------------------------------------------------------------------------


class Kit:
    """What was asked for, and what was found so far."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.out, self.dry = args, Path(args.out).resolve(), args.dry_run
        self.size = TINY if self.dry else Size()
        self.started = time.time()

    def keep(self, part: str, found: Any) -> None:
        write_text(self.out / f"{part}.json", json.dumps(found, indent=1) + "\n")

    def found(self, part: str) -> Any:
        path = self.out / f"{part}.json"
        return json.loads(path.read_text()) if path.exists() else []

    def child(self, steps: Callable[..., Iterator[Any]], **options: Any) -> Child:
        return Child(self.dry, steps, **options)

    def settings(self, name: str) -> tuple[str, Row]:
        """The profile of a run, and what differs from it."""
        about = RUNS[name]
        changes = {"blocks": self.args.blocks, **about.get("changes", {})}
        if about["images"] == "32x32x3" and self.args.cifar10:
            changes["dataset"] = str(Path(self.args.cifar10).resolve())
        if self.dry:
            changes |= TINY_RUN | {"blocks": 2, "dataset": str(_random_images(self.out, about["images"]))}
        return about["profile"], changes


def tests(kit: Kit, until: float) -> None:
    """The tests that need a GPU."""
    files = sorted(path for path in (ROOT / "tests").glob("test_*.py") if "pytest.mark.gpu" in path.read_text())
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-v", "-p", "no:cacheprovider", *map(str, files)]
    if kit.dry:  # there is no GPU: they are looked for
        command = [*command[: -len(files)], str(files[0]), "--collect-only"]
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=max(1, until - time.monotonic())
        )
        row = {"exit": done.returncode, "end": done.stdout.splitlines()[-15:], "errors": done.stderr[-1000:]}
    except subprocess.TimeoutExpired as late:
        row = {"error": "out of time", "end": os.fsdecode(late.stdout or b"").splitlines()[-15:]}
    kit.keep("tests", row)
    print("  " + (row.get("error") or (row["end"] or [row["errors"]])[-1]))


def ways(kit: Kit, until: float) -> None:
    """The ways side by side."""
    size, rows = kit.size, []
    child = kit.child(card, size=size)
    kit.keep("card", child.answer(min(until, time.monotonic() + WAY_S)))
    child.end(patience=5)
    for images, members, at_once in size.groups:
        waiting = list(size.ways)
        while waiting and time.monotonic() < until:
            names, waiting = waiting[:at_once], waiting[at_once:]
            limit = min(until, time.monotonic() + WAY_S)
            children = {
                name: kit.child(measured, images=images, members=members, name=name, size=size) for name in names
            }
            ready = {name: child.answer(limit) for name, child in children.items()}
            for name, child in children.items():  # all are ready, and only one computes at a time
                found = ready[name]
                if found == READY:
                    child.pipe.send(True)
                    found = child.answer(limit)
                child.end(patience=0 if "error" in found else 5)
                rows.append({"images": images, "members": members, "way": name, **found})
                print("  " + said(rows[-1]), flush=True)
            kit.keep("ways", rows)
    for images in SHAPES:
        if (row := best(rows, images)) is not None:
            print(f"  the best at {images}: {row['way']}, {row['model_steps_per_s']:,.0f} model-steps/s")


def said(row: Row) -> str:
    start = f"{row['images']}, {row['members']} models, {row['way']}: "
    if "error" in row:
        return start + row["error"]
    noise = f", noise, share of an epoch: {row['noise_share']:.2%}" if "noise_share" in row else ""
    return start + f"{row['model_steps_per_s']:,.1f} model-steps/s{noise}"


def best(rows: list[Row], images: str, **wanted: Any) -> Row | None:
    """The fastest way at these images whose losses are the first way's; where most ways were timed."""
    timed = [row for row in rows if row["images"] == images and "error" not in row]
    losses = {row["members"]: row["loss"] for row in timed if row["way"] == FIRST}

    def fits(row: Row) -> bool:
        loss = losses.get(row["members"], row.get("loss"))
        same = row["batch"] == timed[0]["batch"] and all(row[key] == value for key, value in wanted.items())
        return row["way"] != AUTHORS and same and abs(row["loss"] / loss - 1) < AGREES

    ways = [row for row in timed if fits(row)]
    count = Counter(row["members"] for row in ways)
    return max(ways, key=lambda row: (count[row["members"]], row["model_steps_per_s"]), default=None)


def training(kit: Kit, until: float) -> None:
    """The runs of the protocol, block after block."""
    rows: list[Row] = []
    for place, name in enumerate(kit.args.runs):
        share = (until - time.monotonic()) / (len(kit.args.runs) - place)
        ends = time.monotonic() + share
        profile, changes = kit.settings(name)
        there = kit.out / "runs" / name / "config.yaml"
        begun = re.search(r"^precision: (\w+)$", there.read_text(), re.MULTILINE) if there.exists() else None
        wanted = {"precision": begun[1]} if begun else {}  # it goes on as it began
        chosen = best(kit.found("ways"), RUNS[name]["images"], **wanted) or {"way": FIRST, **WAYS[FIRST], **wanted}
        changes["precision"] = chosen["precision"]
        child = kit.child(trained, name=name, profile=profile, changes=changes, way=chosen["way"])
        while (found := child.answer(ends)) is not None:
            rows.append({"run": name, "way": chosen["way"], "precision": chosen["precision"], **found})
            kit.keep("training", rows)
            print("  " + ", ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
            if "error" in found:
                break
        child.end()
    pack(kit)


def evaluation(kit: Kit, until: float) -> None:
    """What is finished, measured."""
    rows: list[Row] = []
    done = [name for name in kit.args.runs if any((kit.out / "runs" / name).glob("checkpoints/*/weights.safetensors"))]
    if kit.dry:
        done = done[:1]
    for place, name in enumerate(done):
        ends = time.monotonic() + (until - time.monotonic()) / (len(done) - place)
        child = kit.child(evaluated, name=name, changes=kit.settings(name)[1])
        while (found := child.answer(ends)) is not None:
            rows.append({"run": name, **found})
            kit.keep("evaluation", rows)
            print("  " + ", ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
            if "error" in found:
                break
        child.end(patience=0 if found else 5)
    if not done:
        print("  no block is finished")
    pack(kit)


# --- what the processes do ----------------------------------------------------------------------------------------


def card(size: Size) -> Iterator[Row]:
    """The device, its ceilings, and what an update has to move and to compute: the roofline."""
    import torch
    from population import median_seconds

    device = size.device
    row: Row = {"torch": torch.__version__, "device": device}
    if device == "cuda":
        row |= {"device": torch.cuda.get_device_name(), "memory_gib": torch.cuda.mem_get_info()[1] / 2**30}
    source = torch.empty(size.copied, dtype=torch.uint8, device=device).random_()
    target = torch.empty_like(source)
    row["copy_tb_per_s"] = bandwidth = 2 * size.copied / median_seconds(partial(target.copy_, source), device) / 1e12
    del source, target
    torch.set_float32_matmul_precision("high")
    rates = {}
    for name, kind in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        a = torch.randn(size.square, size.square, device=device, dtype=kind)
        rates[name] = 2 * size.square**3 / median_seconds(partial(torch.matmul, a, a), device) / 1e12
    row["product_tflop_per_s"] = rates
    row["roofline"] = {images: roofline(counted(SHAPES[images]), bandwidth, rates, size.batch) for images in SHAPES}
    yield row


def counted(shape: tuple[int, int, int]) -> Row:
    """Of one image of a GHVAE: floats that layers make, those that our convolutions make on the way, FLOP of a step."""
    import torch
    from torch import nn
    from torch.utils.flop_counter import FlopCounterMode

    from hvae_core.models import build
    from hvae_core.randomness import Noise
    from hvae_core.training import convolutions

    made: list[int] = []
    copies: list[int] = []
    plain = build("ghvae", shape)
    x, noise = torch.rand(1, *shape), plain.noise(1, Noise(0))
    for module in plain.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            module.register_forward_hook(lambda module, inputs, output: made.append(output.numel()))
    with FlopCounterMode(display=False) as counter:
        terms = plain(x, noise)
        (terms.distortion.sum() + terms.rates.sum()).backward()

    real = {name: getattr(convolutions, name) for name in ("_blocks", "_windows", "_product")}

    def counting(function: Callable[..., torch.Tensor], *args: Any) -> torch.Tensor:
        result = function(*args)
        copies.append(result.numel())
        return result

    for name, function in real.items():
        setattr(convolutions, name, partial(counting, function))
    try:
        convolutions.for_vmap(build("ghvae", shape))(x, noise)
    finally:
        for name, function in real.items():
            setattr(convolutions, name, function)
    return {"layers": sum(made), "copies": sum(copies), "flop": counter.get_total_flops()}


def roofline(counts: Row, bandwidth: float, rates: dict[str, float], batch: int) -> Row:
    """Model-steps a second that memory and arithmetic allow, whether the copies have to be moved or not.

    A float is written and read in the forward pass; in the backward pass it is read again, and its gradient written and
    read by two: six passes.
    """
    limits: Row = dict(counts)
    for precision, width in (("float32", 4), ("bfloat16", 2)):
        for what, number in (("layers", counts["layers"]), ("all", counts["layers"] + counts["copies"])):
            seconds = max(
                6 * width * number * batch / bandwidth / 1e12, counts["flop"] * batch / rates[precision] / 1e12
            )
            limits[f"{precision}, {what}, model_steps_per_s"] = round(1 / seconds)
    return limits


def measured(images: str, members: int, name: str, size: Size) -> Iterator[Any]:
    """The time of an update in one way, and what it is made of."""
    import population as plain
    import torch

    shape, device = SHAPES[images], torch.device(size.device)
    if name == AUTHORS:
        x = plain.random_images(shape, size.batch * size.updates)
        plain.baseline(x[: 2 * size.batch], shape, size.batch, size.device)
        yield READY
        seconds = statistics.median(plain.baseline(x, shape, size.batch, size.device) for _ in range(3))
        yield {"batch": size.batch, "precision": "float32", "ms": 1000 * seconds, "model_steps_per_s": 1 / seconds}
        return
    start = time.perf_counter()
    batch = size.batch if "batch" not in WAYS[name] else max(2, size.batch // 2)
    learner, update = updating(shape, members, WAYS[name], batch, device)
    losses = [update() for _ in range(6)]  # compiled, recorded and warm
    synchronise(device)
    prepared = time.perf_counter() - start
    yield READY
    times = []
    for _ in range(3):
        start = time.perf_counter()
        for _ in range(size.updates):
            update()
        synchronise(device)
        times.append((time.perf_counter() - start) / size.updates)
    seconds = statistics.median(times)
    row: Row = {
        "batch": batch,
        "precision": WAYS[name]["precision"],
        "ms": 1000 * seconds,
        "model_steps_per_s": members / seconds,
        "spread_ms": 1000 * (max(times) - min(times)),
        "prepared_s": prepared,
        "loss": losses[-1].item(),
        "at_once": len(learner.chunks[0].indices),
        "noise_share": noise_seconds(learner.model, batch, size, device) / seconds,
    }
    if device.type == "cuda":
        row["peak_memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
    yield row | {"split": split(update, device, seconds)}


def noise_seconds(model: Any, batch: int, size: Size, device: Any) -> float:
    """What it takes to draw the noise of an update, which all its models share: a part of its time."""
    from hvae_core.randomness import Noise, Purpose

    noise = Noise(0, Purpose.NOISE, 1, device)
    numbers = sum(part.numel() for part in model.noise(batch, noise))
    synchronise(device)
    start = time.perf_counter()
    noise.normal(size.drawn)
    synchronise(device)
    return (time.perf_counter() - start) * numbers / size.drawn


def updating(shape: tuple[int, int, int], members: int, options: Row, batch: int, device: Any) -> tuple[Any, Any]:
    """A population, and a call for one update of it, as `train` makes it; the call gives the mean loss."""
    import population as plain
    import torch

    from hvae_core.data.dataset import pixels
    from hvae_core.models import build
    from hvae_core.objective import lagrangian
    from hvae_core.randomness import Noise, Purpose
    from hvae_core.training.population import Population, _Chunks, _Losses
    from hvae_core.training.target_rates import PI
    from hvae_core.training.trainer import Update

    many = 10**6  # updates: as of a long training
    make = partial(build, "ghvae", shape)
    population = Population(make, plain.members(members), device)
    losses = _Losses(make, lagrangian, options["precision"], device, batch, many, way_of(options))
    learner = _Chunks(population, losses, members, False, PI().paced(many))
    x = plain.random_images(shape, 8 * batch).to(device)
    noise, lost = Noise(0, Purpose.NOISE, 0, device), torch.zeros(members, dtype=torch.bool)
    count = 0

    def update() -> torch.Tensor:
        nonlocal count
        place = count % 8 * batch
        sums = torch.zeros(members, 2 + learner.layers, dtype=torch.float64, device=device)
        drawn = learner.model.noise(batch, noise)
        learner.step(0, pixels(x[place : place + batch]), drawn, Update(count, many, 1.0, 3e-4), lost, sums)
        count += 1
        return sums[:, 0].mean() / batch

    return learner, update


def way_of(options: Row) -> Any:
    from hvae_core.training.ways import Way

    return Way(**{key: value for key, value in options.items() if key in asdict(Way())})


def synchronise(device: Any) -> None:
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize()


def split(update: Callable[[], Any], device: Any, seconds: float) -> Row:
    """Milliseconds of an update in products, in what moves memory, and in neither, by the profiler; its launches."""
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    calls, on_gpu = 3, device.type == "cuda"
    with profile(activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU]) as found:
        for _ in range(calls):
            update()
        synchronise(device)
    kind = DeviceType.CUDA if on_gpu else DeviceType.CPU
    spent = {"products": 0.0, "memory": 0.0}
    launches, longest = 0, []
    for event in found.key_averages():
        if event.device_type != kind:
            continue
        own = (event.self_device_time_total if on_gpu else event.self_cpu_time_total) / calls / 1000
        spent["products" if PRODUCTS.search(event.key) else "memory"] += own
        launches += event.count
        longest.append((own, event.key[:80]))
    return {
        **spent,
        "waiting": max(0.0, 1000 * seconds - sum(spent.values())),
        "launches": launches // calls,
        "longest": sorted(longest, reverse=True)[:12],
    }


def trained(name: str, profile: str, changes: Row, way: str) -> Iterator[Row | None]:
    """Train the blocks of a run, from where an earlier execution stopped."""
    from hvae_core.pipeline.stages import begin, load_data, train_members
    from hvae_core.runs.folder import run_folder
    from hvae_core.runs.weights import block_folder
    from hvae_core.training import trainer

    trainer.CHECKPOINT_EVERY_S = CHECKPOINT_S
    there = run_folder(name) / "config.yaml"
    config = begin(None, name=name) if there.exists() else begin(profile, changes, name)
    data, objective = load_data(with_data(config, changes)), the_objective()
    for block in range(config.block_count):
        part = begin(None, name=name, block=block)
        was_there, start = (block_folder(part, block) / "weights.safetensors").exists(), time.perf_counter()
        table = train_members(part, data, objective, way_of(WAYS[way]))
        seconds = time.perf_counter() - start
        row = {"block": f"{block + 1} of {config.block_count}", "models": len(table), "seconds": round(seconds, 1)}
        if not was_there:
            steps = len(table) * config.epochs * -(-len(data.x_train) // config.batch_size)
            row["model_steps_per_s"] = round(steps / seconds)
        yield row
    yield None


def with_data(config: Any, changes: Row) -> Any:
    """The configuration with the file of its images that is here, wherever it was when the run began."""
    return config.model_copy(update={"dataset": changes["dataset"]}) if "dataset" in changes else config


def the_objective() -> Callable[..., Any]:
    """That of the notebook that trains, so that what it finds there is its own."""
    notebook = json.loads((ROOT / "notebooks" / "10_train.ipynb").read_text())
    (cell,) = [cell for cell in notebook["cells"] if "objective" in cell["metadata"].get("tags", [])]
    path = Path(os.environ["HVAE_OUTPUT"]) / "objective.py"
    write_text(path, "".join(cell["source"]) + "\n")
    return runpy.run_path(str(path))["objective"]


def evaluated(name: str, changes: Row) -> Iterator[Row | None]:
    """The stages of a run, on the models that are finished."""
    from hvae_core.pipeline import stages
    from hvae_core.runs.folder import load_config
    from hvae_core.runs.results import collect

    collect(name)
    config = load_config(name)
    data = stages.load_data(with_data(config, changes))
    for stage in (stages.reconstruct, stages.generate, stages.represent):
        start = time.perf_counter()
        try:
            stage(config, data)
            yield {"stage": stage.__name__, "seconds": round(time.perf_counter() - start, 1)}
        except Exception as error:  # the next stage may go well
            yield {"stage": stage.__name__, "failed": one_line(error)}
    yield None


def _random_images(folder: Path, images: str) -> Path:
    """A data set for the dry run."""
    import numpy as np

    path, (colours, side, _) = folder / f"random-{images}.npz", SHAPES[images]
    if not path.exists():
        draw = np.random.default_rng(0)
        shape, labels = (60, colours, side, side), np.arange(60) % 3
        x = {f"x_{part}": draw.integers(0, 256, shape, dtype=np.uint8) for part in ("train", "test")}
        with whole_file(path) as part, open(part, "wb") as file:
            np.savez(file, y_train=labels, y_test=labels, **x)
    return path


# --- files small enough to carry ----------------------------------------------------------------------------------


def pack(kit: Kit) -> None:
    """Put what is new of the runs into pieces: ``RUN.tables`` and ``RUN.block-NNN``, each a tar file cut in parts."""
    for run in sorted((kit.out / "runs").glob("[!.]*")):
        groups = {"tables": [p for p in sorted(run.iterdir()) if p.name not in ("checkpoints", ".progress")]}
        groups |= {block.name: [block] for block in sorted(run.glob("checkpoints/block-*"))}
        for group, paths in groups.items():
            files = [file for path in paths for file in (sorted(path.rglob("*")) if path.is_dir() else [path])]
            files = [file for file in files if file.is_file() and not file.name.endswith(".part")]
            states = {file.parent: file for file in files if file.parent.parent.name == "resume"}  # the last of each
            files = [file for file in files if states.get(file.parent, file) == file]
            if any(path.stat().st_mtime > kit.started for path in files):
                _pack(kit, f"{run.name}.{group}", files)


def _pack(kit: Kit, name: str, files: list[Path]) -> None:
    folder, most = kit.out / "pieces", int(kit.args.piece * 2**20)
    folder.mkdir(exist_ok=True)
    whole = folder / f".{name}.tar"
    with tarfile.open(whole, "w") as tar:
        for path in files:
            tar.add(path, path.relative_to(kit.out))
    for old in folder.glob(f"{name}.*of*"):
        old.unlink()
    count = -(-whole.stat().st_size // most)
    with open(whole, "rb") as source:
        for number in range(1, count + 1):
            with whole_file(folder / f"{name}.{number:02d}of{count:02d}") as part:
                part.write_bytes(source.read(most))
    whole.unlink()


def unpack(pieces: Path, out: Path) -> None:
    """Put the runs of some pieces into their places.

    Raises:
        InputError: when one is missing.
    """
    out.mkdir(parents=True, exist_ok=True)
    names: dict[str, list[Path]] = {}
    for path in sorted(pieces.glob("*.*of*")):
        names.setdefault(path.name.rpartition(".")[0], []).append(path)
    if not names:
        raise InputError(f"--from {pieces}: there are no pieces, such as mnist-ghvae.block-000.01of02")
    for name, parts in names.items():
        count = int(parts[0].name.rpartition("of")[2])
        if len(parts) != count:
            raise InputError(f"--from {pieces}: of {name} there are {len(parts)} pieces, not {count}")
        whole = out / f".{name}.tar"
        with open(whole, "wb") as file:
            for part in parts:
                file.write(part.read_bytes())
        with tarfile.open(whole) as tar:
            tar.extractall(out, filter="data")
        whole.unlink()


# --- the command --------------------------------------------------------------------------------------------------


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--minutes", type=float, default=12.0, help="for all parts together (12)")
    parser.add_argument("--out", required=True, help="folder of what is found")
    parser.add_argument("--from", dest="pieces", action="append", default=[], help="folder of pieces to go on with")
    parser.add_argument("--skip", nargs="*", choices=list(SHARES), default=[], help="parts to leave out")
    parser.add_argument("--runs", nargs="*", choices=list(RUNS), default=["mnist-ghvae", "cifar10-ghvae"])
    parser.add_argument("--blocks", type=int, default=9, help="in which a run is trained (9)")
    parser.add_argument("--cifar10", help="an .npz file of CIFAR-10; default: the official files")
    parser.add_argument("--piece", type=float, default=15.0, help="MiB of a piece, at most (15)")
    parser.add_argument("--dry-run", action="store_true", help="every step, tiny, on a CPU")
    args = parser.parse_args()
    kit = Kit(args)
    kit.out.mkdir(parents=True, exist_ok=True)
    os.environ["HVAE_OUTPUT"] = str(kit.out)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "4")  # of each of the ways that prepare at once
    try:
        for pieces in args.pieces:
            unpack(Path(pieces), kit.out)
        if not kit.dry:
            probe = "import torch, sys; sys.exit(0 if torch.cuda.is_available() else 3)"
            if subprocess.run([sys.executable, "-c", probe]).returncode:
                raise InputError("PyTorch finds no CUDA device here; --dry-run makes every step on a CPU")
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    parts = [part for part in SHARES if part not in args.skip]
    end = time.monotonic() + 60 * args.minutes
    for place, part in enumerate(parts):
        share = SHARES[part] / sum(SHARES[later] for later in parts[place:])
        left = end - time.monotonic()
        print(f"{part}: at most {share * left:.0f} s", flush=True)
        try:
            globals()[part](kit, time.monotonic() + share * left)
        except Exception as error:  # the next part may go well
            kit.keep(f"{part}-error", {"error": one_line(error)})
            print(f"  {one_line(error)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
