"""Progress of anything that takes longer than five seconds, wherever it runs.

In a terminal one line that rewrites itself, in a notebook likewise; in a log a plain line every few seconds. In a
batch the notebook's progress goes to a small file, which the batch's own display reads (`hvae_core.pipeline.command`).
"""

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

STATUS_FILE = "HVAE_PROGRESS"
EVERY_S = 5.0


def duration(seconds: float) -> str:
    """Seconds as people write them.

    Example:
        >>> duration(42), duration(200), duration(5000)
        ('42 s', '3 min 20 s', '1 h 23 min')
    """
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"


def describe(status: dict[str, Any]) -> str:
    """One line for a status: what, how far, what was said last, time left."""
    of = "" if status["total"] is None else f"/{status['total']}"
    line = f"{status['label']}: {int(status['done'])}{of} {status['unit']}"
    if status["note"]:
        line += f", {status['note']}"
    if status["total"] is not None and status["done"] >= status["total"]:
        return line + f", done in {duration(status['elapsed'])}"
    if status["left"] is not None:
        line += f", {duration(status['left'])} left"
    return line


class Progress:
    """How far a computation is. Make one with `track`."""

    def __init__(self, label: str, total: int | None, unit: str, done: float) -> None:
        self.label, self.total, self.unit = label, total, unit
        self.done = self.first = done
        self.start = time.monotonic()
        self.note: Callable[[], str] | None = None
        self._lock = threading.Lock()  # threads may report
        self._shown = 0.0  # nothing is shown of what is over at once
        self._visible = False
        self._display: Any = None
        self._width = 0
        path = os.environ.get(STATUS_FILE)
        self._file = Path(path) if path else None

    def status(self) -> dict[str, Any]:
        elapsed = time.monotonic() - self.start
        ran = self.done - self.first
        left = elapsed / ran * (self.total - self.done) if ran > 0 and self.total is not None else None
        return {
            "label": self.label,
            "done": self.done,
            "total": self.total,
            "unit": self.unit,
            "note": self.note() if self.note else "",
            "elapsed": elapsed,
            "left": left,
            "time": time.time(),
        }

    def update(self, done: float, note: Callable[[], str] | None = None) -> None:
        """Say that ``done`` of the total is done. ``note`` tells what else there is to see, such as the loss; it is
        called only when it is shown, since on a GPU looking at a number means waiting for it."""
        self.done, self.note = done, note or self.note
        elapsed = time.monotonic() - self.start
        quick = self._file is not None or sys.stderr.isatty() or _in_notebook()
        if elapsed - self._shown >= (0.5 if quick else EVERY_S) and self._lock.acquire(blocking=False):
            try:
                self.show()
            finally:
                self._lock.release()

    def show(self) -> None:
        """Write the status where it is seen."""
        self._shown = time.monotonic() - self.start
        self._visible = True
        status = self.status()
        line = describe(status)
        if self._file is not None:
            part = self._file.with_suffix(".part")
            part.write_text(json.dumps(status))
            os.replace(part, self._file)
        elif _in_notebook():
            from IPython.display import Pretty, display

            if self._display is None:
                self._display = display(Pretty(line), display_id=True)
            else:
                self._display.update(Pretty(line))
        elif sys.stderr.isatty():
            sys.stderr.write("\r" + line.ljust(self._width))
            self._width = len(line)
            sys.stderr.flush()
        else:
            print(line, file=sys.stderr, flush=True)

    def close(self) -> None:
        if self._visible:
            self.show()
            if sys.stderr.isatty() and self._file is None and not _in_notebook():
                sys.stderr.write("\n")


@contextmanager
def track(label: str, total: int | None, unit: str, done: int = 0) -> Iterator[Progress]:
    """Show how far a computation is while it runs; ``total`` is None where it is not known.

    Example:
        >>> with track("training", total=3, unit="epochs") as progress:
        ...     for epoch in range(3):
        ...         progress.update(epoch + 1, note=lambda: "loss 93.1")
    """
    progress = Progress(label, total, unit, done)
    if progress._file is not None:
        progress.show()
    try:
        yield progress
    finally:
        progress.close()


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and type(shell).__name__ == "ZMQInteractiveShell"
