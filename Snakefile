# The batch: in which order the jobs of a run go, and which may go side by side. Called by ./run_all.sh, which names
# the run:
#
#     snakemake --config run=quick --directory . --cores 2
#
# What a job reads and makes, and whether that still holds, is in hvae_core/pipeline/batch.py. Here a job is done when
# its mark is there; ./run_all.sh removes the marks of what does not hold. Results are no outputs of Snakemake's, so that
# it removes none when a job fails.

import sys
from pathlib import Path

sys.path.insert(0, str(Path(workflow.basedir)))
from hvae_core.pipeline.batch import MARKS, PARALLEL, jobs
from hvae_core.runs.folder import load_config

RUN = config["run"].removeprefix("runs/")
CONFIG = load_config(RUN)
JOBS = jobs(CONFIG)
DONE = f"runs/{RUN}/{MARKS}"
JOB = f"python -P -m hvae_core.pipeline.job {RUN}"


rule all:
    input:
        expand(f"{DONE}/{{job}}", job=list(JOBS)),


rule train:
    output:
        touch(DONE + "/10_train-{block}"),
    params:
        jobs=max(1, workflow.cores // CONFIG.blocks),
    resources:
        gpu=1,
    shell:
        "{JOB} 10_train --block $((10#{wildcards.block})) --jobs {params.jobs}"


for job in JOBS.values():
    if job.block is not None:
        continue  # rule train

    rule:
        name:
            job.stage if job.notebook else job.name
        priority:
            0 if job.stage in PARALLEL else 1  # those that use one core first, side by side; these then have all cores
        input:
            expand(f"{DONE}/{{job}}", job=job.after),
        output:
            touch(f"{DONE}/{job.name}"),
        params:
            job=job.name,
            jobs=workflow.cores if job.stage in PARALLEL else 1,
        resources:
            gpu=1 if job.notebook else 0,
        shell:
            "{JOB} {params.job} --jobs {params.jobs}"
