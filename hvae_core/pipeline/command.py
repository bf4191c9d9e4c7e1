"""The command behind ``./run_all.sh``: a profile in, a run folder and figures out.

Snakemake (`Snakefile`) decides what is missing or out of date; papermill executes the notebooks; this module checks
what was asked for, shows progress and says in one line what went wrong.
"""

import argparse
import contextlib
import json
import os
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from hvae_core.errors import InputError
from hvae_core.files import ROOT, locked, read_text, timestamp, write_text
from hvae_core.names import DATASETS
from hvae_core.pipeline import coded, collecting, comparing, own_images, warm
from hvae_core.pipeline.batch import jobs, mark, missing, outputs, read_record, record_file, stale
from hvae_core.pipeline.cluster import TOGETHER, Cluster, cancel, check_answers, read_cluster, suggested_blocks
from hvae_core.pipeline.job import BATCH, GPUS, MENDABLE, environment, gpus, named_error
from hvae_core.progress import EVERY_S, describe, duration
from hvae_core.runs.collections import collections, is_collection, load_collection
from hvae_core.runs.config import Config
from hvae_core.runs.folder import (
    described_data,
    figure_folder,
    keep_data,
    open_run,
    output_root,
    run_folder,
    same_data,
    settled,
)
from hvae_core.runs.identity import give_objective, read_objective
from hvae_core.runs.kinds import KINDS
from hvae_core.runs.known import asked, known_data, remember_data
from hvae_core.runs.profiles import load_profile, profiles, read_yaml
from hvae_core.runs.provenance import cores as available_cores
from hvae_core.runs.provenance import provenance

if TYPE_CHECKING:  # PyTorch takes seconds to import
    from hvae_core.data.dataset import Dataset

OPEN_FILES, FEWEST_FILES = 1024, 128  # of a process: what is asked for, and what a notebook takes
COMMANDS = {
    comparing.WORD: (comparing.arguments, comparing.run),
    coded.CODE: (coded.code_arguments, coded.code),
    coded.DECODE: (coded.decode_arguments, coded.decode),
}
"""What is no profile: the arguments of each, and what it does."""
Report = Callable[[str], Path]
"""Writes the report of a run and returns its path: it holds the papers' statements, of which no pipeline knows."""


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="./run_all.sh",
        description="Train the models of a profile, evaluate them and draw every figure and table.",
        epilog="What is there already is not computed again. ./run_all.sh compare A B compares two finished runs; "
        "./run_all.sh code and ./run_all.sh decode turn images into bits and back. "
        "Environment: HVAE_DATA (where data sets are, default "
        "data/), HVAE_OUTPUT (where runs/ and figures/ go, default here). Exit status: 0 when every output exists, "
        "2 for a mistake in what was asked, 1 for any other failure.",
    )
    parser.add_argument(
        "profile",
        nargs="?",
        default="quick",
        metavar="PROFILE",
        help="or a collection of runs; default: quick; see --list",
    )
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="key=value",
        dest="changes",
        help="change keys of the profile",
    )
    parser.add_argument(
        "--name",
        help="of the run, or of a collection's figures; default: the profile's, with --objective followed by "
        "the file's",
    )
    parser.add_argument(
        "--objective", metavar="FILE", help="a Python file that defines objective(terms, betas), to train for that"
    )
    parser.add_argument("--list", action="store_true", help="list profiles and collections and stop")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done and stop")
    parser.add_argument("--cores", type=int, help="processes at once; default: one for each core that it may use")
    parser.add_argument(
        "--on", metavar="FOLDER", help="submit to a cluster: a workflow profile, such as profiles/cluster/slurm"
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None, report: Report | None = None) -> int:
    """Run a profile, or compare two runs; returns the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    other = next((COMMANDS[word] for word in words[:1] if word in COMMANDS), None)
    args = other[0](words[1:]) if other else arguments(words)
    for polite in (signal.SIGTERM, signal.SIGHUP):  # an interruption like Ctrl-C
        if signal.getsignal(polite) is not signal.SIG_IGN:  # as under nohup
            signal.signal(polite, signal.default_int_handler)
    os.environ.pop("MPLBACKEND", None)  # the notebooks' kernels choose theirs
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names in letters that a terminal cannot show
    try:
        _check_place()
        if other:
            return other[1](args)
        if args.list:
            list_profiles()
            return 0
        if args.cores is None:
            args.cores = available_cores()
        if args.cores < 1:
            raise InputError(f"--cores {args.cores}: at least 1")
        cluster = None if args.on is None else read_cluster(args.on)
        if is_collection(args.profile):
            return run_collection(args, report, cluster)
        objective, name = None, args.name
        if args.objective is not None:
            objective, name = read_objective(args.objective), name or beside(args.profile, args.objective)
        config, given = load_profile(args.profile, args.changes, name), [word.split("=")[0] for word in args.changes]
        return run(config, args.cores, args.dry_run, objective, report, given, cluster)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except SyntaxError as error:  # somebody's edit of a module
        print(f"error: {error.filename}, line {error.lineno}: {error.msg}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # as in ./run_all.sh --list | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno not in MENDABLE:
            raise
        print(f"error: {named_error(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on from here", file=sys.stderr)
        return 130


def _check_place() -> None:
    try:
        Path.cwd()
    except OSError as error:
        raise InputError(f"the working directory: {error.strerror}; change to one that is there") from None


def _open_files() -> None:
    """Let a process have as many open files as its notebook's sockets, data and libraries take.

    Raises:
        InputError: when it may not.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft == unlimited:
        return
    allowed = max(soft, OPEN_FILES if hard == unlimited else min(OPEN_FILES, hard))
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < FEWEST_FILES:
        raise InputError(f"a process may open {allowed} files here; {FEWEST_FILES} are needed: ulimit -n {OPEN_FILES}")


def list_profiles() -> None:
    """Print the profiles with the first line of each."""
    for name in profiles():
        config = Config.make({"name": name, **read_yaml(ROOT / "profiles" / f"{name}.yaml")}, source=f"profile {name}")
        text = (ROOT / "profiles" / f"{name}.yaml").read_text().splitlines()[0].lstrip("# ")
        count = len(config.members())
        print(f"{name:16} {count:4} models, {config.epochs:3} epochs of {config.dataset}, {_named(config)}. {text}")

    for name in collections():
        collection = load_collection(name)
        print(f"{name:16} {len(collection.runs):4} runs: {', '.join(collection.runs)}. {collection.about}")


def run_collection(args: argparse.Namespace, report: Report | None, cluster: Cluster | None) -> int:
    """Make the runs of a collection and draw what it shows; returns the exit status."""
    if args.objective is not None:
        raise InputError(f"--objective is for one run, and {args.profile} is a collection of several")
    collection = load_collection(args.profile, args.changes, args.name)

    def run_one(config: Config, given: Sequence[str]) -> int:
        return run(config, args.cores, args.dry_run, None, report, given, cluster)

    return collecting.collect(collection, run_one, args.dry_run)


def _named(config: Config) -> str:
    return config.models[0] if len(config.models) == 1 else f"{len(config.models)} families"


def beside(profile: str, objective: str) -> str:
    """The name of a run for an objective of one's own.

    Example:
        >>> beside("quick", "ideas/my_idea.py")
        'quick-my_idea'
    """
    return f"{Path(profile).stem}-{Path(objective).stem}"


def run(
    config: Config,
    cores: int,
    dry_run: bool = False,
    objective: str | None = None,
    report: Report | None = None,
    given: Sequence[str] = (),
    cluster: Cluster | None = None,
) -> int:
    """Make everything that a configuration asks for.

    Arguments:
        objective: as text, in the place of the notebook's.
        report: see `Report`.
        given: the keys that the user has set: of images of one's own the others may be fitted to their number.
        cluster: where the jobs are submitted; None: they run here.
    """
    if (figure_folder(config.name) / collecting.KEPT).exists():
        raise InputError(
            f"'{config.name}' is a collection, whose figures are in {figure_folder(config.name)}; choose another --name"
        )
    if config.block is not None:
        raise InputError(f"block = {config.block}: the batch trains all blocks; leave it out")
    folder = run_folder(config.name)
    if config.device == "cuda":
        if cluster:
            raise InputError(
                f"device = cuda: which jobs get a GPU says {cluster.folder / 'config.yaml'}; use auto or cpu"
            )
        from hvae_core.pipeline.place import device

        device(config)
    with contextlib.ExitStack() as stack:
        wanted, data, described, question = config, None, None, None
        warmed: dict[str, str] = {}
        if config.kind.stages:
            question = asked(wanted, given)
            described = known_data(wanted, question)
            if described is None:
                if not (dry_run or cluster):  # it imports what the jobs need while the data are read
                    warmed = stack.enter_context(warm.server(environment()))
                if data := read_data(wanted, dry_run):
                    described = described_data(data)
        if described:
            config = own_images.fitted(wanted, given, described.train_images)
            if data:
                check_data(config, data)
            of = f"{described.name} ({described.train_images:,} training and {described.test_images:,} test images)"
        else:
            of = config.dataset
        print(
            f"{config.name}: {len(config.members())} models {_named(config)}, {config.epochs} epochs of {of}",
            flush=True,
        )
        for note in described.notes if described else ():
            print(f"  data: {note}", flush=True)
        fresh = not (folder / "config.yaml").exists()
        present = gpus(config) if fresh and not cluster else 0
        suggested = suggested_blocks(config, cores, present, cluster) if fresh else None
        config = settled(config, suggested)
        if data and fresh and config.kind is KINDS["conditioned"] and not (present or cluster):
            print(f"  training takes about {duration(own_images.training_time(config, data))} here", flush=True)
        if fresh and config.precision == "bfloat16" and not (present or cluster):
            from hvae_core.training.precision import has_bfloat16

            if not has_bfloat16():
                print("  precision: this processor has no bfloat16; float32 is several times faster here", flush=True)
        if present and suggested and suggested < config.block_count > len(config.members()) / TOGETHER:
            print(
                (
                    f"  {config.block_count} blocks: a GPU trains a block's models of one kind and seed at once, and "
                    f"is faster with more; see --set blocks={suggested}"
                ),
                flush=True,
            )
        if dry_run and fresh:
            print(
                f"{config.name}: would train {len(config.members())} models in {config.block_count} block(s), evaluate "
                "them and draw all figures; nothing is there yet"
            )
            return 0
        with locked(folder / ".lock", wait=False) as lock:
            if lock is None:
                raise InputError(f"run '{config.name}' is being computed by another process; wait for it or use --name")
            open_run(config)
            if objective is not None and not dry_run:
                give_objective(config, objective)
            if data and dry_run and not same_data(config, data):
                print(f"{config.name}: the data have changed; all would be made anew")
                return 0
            if data and not dry_run:
                keep_data(config, data)
                if question and question == asked(wanted, given):  # the files are those that were read
                    remember_data(config, question)
            del data
            return _run(config, folder, cores, dry_run, lock, report, cluster, warmed)


def read_data(config: Config, dry_run: bool) -> "Dataset | None":
    """The data of a run, as many as it uses; None where they are still to be downloaded.

    Raises:
        InputError: for data that are wrong.
    """
    from hvae_core.data.readers import load
    from hvae_core.pipeline import stages  # noqa: F401  # an edit that broke a module is named before anything begins

    try:
        data = load(config.dataset, download=not dry_run)
    except InputError as error:
        if not dry_run or config.dataset not in DATASETS:
            raise
        print(f"  data: {error}")  # to be downloaded
        return None
    return data.first(config.train_images, config.test_images)


def check_data(config: Config, data: "Dataset") -> None:
    """Whether a run can be of these data.

    Raises:
        InputError: if not.
    """
    from hvae_core.models import build, check_shape
    from hvae_core.models.contract import check_model
    from hvae_core.training.conditioned import check_batch_size

    check_shape(config.models[0], data.image_shape)
    if config.model_kind == "hierarchical":
        check_model(build(config.models[0], data.image_shape, **config.options), config.models[0], config.layers)
    if config.kind is KINDS["conditioned"]:
        check_batch_size(config.batch_size, len(data.x_train))
    if config.likelihood_images and config.likelihood_images > len(data.x_test):
        raise InputError(f"likelihood_images = {config.likelihood_images}: there are {len(data.x_test)} test images")


def _run(
    config: Config,
    folder: Path,
    cores: int,
    dry_run: bool,
    lock: IO[str],
    report: Report | None,
    cluster: Cluster | None,
    warmed: dict[str, str],
) -> int:
    status = folder / ".progress"
    start, log, batch = time.time(), folder / "log.txt", f"{timestamp()} {os.getpid()}"
    names = list(jobs(config))
    if dry_run:
        to_do = stale(config)
        print(
            f"{config.name}: would do {len(to_do)} of {len(names)} jobs: {', '.join(to_do)}"
            if to_do
            else _nothing(config)
        )
        return 0
    to_do = mark(config)
    for old in status.glob("*.json"):
        old.unlink()
    if to_do:
        _open_files()
        if cluster:
            check_answers(cluster)
        with open(log, "a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"\n=== {batch} {shlex.join(sys.argv)}\n")
            file.flush()
            # How many GPUs there are on a cluster, each of its jobs is told (Snakefile). No process is forked there.
            seen = environment() | warmed | {BATCH: batch} | ({} if cluster else {GPUS: str(gpus(config))})
            with contextlib.ExitStack() as stack:
                if not cluster:
                    seen |= stack.enter_context(warm.server(seen))
                # It inherits the lock: should this process be killed, the run stays locked until Snakemake ends too.
                process = subprocess.Popen(
                    snakemake_command(config, cores, cluster),
                    stdout=file,
                    stderr=file,
                    env=seen,
                    start_new_session=True,
                    # To be interrupted, also where a script started this in the background, which leaves that out.
                    preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
                    pass_fds=[lock.fileno()],
                )
                try:
                    show_progress(process, status, len(names) if cluster else None)
                except BaseException:
                    stop(process, cluster, said_by(log, batch))
                    raise
                finally:
                    keep_provenance(config, batch, start)
        done = {name: record for name in names if (record := _record(config, name)).get("batch") == batch}
        if process.returncode:
            failure = report_failure(done, log, batch)
            with contextlib.suppress(InputError, OSError):  # of a full disk enough was said
                print_report(config, report)
            return failure
    elif not (folder / "provenance.json").exists():
        keep_provenance(config, batch, start)
    if lost := missing(outputs(config)):
        print(f"error: {lost} was not made; see {log}", file=sys.stderr)
        return 1
    print(f"{config.name}: done in {duration(time.time() - start)}" if to_do else _nothing(config))
    summarise(config)
    print_report(config, report)
    return 0


def _nothing(config: Config) -> str:
    return f"{config.name}: nothing to do, everything is there and up to date"


def _record(config: Config, job: str) -> dict[str, Any]:
    return read_record(record_file(config.name, job))


def stop(process: "subprocess.Popen[bytes]", cluster: Cluster | None, said: str) -> None:
    """End a batch and all its jobs.

    Arguments:
        said: what Snakemake said so far.
    """
    if cluster:
        print(f"\ncancelling the jobs on {cluster.executor} ...", file=sys.stderr, flush=True)
        cancel(process, cluster, said)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    process.wait()


def snakemake_command(config: Config, cores: int, cluster: Cluster | None = None) -> list[str]:
    """How Snakemake is called. Its own lock is left out: the run's lock, which dies with its process, does that."""
    if cluster:
        place = ["--workflow-profile", str(cluster.folder)]
        if cluster.executor == "slurm":
            place += ["--slurm-logdir", str((run_folder(config.name) / "logs").resolve())]
            place += ["--slurm-jobname-prefix", re.sub(r"\W", "_", config.name, flags=re.ASCII)[:50]]
    else:
        place = ["--cores", str(cores), "--resources", f"device={gpus(config) or cores}", "--latency-wait", "2"]
    return [
        sys.executable,
        "-P",
        "-m",
        "snakemake",
        "--snakefile",
        str(ROOT / "Snakefile"),
        "--directory",
        str(output_root().resolve()),
        "--config",
        f"run=runs/{config.name}",  # a name alone, such as 01, would be read as a number
        f"submitted={cluster is not None}",
        *place,
        "--nolock",
        "--keep-going",
        "--rerun-incomplete",
        "--rerun-triggers",
        "mtime",
    ]


def show_progress(process: "subprocess.Popen[bytes]", status: Path, jobs_in_all: int | None = None) -> None:
    """Show what the jobs say of themselves until the process ends: live in a terminal, as plain lines in a log.

    Arguments:
        jobs_in_all: to show how many are done: on a cluster they say nothing while they wait for their turn.
    """
    from rich.console import Console, Group
    from rich.live import Live
    from rich.text import Text

    def lines() -> list[tuple[str, str]]:
        found = []
        if jobs_in_all:
            found.append(("", f"jobs: {len(list((status / 'done').glob('*')))}/{jobs_in_all} done"))
        for path in sorted(status.glob("*.json")):
            with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
                found.append((path.stem, describe(json.loads(read_text(path)))))
        return found

    console = Console(stderr=True)
    if console.is_terminal:
        with Live(console=console, refresh_per_second=4) as live:
            while process.poll() is None:
                live.update(Group(*(Text(text) for _, text in lines())))
                time.sleep(0.25)
            live.update(Group(*(Text(text) for _, text in lines())))
        return
    said: dict[str, str] = {}
    last = time.monotonic()
    while True:
        running = process.poll() is None
        if time.monotonic() - last >= EVERY_S or not running:
            last = time.monotonic()
            for stem, text in lines():
                if said.get(stem) != text:
                    said[stem] = text
                    print(text, file=sys.stderr, flush=True)
        if not running:
            return
        time.sleep(0.25)


def report_failure(done: dict[str, dict[str, Any]], log: Path, batch: str) -> int:
    """Say in one line a job what failed; the status is 2 when all of it is the user's to mend."""
    failed = {name: record for name, record in done.items() if record.get("error")}
    for name, record in failed.items():
        print(f"error: {name}: {record['error']}", file=sys.stderr)
    if not failed:
        if shutil.disk_usage(log.parent).free < 1_000_000:
            print(
                f"error: {log.parent}: the disk is full; free some space and give the same command again",
                file=sys.stderr,
            )
            return 2
        print(f"error: the batch stopped: {last_error(log, batch)} (its log is {log})", file=sys.stderr)
        return 1
    if all(record["mendable"] for record in failed.values()):
        return 2
    print(f"what is done stays; the same command goes on from here; log: {log}", file=sys.stderr)
    return 1


def last_error(log: Path, batch: str) -> str:
    """The last line in the log of a batch that names an error; without one, its last line."""
    lines = said_by(log, batch).splitlines()[1:]
    said = [" ".join(line.split()) for line in lines if line.strip()]
    errors = [line for line in said if re.search(r"(Error|Exception|error)\b", line)]
    return (errors or said or ["it said nothing"])[-1]


def said_by(log: Path, batch: str) -> str:
    """What the log has of a batch."""
    return read_text(log).partition(f"=== {batch}")[2]


def keep_provenance(config: Config, batch: str, start: float) -> None:
    """Keep what made the results: of the last command that did anything, and of each job as it was last done."""
    folder, names = run_folder(config.name), jobs(config)
    records = {name: record for name in names if (record := _record(config, name))}
    here = any(record.get("batch") == batch for record in records.values())
    if not here and (not records or (folder / "provenance.json").exists()):
        return
    stages = {
        name: {key: record[key] for key in ("start", "wall_time_s", "commit", "code", "device") if key in record}
        for name, record in records.items()
        if not record.get("error")
    }
    content = {
        **provenance(),
        "command": shlex.join(["./run_all.sh", *sys.argv[1:]]),
        "start": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(start)),
        "wall_time_s": round(time.time() - start, 1),
        "stages": stages,
    }
    write_text(folder / "provenance.json", json.dumps(content, indent=2) + "\n")


def print_report(config: Config, report: Report | None) -> None:
    """Write the report, of a run that failed, too, and say where it is."""
    if report is not None:
        print(f"report: {report(config.name)}")


def summarise(config: Config) -> None:
    """Where the results are, and how many models are well."""
    from hvae_core.analysis.overfit import too_few
    from hvae_core.runs.results import load_results

    results = load_results(config.name)
    counts = ", ".join(f"{count} {status}" for status, count in results["status"].value_counts().items())
    print(f"models: {counts}")
    if "reconstruction" in config.kind.stages and (said := too_few(results)):
        print(f"warning: {said}")
    print(f"results: {run_folder(config.name) / 'results.csv'}")
    print(f"figures: {figure_folder(config.name)}")
    for page in config.kind.pages:
        print(f"{page}: {figure_folder(config.name) / page}.html")
