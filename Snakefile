# The batch: which notebook makes which file, and what it depends on. Called by ./run_all.sh, which names the run:
#
#     snakemake --config run=runs/quick --directory . --cores 2
#
# A file is made again when it is missing or older than the notebook, the modules or the results it comes from.
# What was trained is not removed (`update`) before it is looked at again: training itself knows whether it is right.

import sys
import yaml
from pathlib import Path

HERE = Path(workflow.basedir)
sys.path.insert(0, str(HERE))
from hvae_core.runs.code import code_of
from hvae_core.runs.config import Config
from hvae_core.runs.kinds import NOTEBOOKS

RUN = config["run"]
NAME = Path(RUN).name
FIGURES = f"figures/{NAME}"
CONFIG = Config.make(yaml.safe_load(Path(RUN, "config.yaml").read_text()))
KIND, BLOCKS = CONFIG.kind, CONFIG.blocks
TABLES = expand(f"{RUN}/tables/{{stage}}.parquet", stage=["training", *KIND.stages])
# Stages that keep images to look at.
SHOWN = [stage for stage in ("reconstruction", "generation", "likelihood") if stage in KIND.stages]
DRAWN = [*expand(f"{FIGURES}/{{name}}.{{kind}}", name=KIND.figures, kind=["pdf", "png", "json"]),
         *expand(f"{FIGURES}/{{name}}.{{kind}}", name=KIND.tables, kind=["csv", "md", "json"])]
JOB = f"python -P -m hvae_core.pipeline.job {NAME}"


def same_data():
    """Results of Paper A's models on the same data: points of Paper B's plane, and surfaces beside target rates."""
    from hvae_core.runs.results import comparable_runs

    return [f"runs/{name}/results.parquet" for name in comparable_runs(NAME)]


DRAWING = [str(path) for room in ("analysis", "figures") for path in sorted((HERE / "hvae_core" / room).glob("*.py"))]
DRAWING += [str(HERE / "hvae_core" / name) for name in ("training/target_rates.py", "evaluation/bounds.py")]


def modules(stage):
    return sorted({str(HERE / f"{name.partition(':')[0].replace('.', '/')}.py") for name in code_of(CONFIG, stage)})


rule all:
    input:
        [*TABLES, f"{RUN}/history.parquet"] if KIND.stages else [],
        f"{RUN}/results.parquet", f"{RUN}/results.csv", DRAWN,


rule train:
    input:
        HERE / "notebooks/10_train.ipynb", modules("training"), f"{RUN}/config.yaml", f"{RUN}/data.json",
    output:
        update(RUN + "/checkpoints/block-{block}/weights.safetensors"),
        update(RUN + "/checkpoints/block-{block}/training.parquet"),
        update(RUN + "/checkpoints/block-{block}/history.parquet"),
    params:
        jobs=max(1, workflow.cores // BLOCKS),
    resources:
        gpu=1,
    shell:
        "{JOB} 10_train --block $((10#{wildcards.block})) --jobs {params.jobs}"


rule collect:
    input:
        expand(RUN + "/checkpoints/block-{block:03d}/{kind}.parquet", block=range(BLOCKS), kind=["training", "history"]),
    output:
        f"{RUN}/tables/training.parquet",
        f"{RUN}/history.parquet",
    shell:
        "{JOB} collect"


PARALLEL = ("representation", "likelihood")  # the heaviest stages evaluate several models at once

for stage in KIND.stages:

    rule:
        name:
            stage
        priority:
            0 if stage in PARALLEL else 1  # those that use one core first, side by side; these then have all cores
        input:
            HERE / f"notebooks/{NOTEBOOKS[stage]}.ipynb",
            modules(stage),
            f"{RUN}/tables/training.parquet",
        output:
            f"{RUN}/tables/{stage}.parquet",
            [f"{RUN}/images/{stage}.npz"] if stage in SHOWN else [],
        params:
            notebook=NOTEBOOKS[stage],
            jobs=workflow.cores if stage in PARALLEL else 1,
        resources:
            gpu=1,
        shell:
            "{JOB} {params.notebook} --jobs {params.jobs}"


if KIND.stages:

    rule join:
        input:
            TABLES,
        output:
            f"{RUN}/results.parquet",
            f"{RUN}/results.csv",
        shell:
            "{JOB} join"

    rule figures:
        input:
            HERE / f"notebooks/{KIND.notebook}.ipynb",
            DRAWING,
            f"{RUN}/results.parquet",
            same_data() if KIND.notebook in ("60_rate_distortion", "80_target_rates", "95_conditioned") else [],
            [f"{RUN}/images/{stage}.npz" for stage in SHOWN],
        output:
            DRAWN,
        shell:
            "{JOB} {KIND.notebook}"

else:

    rule whole:  # one notebook trains, evaluates and draws
        input:
            HERE / f"notebooks/{KIND.notebook}.ipynb", modules("training"), DRAWING,
            f"{RUN}/config.yaml",
        output:
            f"{RUN}/results.parquet", f"{RUN}/results.csv", DRAWN,
        shell:
            "{JOB} {KIND.notebook}"
