"""Running a notebook is no change to it: what JupyterLab does after it has saved one (setup.sh asks it to)."""

import contextlib
import subprocess
from pathlib import Path
from typing import Any


def refresh(os_path: str, **_: Any) -> None:
    """Tell git that a saved notebook is as it was, if it is.

    The filter of .gitattributes takes outputs away before git compares. But ``git status`` compares sizes first, and
    calls a file of another size modified. So a notebook without differences is added anew: nothing is staged by that.

    Arguments:
        os_path: the file. Others than notebooks under version control are left alone.
    """
    path = Path(os_path)

    def git(*words: str) -> bool:
        return subprocess.run(["git", *words, "--", path.name], cwd=path.parent, capture_output=True).returncode == 0

    with contextlib.suppress(OSError):  # without git there is nothing to tell
        if path.suffix == ".ipynb" and git("ls-files", "--error-unmatch") and git("diff", "--quiet"):
            git("add")
