"""``python -m hvae_core`` is ``./run_all.sh`` without the set-up."""

import sys

from hvae_core.pipeline.command import main

sys.exit(main())
