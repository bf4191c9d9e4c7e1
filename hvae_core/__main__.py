"""``python -m hvae_core`` is ``./run_all.sh`` without the set-up."""

import sys
from pathlib import Path

from hvae_core.pipeline.command import main


def report(run: str) -> Path:
    """Write the report of a run; imported when there is one to write."""
    from hvae_core.claims.report import report

    return report(run)


if __name__ == "__main__":
    sys.exit(main(report=report))
