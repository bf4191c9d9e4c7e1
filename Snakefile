# The batch: in which order the jobs of a run go, and which may go side by side. Called by ./run_all.sh, which names
# the run:
#
#     snakemake --config run=quick --directory . --cores 2
#
# With submitted=True the jobs run on a cluster (hvae_core/pipeline/cluster.py): each has the threads and GPUs that the
# cluster's profile gives it. Here the stages that use several processes have all cores, and GPUs are shared out.
#
# What a job reads and makes, and whether that still holds, is in hvae_core/pipeline/batch.py. Here a job is done when
# its mark is there; ./run_all.sh removes the marks of what does not hold. Results are no outputs of Snakemake's, so that
# it removes none when a job fails.

import sys
from pathlib import Path

sys.path.insert(0, str(Path(workflow.basedir)))
from hvae_core.pipeline.batch import MARKS, PARALLEL, jobs
from hvae_core.pipeline.cluster import gpus_asked
from hvae_core.runs.folder import load_config

RUN = config["run"].removeprefix("runs/")
CONFIG = load_config(RUN)
JOBS = jobs(CONFIG)
DONE = f"runs/{RUN}/{MARKS}"
JOB = f"python -P -m hvae_core.pipeline.warm hvae_core.pipeline.job {RUN}"
SUBMITTED = bool(config.get("submitted"))


def share(cores):
    """What a job may use, as arguments; ``cores`` is a function, since where jobs are submitted nobody counts cores."""

    def arguments(wildcards, threads, resources):
        return f"--jobs {threads} --gpus {gpus_asked(resources)}" if SUBMITTED else f"--jobs {cores()}"

    return arguments


rule all:
    input:
        expand(f"{DONE}/{{job}}", job=list(JOBS)),


rule train:
    output:
        touch(DONE + "/10_train-{block}"),
    params:
        share=share(lambda: max(1, workflow.cores // CONFIG.block_count)),
    resources:
        device=1,  # a GPU, or a core where there is none
    shell:
        "{JOB} 10_train --block $((10#{wildcards.block})) {params.share}"


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
            share=share(lambda several=job.stage in PARALLEL: workflow.cores if several else 1),
        resources:
            device=1 if job.notebook else 0,
        localrule: job.stage == "tables"  # takes a second, and a cluster's queue longer
        shell:
            "{JOB} {params.job} {params.share}"
