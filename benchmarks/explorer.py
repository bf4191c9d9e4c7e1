"""The explorer of a run: its size, and how long it takes from a move to the picture.

    .venv/bin/python benchmarks/explorer.py quick-conditioned

Opens the page in Debian's chromium, moves the point at random, each time when the last picture is there, and takes the
median. The point is moved as a hand does it, by a call of what the pointer calls; a frame of the screen comes on top.
"""

import argparse
import shutil
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from playwright.sync_api import sync_playwright

from hvae_core.runs.folder import figure_folder

MOVES = """count => (async () => {
  const next = (low, high) => Math.exp(Math.log(low) + Math.random() * Math.log(high / low));
  const found = [];
  for (let i = 0; i < count; i++) {
    const betas = axes.map((axis) => next(axis[0], axis[axis.length - 1]));
    const start = performance.now();
    const seen = new Promise((done) => {
      const watch = new MutationObserver(() => {
        if (document.body.dataset.shown === String(asked)) { watch.disconnect(); done(); }
      });
      watch.observe(document.body, { attributes: true });
    });
    move(betas);
    await seen;
    found.push([performance.now() - start, latest.images ? latest.images.milliseconds : 0]);
    await new Promise((done) => setTimeout(done, 20));
  }
  return found;
})()"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("run", help="its name, or the path of a page")
    parser.add_argument("--moves", type=int, default=200)
    args = parser.parse_args()
    path = Path(args.run) if args.run.endswith(".html") else figure_folder(args.run) / "explorer.html"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(path.absolute().as_uri())
        page.wait_for_function("document.body.dataset.settled === String(asked)", timeout=120_000)
        times = page.evaluate(MOVES, args.moves)
        whole = page.evaluate(
            "() => new Promise((done) => { const start = performance.now(); move([1.5, 1.5]); const look = () => "
            "document.body.dataset.settled === String(asked) ? done(performance.now() - start) : setTimeout(look, 1); "
            "look(); })"
        )
        browser.close()
    moves, computing = ([one[i] for one in times] for i in (0, 1))
    print(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB")
    print(
        f"from a move to the picture, {len(moves)} moves: median {statistics.median(moves):.0f} ms, "
        f"nine of ten within {sorted(moves)[int(0.9 * len(moves))]:.0f} ms"
    )
    print(f"of these the network: median {statistics.median(computing):.0f} ms")
    print(f"until all terms are there: {whole:.0f} ms")


if __name__ == "__main__":
    main()
