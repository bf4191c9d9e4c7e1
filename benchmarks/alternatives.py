"""Ways to compute one update of a population, timed side by side.

What `hvae_core.training.population` does, and what it could do.

    .venv/bin/python benchmarks/alternatives.py                     # this machine's CPU, and its GPU if there is one
    .venv/bin/python benchmarks/alternatives.py --members 1 8 --batch 256 --repeats 15

Each way makes the same update (forward, backward, Adam) of so many GHVAEs on one batch; milliseconds a model-step are
medians over repeats, in one thread, and the loss is compared with the first way's. The convolutions stay PyTorch's or
are replaced, behind the same parameters, by those of `hvae_core.training.convolutions` or by unfold and a batched
matrix product. On a GPU all matrix products are in TF32, as convolutions are there by default, where nothing else is
said.
"""

import argparse
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, vmap

from hvae_core.data.dataset import pixels
from hvae_core.models import build
from hvae_core.models.hierarchy import HierarchicalVAE
from hvae_core.objective import lagrangian
from hvae_core.randomness import Noise
from hvae_core.training.convolutions import for_cpu, for_vmap, layout
from hvae_core.training.plan import Member
from hvae_core.training.population import Population
from hvae_core.training.precision import keep_memory

SHAPES = {"28x28x1": (1, 28, 28), "32x32x3": (3, 32, 32)}
Parameters = dict[str, Tensor]


class Unfolded(nn.Conv2d):
    """A convolution as unfold and a matrix product: under vmap one batched product, no grouped convolution."""

    def forward(self, x: Tensor) -> Tensor:
        size = [(side + 2 * self.padding[0] - self.kernel_size[0]) // self.stride[0] + 1 for side in x.shape[-2:]]  # type: ignore[operator]  # padding is a tuple here
        columns = F.unfold(x, self.kernel_size, padding=self.padding, stride=self.stride)  # type: ignore[arg-type]  # as above
        assert self.bias is not None
        return (self.weight.flatten(1) @ columns + self.bias[:, None]).unflatten(-1, size)


class Folded(nn.ConvTranspose2d):
    """A transposed convolution as a matrix product and fold."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        size = [(side - 1) * self.stride[0] - 2 * self.padding[0] + self.kernel_size[0] for side in x.shape[-2:]]  # type: ignore[operator]  # padding is a tuple here
        columns = self.weight.flatten(1).T @ x.flatten(2)
        assert self.bias is not None
        return (
            F.fold(columns, size, self.kernel_size, padding=self.padding, stride=self.stride) + self.bias[:, None, None]
        )  # type: ignore[arg-type]  # as above


def unfolded(model: HierarchicalVAE) -> HierarchicalVAE:
    """The same model, with its convolutions as matrix products."""
    for module in model.modules():
        if type(module) is nn.Conv2d:
            module.__class__ = Unfolded
        elif type(module) is nn.ConvTranspose2d:
            module.__class__ = Folded
    return model


class Way:
    """One way: it keeps parameters and optimiser of its own, and makes one update a call.

    Arguments:
        stacked: all members at once by vmap; else one after the other.
        convolutions: ``PyTorch``, ``ours`` or ``unfold``.
        channels_last: memory format of images and weights (one after the other only).
        bfloat16: autocast of the network; sums over pixels, the divergences and Adam stay in float32.
        compiled: by torch.compile, outermost.
        graph: forward and backward replayed as one CUDA graph; compiled ways use PyTorch's own two.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        members: int,
        x: Tensor,
        *,
        stacked: bool = False,
        convolutions: str = "PyTorch",
        channels_last: bool = False,
        bfloat16: bool = False,
        compiled: bool = False,
        graph: bool = False,
    ) -> None:
        population = Population(lambda: build("ghvae", shape), [Member((1.0, 1.0), 0)] * members, x.device)
        self.model, self.stacked, self.bfloat16 = population.model, stacked, bfloat16
        if convolutions == "unfold":
            unfolded(self.model)
        if convolutions == "ours":
            (for_vmap if stacked else for_cpu)(self.model)
        lay = layout(self.model)
        self.x = x.contiguous(memory_format=torch.channels_last) if channels_last else lay(x)
        self.noise = self.model.noise(len(x), Noise(0, device=x.device))
        self.betas = torch.ones(members, 2, device=x.device)
        stacks = (
            [population.parameters]
            if stacked
            else [{name: value[i] for name, value in population.parameters.items()} for i in range(members)]
        )
        if channels_last:
            stacks = [
                {k: v.contiguous(memory_format=torch.channels_last) if v.ndim == 4 else v for k, v in p.items()}
                for p in stacks
            ]
        stacks = [{name: lay(value) for name, value in stack.items()} for stack in stacks]
        self.stacks = [{name: value.clone().requires_grad_() for name, value in stack.items()} for stack in stacks]
        self.optimisers = [torch.optim.Adam(stack.values(), 3e-4, fused=True) for stack in self.stacks]
        self.total: Callable[[Parameters, Tensor], Tensor] = self._stacked if stacked else self._single
        if compiled:
            self.total = torch.compile(self.total, mode="reduce-overhead" if graph else "default")
        self.graph = graph and not compiled
        if self.graph:
            self._capture()

    def _single(self, parameters: Parameters, betas: Tensor) -> Tensor:
        with torch.autocast(self.x.device.type, torch.bfloat16, enabled=self.bfloat16):
            terms = functional_call(self.model, parameters, (self.x, self.noise))
        return lagrangian(terms, betas)

    def _stacked(self, parameters: Parameters, betas: Tensor) -> Tensor:
        return vmap(self._single)(parameters, betas).sum()

    def _capture(self) -> None:
        side = torch.cuda.Stream()
        with torch.cuda.stream(side):
            for _ in range(3):
                self.total(self.stacks[0], self.betas).backward()
        torch.cuda.current_stream().wait_stream(side)
        self.captured = torch.cuda.CUDAGraph()
        for value in self.stacks[0].values():
            value.grad = None
        with torch.cuda.graph(self.captured):
            self.captured_loss = self.total(self.stacks[0], self.betas)
            self.captured_loss.backward()

    def update(self) -> Tensor:
        """One update; the mean loss before it."""
        if self.graph:
            self.captured.replay()
            self.optimisers[0].step()
            for value in self.stacks[0].values():
                assert value.grad is not None
                value.grad.zero_()
            return self.captured_loss / len(self.betas)
        losses = []
        for i, (stack, optimiser) in enumerate(zip(self.stacks, self.optimisers, strict=True)):
            loss = self.total(stack, self.betas if self.stacked else self.betas[i])
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()
            losses.append(loss.detach().clone())  # where graphs are replayed, the next update writes there
        return torch.stack(losses).sum() / len(self.betas)


ONE_BY_ONE = {
    "one by one": {},
    "one by one, channels last": {"channels_last": True},
    "one by one, bfloat16": {"bfloat16": True},
    "one by one, channels last, bfloat16": {"channels_last": True, "bfloat16": True},
    "one by one, our convolutions": {"convolutions": "ours"},
    "one by one, our convolutions, bfloat16": {"convolutions": "ours", "bfloat16": True},
    "one by one, unfold": {"convolutions": "unfold"},
    "one by one, compiled": {"compiled": True},
}
STACKED = {
    "vmap": {"stacked": True},
    "vmap, bfloat16": {"stacked": True, "bfloat16": True},
    "vmap, our convolutions": {"stacked": True, "convolutions": "ours"},
    "vmap, our convolutions, compiled": {"stacked": True, "convolutions": "ours", "compiled": True},
    "vmap, our convolutions, compiled, bfloat16": {
        "stacked": True,
        "convolutions": "ours",
        "compiled": True,
        "bfloat16": True,
    },
    "vmap, unfold": {"stacked": True, "convolutions": "unfold"},
    "vmap, unfold, bfloat16": {"stacked": True, "convolutions": "unfold", "bfloat16": True},
    "vmap, compiled": {"stacked": True, "compiled": True},
    "vmap, compiled, bfloat16": {"stacked": True, "compiled": True, "bfloat16": True},
    "vmap, unfold, compiled, bfloat16": {"stacked": True, "convolutions": "unfold", "compiled": True, "bfloat16": True},
}
ON_A_GPU = {
    "vmap, our convolutions, compiled, graph": {
        "stacked": True,
        "convolutions": "ours",
        "compiled": True,
        "graph": True,
    },
    "vmap, our convolutions, compiled, bfloat16, graph": {
        "stacked": True,
        "convolutions": "ours",
        "compiled": True,
        "bfloat16": True,
        "graph": True,
    },
    "vmap, graph": {"stacked": True, "graph": True},
    "vmap, bfloat16, graph": {"stacked": True, "bfloat16": True, "graph": True},
    "vmap, unfold, bfloat16, graph": {"stacked": True, "convolutions": "unfold", "bfloat16": True, "graph": True},
}


def measure(
    shape: tuple[int, int, int], members: int, batch: int, device: str, repeats: int, ways: dict[str, dict[str, object]]
) -> None:
    """Print a row a way: milliseconds a model-step, model-steps a second, the loss after the first updates."""
    levels = torch.randint(0, 256, (batch, *shape), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    x = pixels((levels >= 128).to(torch.uint8) * 255 if shape[0] == 1 else levels).to(device)
    for name, options in ways.items():
        try:
            way = Way(shape, members, x, **options)  # type: ignore[arg-type]  # the tables above
            losses = [way.update().item() for _ in range(3)]
            times = []
            for _ in range(repeats):
                start = time.perf_counter()
                way.update().item()  # waits for the device
                times.append((time.perf_counter() - start) / members)
        except Exception as error:  # a way that does not work here is a row too
            print(
                (
                    f"| {members} | {name} | does not work here: {type(error).__name__}: "
                    f"{' '.join(str(error).split())[:100]} |"
                ),
                flush=True,
            )
            continue
        step = statistics.median(times)
        print(f"| {members} | {name} | {1000 * step:.2f} | {1 / step:,.0f} | {losses[-1]:.2f} |", flush=True)
        del way


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--members", type=int, nargs="+")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--device", choices=("cpu", "cuda"), help="only this one; default: all that are there")
    parser.add_argument("--one-by-one", action="store_true", help="leave out what computes several members at once")
    args = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*TensorFloat32.*")
    torch.set_num_threads(1)
    for device in [args.device] if args.device else ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]:
        torch.set_float32_matmul_precision("high" if device == "cuda" else "highest")
        for name, shape in SHAPES.items():
            print(
                f"\n{name}, batch {args.batch}, {device}\n\n| members | way | ms a model-step | model-steps/s | "
                "loss |\n|---|---|---|---|---|"
            )
            if device == "cpu":
                # First as the memory allocator comes; then, and in all that follows, as `keep_memory` sets it.
                if shape[0] == 1:
                    measure(shape, 1, args.batch, device, args.repeats, {"one by one, without keep_memory": {}})
                    keep_memory()
                measure(shape, 1, args.batch, device, args.repeats, ONE_BY_ONE)
                for members in () if args.one_by_one else args.members or (8,):
                    measure(shape, members, args.batch, device, args.repeats, STACKED)
            else:
                measure(
                    shape, 1, args.batch, device, args.repeats, {k: v for k, v in ONE_BY_ONE.items() if "our" not in k}
                )
                for members in args.members or (64, 441):
                    measure(shape, members, args.batch, device, args.repeats, STACKED | ON_A_GPU)


if __name__ == "__main__":
    main()
