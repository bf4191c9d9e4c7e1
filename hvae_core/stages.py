"""The stages of a run, each one call of a notebook: data and checkpoints in, tables and images out.

Here configuration, data, population, evaluation and store meet; they do not know each other.
"""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed
from torch import Tensor

from hvae_core import store
from hvae_core.conditioned import ConditionedPopulation, few, train_conditioned
from hvae_core.config import KINDS, Config, Member
from hvae_core.data import Dataset, load, pixels
from hvae_core.errors import InputError
from hvae_core.evaluation import blocks, generation, likelihood, rates, reconstruction, representation
from hvae_core.evaluation.blocks import Measurement, Tensors
from hvae_core.evaluation.bounds import label_probabilities
from hvae_core.evaluation.classifier import Classifier, classifier_for
from hvae_core.models import CONDITIONED, HierarchicalVAE, build
from hvae_core.models.convolutions import for_cpu
from hvae_core.objective import Objective, lagrangian
from hvae_core.population import Population, keep_memory, train
from hvae_core.progress import track
from hvae_core.target_rates import verdict
from hvae_core.terms import layer_numbers

if TYPE_CHECKING:  # matplotlib is imported where figures are drawn
    from matplotlib.figure import Figure

    from hvae_core.figures import Decodings, Images

SHOWN = 12  # images of each model that are kept to look at
SEEN_ON = 10_000  # training images, at most, on which points of a conditioned network are measured
NETWORK_THREADS = 2  # for a conditioned network's training, at most: it is one, and the other cores would wait
DECODED = 6  # latents of a model that are decoded several times
GENERATED = 100  # images for the bounds on the generative information


def device(config: Config) -> torch.device:
    """The device of a run: the GPU if there is one and the configuration allows it.

    Raises:
        InputError: when ``device: cuda`` is asked for and there is none.
    """
    if config.device == "cuda" and not torch.cuda.is_available():
        raise InputError("device = cuda: PyTorch finds no CUDA device here; use auto or cpu")
    return torch.device("cuda" if config.device != "cpu" and torch.cuda.is_available() else "cpu")


def load_data(config: Config) -> Dataset:
    """The data set of a run, on its device."""
    return load(config.dataset).first(config.train_images, config.test_images).to(device(config))


def train_members(config: Config, data: Dataset, objective: Objective = lagrangian) -> pd.DataFrame:
    """Train the members of ``config.block`` (None: all blocks in turn), from where an earlier execution stopped.

    Writes weights, the training table (terms on training and test images) and the history into each block's folder.
    A finished block is trained anew only if data, configuration or training code changed.

    Returns:
        The training table, one row a member.

    Raises:
        InputError: when the run was begun with another objective.
    """
    store.keep_objective(config, objective)
    store.keep_data(config, data)
    if config.block is not None:
        return _train_block(config, config.block, data, objective)
    blocks = [Config.make({**config.dump(), "block": block}) for block in range(config.blocks)]
    table = pd.concat([_train_block(block, block.block or 0, data, objective) for block in blocks], ignore_index=True)
    store.collect(config.name)
    return table


def _train_block(config: Config, block: int, data: Dataset, objective: Objective) -> pd.DataFrame:
    folder, members = store.block_folder(config, block), config.block_members()
    every = config.members()
    identity = store.identity(config, data.fingerprint, objective)
    weights, tables = folder / "weights.safetensors", [folder / "training.parquet", folder / "history.parquet"]
    if store.saved_identity(weights) == identity and all(path.exists() for path in tables):
        print("These models are trained already, with this data, configuration, objective and code.")
        for path in (weights, *tables):
            path.touch()  # up to date with the notebook and the modules
        return pd.read_parquet(tables[0])

    weights_by_name: dict[str, Tensor] = {}
    histories, rows, starts = [], [], []
    about: dict[str, str] = {}
    conditioned = config.kind is KINDS["conditioned"]
    for name in config.models:
        # A population is of one architecture; a block may hold members of several.
        indices = [i for i in members if every[i].model == name]
        if not indices:
            continue
        starts.append(indices[0])
        more: dict[str, Any] = {} if conditioned else {"normalise_gradients": config.normalise_gradients}
        with _threads_of_an_operation(min(jobs(), NETWORK_THREADS)) if conditioned else contextlib.nullcontext():
            population = (train_conditioned if conditioned else train)(
                partial(build, name, data.image_shape, **config.options),
                [every[i] for i in indices],
                data.x_train,
                epochs=config.epochs,
                batch_size=config.batch_size,
                learning_rate=config.learning_rate,
                warm_up_fraction=config.warm_up or 0.0,
                schedule=config.schedule,
                precision=config.precision,
                objective=objective,
                checkpoints=store.Checkpoints(folder / "resume" / f"{indices[0]:05d}", identity),
                label=f"training block {block + 1} of {config.blocks}" + (f", {name}" if len(config.models) > 1 else ""),
                **more,
            )
        if isinstance(population, ConditionedPopulation):
            about["networks"] = json.dumps(population.which)
        rows += _terms(population, indices, data, _sparse(config))
        weights_by_name |= {f"{indices[0]}.{key}": value for key, value in population.parameters.items()}
        kept = [population.history] + ([population.multipliers] if isinstance(population, Population) and config.target_rates else [])
        histories.append(torch.cat(kept, 2).double().numpy())
    table = pd.DataFrame(rows).astype({"diverged_epoch": "Int64"})
    numbers = layer_numbers(config.layers)
    terms = ["train_distortion", *(f"train_rate_{n}" for n in numbers)]
    names = terms + ([f"beta_{n}" for n in numbers] if config.target_rates else [])
    history = pd.concat([
        pd.DataFrame(values, columns=names).assign(member=index, epoch=range(1, config.epochs + 1))
        for index, values in zip(members, np.concatenate(histories), strict=True)
    ])  # fmt: skip
    store.save_weights(
        weights,
        weights_by_name,
        {"identity": identity, "members": json.dumps([members.start, members.stop]), "starts": json.dumps(starts),
         "image_shape": json.dumps(data.image_shape), **about},
    )  # fmt: skip
    store.write_table(tables[0], table)
    store.write_table(tables[1], history.dropna(subset=terms))
    shutil.rmtree(folder / "resume", ignore_errors=True)
    return table


def _terms(population: Population | ConditionedPopulation, indices: list[int], data: Dataset,
           seen: Callable[[Member], bool]) -> list[dict[str, Any]]:  # fmt: skip
    """Rows of the training table: terms on test images, and of those ``seen`` on training images, betas, and whether target rates are held."""
    rows, numbers = [], layer_numbers(population.model.layers)
    well = {i: member for i, member in enumerate(population.members) if not population.diverged_epoch[i]}
    seen_images = data.x_train[:SEEN_ON] if isinstance(population, ConditionedPopulation) else data.x_train
    measured = {"test": (data.x_test, well), "train": (seen_images, {i: member for i, member in well.items() if seen(member)})}
    means: dict[str, dict[int, Tensor]] = {}

    for which, (images, members) in measured.items():
        with track(f"rates on {which} images", len(members), "models") as progress:

            def compute(model: HierarchicalVAE, seed: int, images: Tensor = images) -> Tensors:
                return {"terms": rates.mean_terms(model, images, seed)}

            means[which] = {}
            for i, tensors in blocks.each(compute, members, population.member, blocks.size(data.x_train.device), threads()):
                means[which][i] = tensors["terms"]
                progress.update(len(means[which]))
    for i, index in enumerate(indices):
        epoch = population.diverged_epoch[i]
        row: dict[str, Any] = {"member": index, "status": "diverged" if epoch else "ok", "diverged_epoch": epoch}
        member = population.members[i]
        if member.targets and isinstance(population, Population):
            row |= {f"beta_{n}": given if target is None else beta for n, given, target, beta in zip(
                numbers, member.betas, member.targets, population.betas[i].double().tolist(), strict=True)}  # fmt: skip
        if not epoch:
            row |= rates.named(means["test"][i])
        if i in means["train"]:
            trained_on = rates.named(means["train"][i])
            row |= {f"train_{name}": value for name, value in trained_on.items() if name not in ("rate", "elbo")}
            if member.targets and isinstance(population, Population):
                row |= verdict(member.targets, [trained_on[f"rate_{n}"] for n in numbers], population.multipliers[i])
        rows.append(row)
    return rows


def reconstruct(config: Config, data: Dataset) -> pd.DataFrame:
    """The reconstruction table, and the reconstructions of the first test images."""
    measured = Measurement(lambda model, seed: {"errors": reconstruction.errors(model, data.x_test)},
                           lambda tensors: reconstruction.scores(tensors["errors"]))  # fmt: skip
    table = evaluate(config, "reconstruction", measured, key=data.fingerprint)
    shown = data.x_test[:SHOWN]
    drawn = Measurement(lambda model, seed: {"images": model.reconstruct(pixels(shown))}, _to_look_at)
    images = _images(config, "reconstruction", drawn, {"images": tuple(shown.shape)}, wanted=_sparse(config))
    store.save_images(config.name, "reconstruction", originals=shown.cpu().numpy(), **images)
    return table


def generate(config: Config, data: Dataset) -> tuple[pd.DataFrame, Classifier | None]:
    """The generation table, a few samples of each model, and the classifier; without labels the table is empty."""
    _only(config, "hierarchical", "deep", "conditioned", "targets", "shares")
    classifier = classifier_for(data, config.classifier_epochs, precision=config.precision) if data.num_classes else None
    place, count = device(config), min(SHOWN, len(data.x_test))

    def compute(model: HierarchicalVAE, seed: int) -> Tensors:
        assert classifier is not None
        return {"p": classifier.probabilities(generation.samples(model, config.generated_samples, seed, place))}

    measured = Measurement(compute, lambda tensors: generation.inception_score(tensors["p"])) if classifier else _nothing
    described = [config.generated_samples, classifier and [classifier.architecture, classifier.epochs]]
    table = evaluate(config, "generation", measured, key=f"{data.fingerprint} {described}", wanted=_sparse(config))
    drawn = Measurement(lambda model, seed: {"images": generation.samples(model, count, seed, place)}, _to_look_at)
    images = _images(config, "generation", drawn, {"images": (count, *data.image_shape)}, wanted=_sparse(config))
    store.save_images(config.name, "generation", **images)
    if classifier:
        about = {"architecture": classifier.architecture, "epochs": classifier.epochs, "precision": config.precision,
                 "test_accuracy": classifier.test_accuracy}  # fmt: skip
        store.write_text(store.run_folder(config.name) / "tables" / "classifier.json", json.dumps(about, indent=2) + "\n")
    return table, classifier


def represent(config: Config, data: Dataset) -> pd.DataFrame:
    """The representation table; without labels it is empty."""
    if data.y_test is None:
        return evaluate(config, "representation", _nothing, key=data.fingerprint)
    y, classes = data.y_test.cpu(), data.num_classes  # all that the scores take along to other processes
    measured = Measurement(lambda model, seed: representation.latents(model, data.x_test, seed),
                           lambda tensors: representation.scores(tensors, y, classes))  # fmt: skip

    return evaluate(config, "representation", measured, key=data.fingerprint, processes=jobs(), wanted=_sparse(config))


def _sparse(config: Config) -> Callable[[Member], bool]:
    """Whose classifiers, terms on training images and images to look at are computed, which takes longest: of a conditioned network not every point's."""
    if config.kind is not KINDS["conditioned"]:
        return lambda member: True
    kept = [few(axis) for axis in zip(*(member.betas for member in config.members()), strict=True)]
    return lambda member: all(beta in axis for beta, axis in zip(member.betas, kept, strict=True))


def bound_likelihood(config: Config, data: Dataset) -> pd.DataFrame:
    """The likelihood table (Paper B), and several decodings of the same latents of one family's models.

    An autoregressive decoder takes a pass through its network for each pixel, so the other families keep none.
    """

    # One at a time on a GPU too: a powerful decoder fills its pixels in place, one after the other, not for `torch.vmap`.
    def score(model: HierarchicalVAE, seed: int) -> dict[str, float]:
        return likelihood.evaluate(model, data.x_test, seed, images=config.likelihood_images,
                                   generated=config.likelihood_images or GENERATED)  # fmt: skip

    table = evaluate(config, "likelihood", score, key=f"{data.fingerprint} {config.likelihood_images}", processes=jobs())
    shown = data.x_test[:DECODED]
    shape: tuple[int, ...] = (len(shown), likelihood.REPEATS, *data.image_shape)
    shapes = dict.fromkeys(("reconstructions", "generated"), shape)

    def draw(model: HierarchicalVAE, seed: int) -> dict[str, np.ndarray]:
        return dict(zip(shapes, likelihood.decodings(model, shown, seed), strict=True))

    family = decoded_family(config)
    images = _images(config, "likelihood", draw, shapes, jobs(), lambda member: member.model == family)
    store.save_images(config.name, "likelihood", originals=shown.cpu().numpy(), **images)
    return table


def _nothing(model: HierarchicalVAE, seed: int) -> dict[str, float]:
    return {}


def _to_look_at(tensors: Tensors) -> dict[str, np.ndarray]:
    return {name: reconstruction.to_uint8(value) for name, value in tensors.items()}


def evaluate(config: Config, stage: str, function: Callable[[HierarchicalVAE, int], dict[str, Any]],
             key: str = "", processes: int = 1, wanted: Callable[[Member], bool] = lambda member: True) -> pd.DataFrame:  # fmt: skip
    """The table of a stage: ``function(model, seed)`` for every trained model that is wanted, one row each, columns as returned.

    Rows are kept as they are made, so a call after an interruption computes only what is missing. ``key`` names what
    else they depend on; rows made under another key, by other code or with other weights are not used. With several
    ``processes`` as many models are evaluated at once; on a GPU as many are scored, those of a `Measurement`, while it
    computes the next.

    Raises:
        InputError: for a stage that runs of these models do not have.
    """
    if stage not in config.kind.stages:
        raise InputError(f"run '{config.name}' is of {config.models[0]}, which has no stage {stage}; "
                         f"it has {', '.join(config.kind.stages) or 'one notebook, ' + config.kind.notebook}")  # fmt: skip
    folder = store.run_folder(config.name)
    status = store.training_table(config.name)["status"]
    weights = store.identities(config.name)
    described = json.dumps([key, store.code_fingerprint(config.kind.code[stage]), list(weights.values())])
    full_key = hashlib.sha256(described.encode()).hexdigest()[:16]
    log = folder / "tables" / f".{stage}.jsonl"
    rows: dict[int, dict[str, Any]] = {}
    if log.exists():
        for line in log.read_text().splitlines():
            with contextlib.suppress(json.JSONDecodeError):  # the last line of a process that was killed
                entry = json.loads(line)
                if entry["key"] == full_key:
                    rows[entry["member"]] = entry["row"]
    members = config.members()
    todo = [i for i, state in enumerate(status) if state == "ok" and wanted(members[i])]
    with track(stage, len(todo), "models", sum(i in rows for i in todo)) as progress:
        for index, row in _each(config, function, [i for i in todo if i not in rows], processes):
            rows[index] = row
            try:
                with open(log, "a") as file:
                    file.write(json.dumps({"key": full_key, "member": index, "row": row}) + "\n")
            except OSError as error:
                raise InputError(f"cannot write {log}: {error.strerror}") from error
            progress.update(sum(i in rows for i in todo))
    names = store.stage_columns(stage, config.layers)
    table = pd.DataFrame([rows.get(i, {}) for i in range(len(status))], columns=names, dtype=float)
    table.insert(0, "member", range(len(status)))
    table.attrs["weights"] = weights
    store.write_table(folder / "tables" / f"{stage}.parquet", table)
    log.unlink(missing_ok=True)
    return table


def _each(config: Config, function: Callable[[HierarchicalVAE, int], Any], indices: list[int],
          processes: int) -> Iterator[tuple[int, Any]]:  # fmt: skip
    """``function(model, seed)`` of these models, as (index, value), in the order in which they come to an end."""
    place, folder = device(config), store.run_folder(config.name).resolve()
    many = processes > 1 and len(indices) > 1  # a process starts in seconds: not for one model
    every = config.members()
    if isinstance(function, Measurement) and blocks.size(place) > 1:
        computed = blocks.each(function.compute, {index: every[index] for index in indices},
                               lambda index: store.load_model(folder, index, place), blocks.size(place))  # fmt: skip
        if not many:
            yield from ((index, function.score(tensors)) for index, tensors in computed)
        else:
            # While processes score, joblib draws the next models, and with them the next block, from ``computed``.
            yield from Parallel(n_jobs=processes, return_as="generator_unordered")(
                delayed(_scored)(function.score, index, tensors) for index, tensors in computed
            )
    elif not many or place.type != "cpu":  # GPUs are shared out to notebooks, not to processes
        yield from (_one(folder, place, function, index, every[index].seed) for index in indices)
    else:
        yield from Parallel(n_jobs=processes, return_as="generator_unordered")(
            delayed(_one)(folder, place, function, index, every[index].seed) for index in indices
        )


def _one(folder: Path, place: torch.device, function: Callable[[HierarchicalVAE, int], Any], index: int, seed: int) -> tuple[int, Any]:
    model = store.load_model(folder, index, place)
    if place.type == "cpu":
        keep_memory()
        model = for_cpu(model)
    return index, function(model, seed)


def _scored(score: Callable[[Tensors], Any], index: int, tensors: Tensors) -> tuple[int, Any]:
    return index, score(tensors)


def _images(config: Config, stage: str, draw: Callable[[HierarchicalVAE, int], dict[str, np.ndarray]],
            shapes: dict[str, tuple[int, ...]], processes: int = 1,
            wanted: Callable[[Member], bool] = lambda member: True) -> dict[str, np.ndarray]:  # fmt: skip
    """uint8 images of the models, ``(models, *shape)`` by name; black where one diverged or is not wanted."""
    status = store.training_table(config.name)["status"]
    todo = [i for i, member in enumerate(config.members()) if status[i] == "ok" and wanted(member)]
    images = {name: np.zeros((len(status), *shape), np.uint8) for name, shape in shapes.items()}
    with track(f"{stage}: images to look at", len(todo), "models") as progress:
        for index, drawn in _each(config, draw, todo, processes):
            for name, array in drawn.items():
                images[name][index] = array
            progress.update(progress.done + 1)
    return images


def jobs() -> int:
    """How many processes a stage may use: ``HVAE_JOBS``, or all cores."""
    return int(os.environ.get("HVAE_JOBS") or os.cpu_count() or 1)


@contextlib.contextmanager
def _threads_of_an_operation(count: int) -> Iterator[None]:
    """So many threads for each operation of PyTorch, while the block lasts."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def threads() -> int:
    """How many threads may compute at once: `jobs`, where an operation does not take all cores itself."""
    return jobs() if torch.get_num_threads() == 1 else 1


def figure_inputs(config: Config, data: Dataset) -> tuple["Images", Any, dict[str, Any]]:
    """What the figures need beside the results: images, label probabilities (None without labels), provenance."""
    from hvae_core.figures import Images

    _only(config, "hierarchical", "deep", "conditioned")
    reconstructed, generated = (store.load_images(config.name, stage) for stage in ("reconstruction", "generation"))
    images = Images(reconstructed["originals"], reconstructed["images"], generated["images"])
    labels = None if data.y_test is None else label_probabilities(data.y_test.cpu().numpy(), data.num_classes)
    return images, labels, provenance(config, "images/reconstruction.npz", "images/generation.npz")


def decoded_family(config: Config) -> str:
    """Whose images are kept: ``-+v`` as in Paper B, Fig. 4, or else the first family with a powerful decoder, or else the first."""
    return min(config.models, key=lambda name: (name != "-+v", name[1] != "+", config.models.index(name)))


def decodings(config: Config) -> "Decodings":
    """The images behind Paper B, Fig. 4, of `decoded_family`."""
    from hvae_core.figures import Decodings

    images = store.load_images(config.name, "likelihood")
    return Decodings(images["originals"], images["reconstructions"], images["generated"])


def comparable(config: Config) -> dict[str, pd.DataFrame]:
    """The results of all finished runs of Paper A's models on the same data, by name of the run.

    Raises:
        InputError: for a run of other models than the families of Paper B.
    """
    _only(config, "families")
    name = store.load_results(config.name)["dataset"].iloc[0]
    return {run: pd.read_parquet(store.run_folder(run) / "results.parquet").assign(dataset=name)
            for run in store.comparable_runs(config.name)}  # fmt: skip


def beta_grids(config: Config) -> dict[str, pd.DataFrame]:
    """The finished grids of betas that were trained as this run with target rates was: same data, model, epochs and settings.

    Returns:
        Their results by name of the run; empty if there are none.
    """
    free = {"name", "betas", "seeds", "target_rates", "generated_samples", "classifier_epochs", "likelihood_images",
            "blocks", "block", "device", "test_images"}  # fmt: skip

    def trained_as(other: Config) -> dict[str, Any]:
        return {key: value for key, value in other.dump().items() if key not in free}

    found = {name: store.load_config(name) for name in store.comparable_runs(config.name)}
    return {name: pd.read_parquet(store.run_folder(name) / "results.parquet") for name, other in found.items()
            if other.target_rates is None and trained_as(other) == trained_as(config)
            and store.kept_objective(name) == store.kept_objective(config.name)}  # fmt: skip


def separate_grids(config: Config) -> dict[str, pd.DataFrame]:
    """The finished grids of the models that this conditioned run stands for: same data, architecture, settings and objective.

    Epochs, learning rate, seeds and betas are free, if some betas are in both: what the run and a grid cost is compared beside what they reach.

    Returns:
        Their results by name of the run; empty if there are none.

    Raises:
        InputError: for a run of other models.
    """
    _only(config, "conditioned")
    same = ("train_images", "sigma_x", "bins", "batch_size", "schedule", "normalise_gradients", "precision", "warm_up")

    def points(of: Config) -> set[tuple[float, ...]]:
        return {tuple(round(beta, 6) for beta in member.betas) for member in of.members()}

    found = {name: store.load_config(name) for name in store.comparable_runs(config.name)}
    return {name: pd.read_parquet(store.run_folder(name) / "results.parquet") for name, other in found.items()
            if other.model == CONDITIONED[config.models[0]] and points(other) & points(config) and other.latent_sizes is None and other.target_rates is None
            and all(getattr(other, key) == getattr(config, key) for key in same) and store.kept_objective(name) == store.kept_objective(config.name)}  # fmt: skip


def _only(config: Config, *kinds: str) -> None:
    if config.kind not in [KINDS[kind] for kind in kinds]:
        raise InputError(f"run '{config.name}' is of {config.models[0]}; its figures are in {config.kind.notebook}")


def provenance(config: Config, *images: str, others: Iterable[str] = ()) -> dict[str, Any]:
    """What the figures of a run are made from: its results and these of its files, other runs' results, and the commit."""
    folder = store.run_folder(config.name)
    inputs = [folder / name for name in ("results.parquet", *images)]
    inputs += [store.run_folder(name) / "results.parquet" for name in others]
    return {
        "run": config.name,
        "inputs": {str(path.relative_to(folder.parents[1])): hashlib.sha256(path.read_bytes()).hexdigest()
                   for path in inputs},
        **store.commit(),
    }  # fmt: skip


def save_all(config: Config, figures: dict[str, "Figure"], tables: dict[str, pd.DataFrame],
             provenance: dict[str, Any]) -> None:  # fmt: skip
    """Write every figure and table to the run's figure folder, each with what made it."""
    from hvae_core.figures import save_figure, save_table

    folder = store.figure_folder(config.name)
    with track("figures and tables", len(figures) + len(tables), "files") as progress:
        for name, figure in figures.items():
            save_figure(figure, folder, name, provenance=provenance | _script(config, name))
            progress.update(progress.done + 1)
        for name, table in tables.items():
            save_table(table, folder, name, provenance=provenance | _script(config, name))
            progress.update(progress.done + 1)


def _script(config: Config, name: str) -> dict[str, str]:
    drawn = "hvae_core.models.architecture_table" if name in ("table2", "table3") else f"hvae_core.figures.{name}"
    for start, function in (("targets_surface", "surface.compare"), ("fidelity_table", "fidelity.fidelity"), ("optima_table", "fidelity.optima"),
                            ("fidelity", "figures.fidelity")):  # fmt: skip
        if name.startswith(start):
            drawn = f"hvae_core.{function}"
            break
    return {"script": f"notebooks/{config.kind.notebook}.ipynb", "function": drawn}
