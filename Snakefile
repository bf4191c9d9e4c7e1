# The batch: which notebook makes which file, and what it depends on. Called by ./run_all.sh, which names the run:
#
#     snakemake --config run=quick --directory . --cores 2
#
# A file is made again when it is missing or older than the notebook, the modules or the results it comes from.
# What was trained is not removed (`update`) before it is looked at again: training itself knows whether it is right.

import sys
import yaml
from pathlib import Path

HERE = Path(workflow.basedir)
sys.path.insert(0, str(HERE))
from hvae_core.config import CODE  # the modules behind each stage

RUN = f"runs/{config['run']}"
FIGURES = f"figures/{config['run']}"
BLOCKS = yaml.safe_load(Path(RUN, "config.yaml").read_text())["blocks"]
STAGES = ["reconstruction", "generation", "representation"]
NUMBER = {"reconstruction": 20, "generation": 30, "representation": 40}
JOB = f"python -m hvae_core.batch {config['run']}"


def modules(stage):
    return [str(HERE / "hvae_core" / f"{name.replace('.', '/')}.py") for name in CODE[stage]]


rule all:
    input:
        expand(f"{RUN}/tables/{{stage}}.parquet", stage=["training", *STAGES]),
        f"{RUN}/history.parquet", f"{RUN}/results.parquet", f"{RUN}/results.csv",
        expand(f"{FIGURES}/fig{{n}}.{{kind}}", n=[1, 3, 4, 5, 6, 7, 8, 9], kind=["pdf", "png", "json"]),
        expand(f"{FIGURES}/table{{n}}.{{kind}}", n=[1, 2, 3], kind=["csv", "md", "json"]),


rule train:
    input:
        HERE / "notebooks/10_train.ipynb", modules("training"), f"{RUN}/config.yaml", f"{RUN}/data.json",
    output:
        update(RUN + "/checkpoints/block-{block}/weights.safetensors"),
        update(RUN + "/checkpoints/block-{block}/training.parquet"),
        update(RUN + "/checkpoints/block-{block}/history.parquet"),
    resources:
        gpu=1,
    shell:
        "{JOB} 10_train --block $((10#{wildcards.block}))"


rule collect:
    input:
        expand(RUN + "/checkpoints/block-{block:03d}/{kind}.parquet", block=range(BLOCKS), kind=["training", "history"]),
    output:
        f"{RUN}/tables/training.parquet",
        f"{RUN}/history.parquet",
    shell:
        "{JOB} collect"


for stage in STAGES:

    rule:
        name:
            stage
        input:
            HERE / f"notebooks/{NUMBER[stage]}_{stage}.ipynb",
            modules(stage),
            f"{RUN}/tables/training.parquet",
        output:
            f"{RUN}/tables/{stage}.parquet",
            [f"{RUN}/images/{stage}.npz"] if stage != "representation" else [],
        params:
            notebook=f"{NUMBER[stage]}_{stage}",
            # The classifiers on the latents are the heaviest part: they may use what cores the others leave.
            jobs=workflow.cores if stage == "representation" else 1,
        resources:
            gpu=1,
        shell:
            "{JOB} {params.notebook} --jobs {params.jobs}"


rule join:
    input:
        expand(f"{RUN}/tables/{{stage}}.parquet", stage=["training", *STAGES]),
    output:
        f"{RUN}/results.parquet",
        f"{RUN}/results.csv",
    shell:
        "{JOB} join"


rule figures:
    input:
        HERE / "notebooks/50_figures.ipynb",
        [str(path) for path in (HERE / "hvae_core/figures").glob("*.py")], HERE / "hvae_core/frontier.py",
        f"{RUN}/results.parquet",
        f"{RUN}/images/reconstruction.npz", f"{RUN}/images/generation.npz",
    output:
        expand(f"{FIGURES}/fig{{n}}.{{kind}}", n=[1, 3, 4, 5, 6, 7, 8, 9], kind=["pdf", "png", "json"]),
        expand(f"{FIGURES}/table{{n}}.{{kind}}", n=[1, 2, 3], kind=["csv", "md", "json"]),
    shell:
        "{JOB} 50_figures"
