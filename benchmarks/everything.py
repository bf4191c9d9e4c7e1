"""Measure what is not known of one device yet, within a time: training and evaluation on a GPU in ten minutes.

    .venv/bin/python benchmarks/everything.py --device cuda | tee gpu.txt

Runs other benchmarks one after the other, the most important first. What the time does not suffice for is stopped, and
named at the end.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
COMMANDS = (
    ["population.py", "--repeats", "3"],  # against the loop, in both precisions; how the time splits; growth
    ["alternatives.py", "--members", "441", "--repeats", "5"],  # ways to compute an update
    [
        "evaluation.py",
        "--dataset",
        "digits",
        "--epochs",
        "2",
        "--samples",
        "1000",
    ],  # on the CPU, and on a GPU in blocks
    ["alternatives.py", "--members", "64", "--repeats", "5"],
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--minutes", type=float, default=10.0)
    args = parser.parse_args()
    import torch

    if args.device == "cuda" and not torch.cuda.is_available():
        print(
            "error: --device cuda: PyTorch finds no CUDA device here; --device cpu measures the processor",
            file=sys.stderr,
        )
        return 2
    end, left = time.monotonic() + 60 * args.minutes, []
    for script, *options in COMMANDS:
        command, rest = (
            [script, *options, *([] if script == "evaluation.py" else ["--device", args.device])],
            end - time.monotonic(),
        )
        print(f"\n$ {' '.join(command)}", flush=True)
        try:
            if rest <= 0:
                raise subprocess.TimeoutExpired(command, 0)
            if subprocess.run([sys.executable, str(HERE / script), *command[1:]], timeout=rest).returncode:
                left.append(f"{' '.join(command)} (failed)")
        except subprocess.TimeoutExpired:
            left.append(f"{' '.join(command)} (out of time)")
    print(f"\nnot measured, or not to the end: {'; '.join(left) or 'nothing'}")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
