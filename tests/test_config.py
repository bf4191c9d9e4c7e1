"""One strict configuration, wherever it stands."""

import itertools
import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hvae_core.errors import InputError
from hvae_core.files import ROOT
from hvae_core.names import LAYERS
from hvae_core.runs import keys
from hvae_core.runs.config import BetaRange, Config
from hvae_core.runs.profiles import TEXT, load_profile, parse_yaml, profiles, read_yaml
from hvae_core.runs.rules import RULES
from hvae_core.training.plan import Plan

PAPER = ["mnist-ghvae", "svhn-ghvae", "svhn-lvae", "cifar10-ghvae"]


def test_the_papers_grid():
    values = BetaRange(low=0.1, high=100, points=21).values()
    expected = [10 ** (-1 + 0.15 * k) for k in range(21)]
    expected[7] = 1.0  # 1.122, the nearest
    assert values == pytest.approx(expected)
    assert values[0] == 0.1
    assert values[-1] == 100
    assert values.count(1.0) == 1


@pytest.mark.parametrize("profile", PAPER)
def test_profiles_of_the_paper_follow_its_protocol(profile):
    config = load_profile(profile)
    assert len(config.members()) == 441
    assert (config.learning_rate, config.batch_size, config.epochs) == (3e-4, 256, 200)
    assert (config.model, config.warm_up) == (("lvae", 0.2) if profile == "svhn-lvae" else ("ghvae", 0.0))
    assert config.generated_samples == 10_000
    assert config.dataset in profile


def test_quick_is_a_5_by_5_grid_with_the_vae_in_it():
    config = load_profile("quick")
    betas = {member.betas for member in config.members()}
    assert len(betas) == 25
    assert {(1.0, 1.0), (0.1, 100.0), (100.0, 0.1)} <= betas
    assert config.dataset == "mnist-mini", "which needs no download and shows a 4 that is one"


def test_every_profile_is_valid_and_has_a_description():
    assert {"quick", "mnist-small", *PAPER} <= set(profiles())
    for name in profiles():
        load_profile(name)


def test_blocks_share_the_members_out():
    config = load_profile("quick", ["seeds=3", "blocks=4"])
    parts = [Config.make({**config.dump(), "block": b}).block_members() for b in range(4)]
    assert [i for part in parts for i in part] == list(range(75)) == list(config.block_members())


def test_a_configuration_survives_yaml():
    config = load_profile("quick", ["betas=[[0.1, 1], [1, 10, 100]]", "seeds=2"])
    again = Config.make(parse_yaml(yaml.safe_dump(config.dump())))
    assert again == config
    assert [m.betas for m in again.members()][:4] == [(0.1, 1), (0.1, 10), (0.1, 100), (1, 1)]


def test_dotted_keys_reach_into_the_betas():
    assert load_profile("quick", ["betas.points=3"]).members()[1].betas == (0.1, 1.0)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("epoch=3", "epochs"),
        ("colour=red", "colour"),
        ("model=vqvae", "vqvae"),
        ("betas=[]", "betas"),
        ("betas=[1, -1]", "betas"),
        ("betas=[0]", "betas"),
        ("betas=[.nan]", "betas"),
        ("betas=[.inf]", "betas"),
        ("betas=[1, 1]", "twice"),
        ("betas=[[1, 2]]", "lists for the 2 layers"),
        ("betas=three", "betas"),
        ("betas={low: 10, high: 1, points: 3}", "range"),
        ("betas.points=0", "betas"),
        ("epochs=0", "epochs"),
        ("epochs=many", "epochs"),
        ("epochs=2.5", "epochs"),
        ("seeds=0", "seeds"),
        ("batch_size=-8", "batch_size"),
        ("learning_rate=0", "learning_rate"),
        ("learning_rate=nan", "learning_rate"),
        ("sigma_x=-1", "sigma_x"),
        ("warm_up=2", "warm_up"),
        ("device=tpu", "device"),
        ("block=2", "block"),
        ("blocks=0", "blocks"),
        ("generated_samples=3", "generated_samples"),
        ("train_images=0", "train_images"),
        ("name=../elsewhere", "name"),
        ("epochs", "key=value"),
        ("epochs.x=3", "epochs"),
        ("epochs=[1", "not a value"),
    ],
)
def test_what_is_not_allowed_is_named_in_one_line(change, named):
    with pytest.raises(InputError) as caught:
        load_profile("quick", [change])
    message = str(caught.value)
    assert named in message
    assert "\n" not in message
    assert len(message) < 400


def test_an_unknown_profile_is_named_with_those_there_are():
    with pytest.raises(InputError, match=r"no profile 'mnist'.*quick"):
        load_profile("mnist")


@pytest.mark.parametrize("text", ["- 1\n- 2", "a: [", "\xff"])
def test_a_profile_that_is_no_profile(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=r"mine\.yaml"):
        load_profile(str(path))


@pytest.mark.parametrize("suffix", ["yaml", "yml", "YAML"])
def test_own_profile_by_path(tmp_path, suffix):
    path = tmp_path / f"mine.{suffix}"
    path.write_text("epochs: 3\nbetas: [1]\n")
    config = load_profile(str(path))
    assert (config.name, config.epochs, len(config.members())) == ("mine", 3, 1)


# --- what is written is what is meant ------------------------------------------------------------------------

ODD = [
    *("01", "010", "0x10", "1_000", "1:30", "1e-3", ".5", "2024-01-01", "no", "on", "null", "true"),
    *(
        "data set.npz",
        "a: b.npz",
        "#1.npz",
        "{x}.npz",
        "[x].npz",
        "&x",
        "*x",
        "!x",
        "'x'",
        "x ",
        "---",
        "-+v",
        "=",
        "数",
    ),
]


@pytest.mark.parametrize("text", ODD)
def test_text_is_taken_as_it_is_written(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_profile("quick", [f"dataset={text}"]).dataset == text
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"dataset": text}))
    assert load_profile(str(path)).dataset == text


@pytest.mark.parametrize("name", ["01", "010", "0x10", "1_000", "1e-3", "2024-01-01", "no", "on", "null", "true"])
def test_a_plain_word_is_a_name(name, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(f"name: {name}\n")
    assert load_profile(str(path)).name == load_profile("quick", [f"name={name}"]).name == name


def test_families_are_words_one_or_several(tmp_path):
    path = tmp_path / "mine.yaml"
    for text, models in (("---", ["---"]), ("-+v", ["-+v"]), ("[---, -+v]", ["---", "-+v"])):
        path.write_text(f"model: {text}\nbetas: [[1]]\n")
        assert load_profile(str(path)).models == load_profile("rd-quick", [f"model={text}"]).models == models


@pytest.mark.parametrize(
    ("change", "key", "value"),
    [
        ("epochs=010", "epochs", 10),
        ("epochs=1_000", "epochs", 1000),
        ("epochs=0x10", "epochs", 16),
        ("epochs=1e2", "epochs", 100),
        ("learning_rate=1e-3", "learning_rate", 0.001),
        ("betas=[[1e-1], [1]]", "betas", [[0.1], [1.0]]),
        ("normalise_gradients=yes", "normalise_gradients", True),
        ("normalise_gradients=off", "normalise_gradients", False),
        ("train_images=null", "train_images", None),
        ("train_images=~", "train_images", None),
    ],
)
def test_numbers_and_truths_are_what_people_mean(change, key, value, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(change.replace("=", ": ") + "\n")
    assert getattr(load_profile(str(path)), key) == getattr(load_profile("quick", [change]), key) == value


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("epochs=1:30", "epochs = 1:30"),
        ("epochs=on", "epochs = on"),
        ("epochs=true", "no numbers"),
        ("betas=[[true, 2], [1]]", "no numbers"),
        ("betas.points=true", "no numbers"),
        ("epochs=2024-01-01", "epochs = 2024-01-01"),
        ("betas=[yes]", "betas = yes"),
        ("betas={low:1,high:2,points:3}", "betas: it has no part 'low:1'"),
        ("betas=0.1,1", "a list such as"),
        ("betas={low: 1, low: 2, high: 3, points: 3}", "'low' is given twice"),
        ("betas=&a [*a]", "recursive"),
        ("betas=" + "[" * 3000, "too deep"),
        ("train_images=", "write null"),
        ("train_images=#5", "write null"),
        ("model=[---, --+], seeds: 2", "not a value"),
        ("dataset=", "at least 1 character"),
        ("name=数", "name = 数: allowed are letters from a to z"),
        ("name=-x", "name = -x: allowed are letters from a to z"),
    ],
)
def test_what_could_be_taken_for_something_else_is_refused(change, said):
    with pytest.raises(InputError) as caught:
        load_profile("quick", [change])
    assert said in str(caught.value)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["epochs=1", "epochs=2"], "'epochs' is given twice"),
        (["betas.points=3", "betas=[1]"], "'betas.points' and 'betas'"),
        (["betas=[1]", "betas.points=3"], "'betas' and 'betas.points'"),
        ({"betas": [1], "betas.points": 3}, "'betas' and 'betas.points'"),
        (["name=one"], "'name' is given twice"),
    ],
)
def test_a_key_is_given_once(changes, said):
    with pytest.raises(InputError, match=said):
        load_profile("quick", changes, name="two")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("epochs: 1\nepochs: 2\n", r"mine\.yaml: line 2: 'epochs' is given twice"),
        ("betas:\n  low: 1\n  low: 2\n", r"mine\.yaml: line 3: 'low' is given twice"),
        ("'epochs': 1\nepochs: 2\n", "'epochs' is given twice"),
        ("? [a]\n: 1\n", "line 1: a key is one word"),
        ("dataset: a: b.npz\n", "not YAML: line 1"),
        ("dataset: {x}.npz\n", "not YAML: line 1"),
        ("dataset: #1.npz\n", "at least 1 character"),
        ("dataset: {x}\n", "valid string"),
        ("<<: {epochs: 1}\n", "unknown key '<<'"),
    ],
)
def test_a_file_that_could_be_misread_is_refused(text, said, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=said):
        load_profile(str(path))


def test_the_text_keys_are_those_that_take_text():
    kinds = {
        key: {schema.get("type"), *(choice.get("type") for choice in schema.get("anyOf", ()))}
        for key, schema in Config.model_json_schema()["properties"].items()
    }
    assert {key for key, kind in kinds.items() if "string" in kind} == set(TEXT)


@given(dataset=st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_a_run_folder_reads_back_what_was_written(dataset):
    config = Config(dataset=dataset, betas=[[1e-5, 1e20], [1]])
    assert Config.make(parse_yaml(yaml.safe_dump({**config.dump(), "block": None}, sort_keys=False))) == config


def test_the_profiles_mean_the_same_to_other_readers():
    """Who reads a profile or a published configuration with another YAML reader sees the same."""
    paths = [*(ROOT / "profiles").glob("*.yaml"), *(ROOT / "published/runs").glob("*/config.yaml")]
    assert len(paths) > 20
    for path in paths:
        assert read_yaml(path) == yaml.safe_load(path.read_text()), path


def test_steps_of_the_betas_are_equal_in_the_logarithm():
    values = BetaRange(low=0.01, high=10, points=7).values()
    steps = [math.log10(b / a) for a, b in itertools.pairwise(values)]
    assert steps == pytest.approx([0.5] * 6), "with 1 among the points nothing is replaced"


@given(low=st.floats(1e-3, 1e2), ratio=st.floats(1.01, 1e5), points=st.integers(2, 60))
def test_a_range_rises_in_equal_steps_but_for_a_1_in_place_of_the_nearest(low, ratio, points):
    values = BetaRange(low=low, high=low * ratio, points=points).values()
    steps = [low * ratio ** (k / (points - 1)) for k in range(points)]
    assert len(values) == points
    assert all(a < b for a, b in itertools.pairwise(values))
    if low <= 1 <= low * ratio:
        place = values.index(1.0)
        distances = [abs(math.log(step)) for step in steps]
        assert distances[place] == pytest.approx(min(distances))
        steps[place] = 1.0
    assert values == pytest.approx(steps)


# --- runs of several models ---------------------------------------------------------------------------------


def test_several_families_make_one_run_ordered_by_name_seed_and_beta():
    config = load_profile("rd-quick", ["seeds=2"])
    assert len(config.members()) == 12 * 2 * 3
    assert [m.model for m in config.members()][::6] == config.models
    assert [(m.seed, m.betas) for m in config.members()][:4] == [
        (0, (0.1,)),
        (0, (0.5,)),
        (0, (1.5,)),
        (1, (0.1,)),
    ]
    assert config.layers == 1
    assert config.options == {
        "width": config.width,
        "pseudo_inputs": config.pseudo_inputs,
        "encoder_context": config.encoder_context,
    }


def test_families_may_have_beta_0():
    assert load_profile("rd-quick", ["betas=[[0, 1]]"]).members()[0].betas == (0.0,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("model=[ghvae, lvae]", "make no run together"),
        ("model=['---', ghvae]", "make no run together"),
        ("model=['---', '---']", "stands there twice"),
        ("model=['---', '+*+']", "no model is called '\\+\\*\\+'"),
        ("model=[]", "model"),
        ("model=toy", "betas"),
        ("width=0", "width = 0"),
        ("width=1.5", "width = 1.5"),
        ("schedule=cosine", "schedule = cosine"),
    ],
)
def test_what_makes_no_run_is_named(change, message):
    with pytest.raises(InputError, match=message):
        load_profile("rd-quick", [change])


def test_one_model_in_a_list_is_that_model():
    assert load_profile("quick", ["model=[lvae]"]).warm_up == 0.2
    assert load_profile("rd-quick", ["model=---"]).models == ["---"]


@pytest.mark.parametrize("change", ["dataset=digits", "betas=[[2.0]]", "batch_size=10"])
def test_what_the_toy_run_would_not_heed_is_refused(change):
    with pytest.raises(InputError, match=r"toy|thirty"):
        load_profile("rd-toy", [change])


# --- keys left open -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "resolved"),
    [
        ({}, {"warm_up": 0.0, "blocks": None}),
        ({"model": ["lvae"]}, {"model": "lvae", "warm_up": 0.2}),
        ({"model": "lvae", "warm_up": 0}, {"warm_up": 0.0}),
        ({"model": "lvae", "target_rates": [[5], [20]], "betas": [[1], [1]]}, {"warm_up": 0.0}),
        ({"betas": [1, 2], "seeds": 2, "blocks": 99}, {"blocks": 8}),
        ({"model": "ghvae-conditioned", "seeds": 2, "blocks": 99}, {"blocks": 2}),
        ({"model": ["---", "--v"], "betas": [[1, 2]], "blocks": 99}, {"model": ["---", "--v"], "blocks": 4}),
    ],
)
def test_keys_left_open_are_resolved_once(values, resolved):
    config = Config.make(values)
    assert {key: getattr(config, key) for key in resolved} == resolved
    assert Config(**values) == config == Config.make(config.dump())
    assert config.plan.warm_up == config.warm_up


def test_the_plan_is_that_of_the_configuration():
    config = load_profile("rd-quick", ["learning_rate=0.01", "warm_up=0.5"])
    assert config.plan == Plan(
        epochs=6,
        batch_size=25,
        learning_rate=0.01,
        schedule="two-phase",
        warm_up=0.5,
        normalise_gradients=False,
        precision="float32",
    )


# --- rules --------------------------------------------------------------------------------------------------

START = {"betas": [[0.1], [0.1]]}
TOY = {"model": "toy", "dataset": "toy", "betas": [[1.0]]}
CONDITIONED = {"model": "ghvae-conditioned"}
BROKEN = [  # each rule in its order: a configuration that breaks it, and what is said
    (
        {"model": "vqvae"},
        f"model: no model is called 'vqvae'; there are {', '.join(LAYERS)}; CONTRIBUTING.md says where one of your own "
        "is named",
    ),
    ({"model": ["---", "---"]}, "model: a model stands there twice; use seeds for several of a kind"),
    ({"model": ["ghvae", "lvae"]}, "model: ghvae, lvae make no run together; only families of Paper B do"),
    (
        {"model": "lvae", "latent_sizes": [20, 256]},
        "latent_sizes: only ghvae is made of any number of layers",
    ),
    (
        {"latent_sizes": [8, 250]},
        "latent_sizes: [8, 250]; at least two layers, the last a number of 4x4 maps, so a multiple of 16",
    ),
    ({"bins": [1, 2]}, "bins: [1, 2] hold 3 layers, ghvae has 2"),
    ({"betas": [[1], [2], [3]]}, "betas: 3 lists for the 2 layers of ghvae"),
    (
        {"model": "--v", "target_rates": [[5]], "betas": [[0.1]]},
        "target_rates: for the hierarchical models, ghvae and lvae, not --v",
    ),
    (
        {"target_rates": {"total": [10], "shares": [[0.5, 0.6]]}, **START},
        "target_rates: shares [0.5, 0.6] are not 2 numbers that add up to 1",
    ),
    (
        {"target_rates": [[1]], **START},
        "target_rates: 1 entries for the 2 layers of ghvae; null for a layer without",
    ),
    ({"target_rates": [None, None], **START}, "target_rates: no layer has one; leave the key out"),
    (
        {"target_rates": [[1], [2]], "bins": [2], "betas": [[0.1]]},
        "bins: with target rates every layer has a multiplier of its own",
    ),
    (
        {"target_rates": [None, [2]], "betas": [[1, 2], [0]]},
        "betas: z_1 has a target rate, so it takes one beta, above 0, to start from; such as betas: [[0.1], [0.1]]",
    ),
    (
        {"target_rates": [[1, 1], [2]], **START},
        "target_rates: a setting stands there twice; use seeds for several models at one point",
    ),
    (
        {"target_rates": [[1], [2]], "warm_up": 0.5, **START},
        "warm_up: with target rates the multipliers follow the rates; set it to 0",
    ),
    ({**TOY, "dataset": "digits"}, "model toy: it has a data set of its own, toy, and betas [[1.0]]"),
    ({**TOY, "batch_size": 10}, "batch_size = 10: the toy model's thirty states are one batch"),
    (
        {"betas": [0, 1]},
        "betas: 0 is for families of Paper B; the hierarchical models are drawn over log beta",
    ),
    ({**CONDITIONED, "normalise_gradients": True}, "normalise_gradients: not for conditioned models"),
    ({**CONDITIONED, "bins": [2]}, "bins: a conditioned network has a beta for every layer"),
    (
        {**CONDITIONED, "sigma_x": 0.3},
        "sigma_x = 0.3: at least 0.4 for conditioned models, which take the logarithm of L; below, D may be negative",
    ),
    (
        {"model": ["--+", "+-v"], "encoder_context": "image"},
        "model +-v: encoder_context = image: not with a strong encoder and marginal v, whose density would take an "
        "inversion of the flow for every pseudo-input",
    ),
    ({"width": 0.5}, "width: ghvae has no such key; it is for families of Paper B"),
    ({"betas": [1, 2], "blocks": 9, "block": 4}, "block: 4 of 4 blocks; they are counted from 0"),
    (
        {**TOY, "precision": "bfloat16"},
        "precision = bfloat16: for the hierarchical models, ghvae and lvae, not toy",
    ),
]


@pytest.mark.parametrize(("values", "said"), BROKEN)
def test_each_rule_says_what_is_wrong(values, said):
    with pytest.raises(InputError) as caught:
        Config.make(values)
    assert str(caught.value) == f"configuration: {said}"


def test_no_rule_is_left_untried():
    assert len({said for _, said in BROKEN}) == len(RULES)


@pytest.mark.parametrize(
    ("key", "value"),
    [("width", 0.5), ("pseudo_inputs", 5), ("encoder_context", "image"), ("likelihood_images", 2), ("sigma_x", 0.5)],
)
def test_no_key_is_passed_over_in_silence(key, value):
    have, lack = ("ghvae", "---") if key == "sigma_x" else ("---", "ghvae")
    assert getattr(Config.make({"model": have, key: value}), key) == value
    with pytest.raises(InputError, match=f"{key}: {lack} has no such key"):
        Config.make({"model": lack, key: value})


# --- the page -----------------------------------------------------------------------------------------------


def test_the_page_of_keys_is_up_to_date():
    said = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    assert said == keys.page(), f"renew it: {keys.COMMAND}"


def test_the_page_of_keys_explains_each():
    assert all(field.description for field in Config.model_fields.values())
    assert set(keys.STARTS) <= set(Config.model_fields)
    assert len(keys.page().split()) <= 800
