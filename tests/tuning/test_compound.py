"""Compound coefficients: the constraint, the candidates, the family, and --compound in training."""

import itertools
import json
import math
import shlex
import statistics
from pathlib import Path

import pytest
import yaml

import kcnn
import kcnn.train
from trainers.config import TrainConfig
from trainers.runs import folders
from trainers.settings import resolve
from trainers.training import Result
from tuning import compound
from tuning.compound import Base, at, at_phi_0, candidates, coefficients, family, triangle
from tuning.trials import engine, sweep
from tuning.trials.sweep import FIGURES

SMALL = TrainConfig(arch="ResNet18", width=0.25, depth=0.5, resolution=16, val_split=0.3)
FLAGS = ("--arch", "resnet-18", "--width", "0.25", "--depth", "0.5", "--resolution", "16", "--val-split", "0.3")


def told(capsys, main, *argv):
    with pytest.raises(SystemExit) as left:
        main([str(a) for a in argv])
    return left.value.code, *capsys.readouterr()


@pytest.fixture(scope="module")
def base():
    return at_phi_0(SMALL).config


def test_every_candidate_keeps_the_constraint():
    for steps in (1, 10, 20):
        places = triangle(steps)
        assert len(set(places)) == (steps + 1) * (steps + 2) / 2
        for place in places:
            c = coefficients(place)
            assert min(c.values()) >= 1
            assert c["alpha"] * c["beta"] ** 2 * c["gamma"] ** 2 == pytest.approx(2, rel=1e-3)
    assert coefficients((0.3, 0.3, 0.4)) == {"alpha": 1.2311, "beta": 1.1096, "gamma": 1.1487}


def test_the_small_network_keeps_its_stem_and_resolution(base):
    assert (base.arch, base.resolution, base.stem, base.epochs) == ("resnet-18", 16, "small", compound.EPOCHS)
    large = at_phi_0(TrainConfig(arch="resnet-18", resolution=80, val_split=0.3))
    assert (large.config.stem, large.classes, large.images) == ("standard", 10, 355)


def test_candidates_cost_twice_as_much_and_differ(base, monkeypatch):
    monkeypatch.setattr(compound, "GRIDS", (2, 10))
    found = candidates(base, 10, 4, 0.15)
    archs = [resolve(at(base, 1, c)).arch for c in found]
    aim = 2 * kcnn.facts(resolve(base).arch, 10, stem="standard").macs
    assert len(found) == 4
    for arch in archs:
        assert kcnn.facts(arch, 10, stem="standard").macs == pytest.approx(aim, rel=0.15)
    assert all(a.stages != b.stages or a.resolution != b.resolution for a, b in itertools.combinations(archs, 2))
    spread = [max(c[name] for c in found) - min(c[name] for c in found) for name in ("alpha", "beta", "gamma")]
    assert spread[0] > 0.5 and min(spread[1:]) > 0.3
    monkeypatch.setattr(compound, "GRIDS", (1, 2))
    with pytest.raises(
        kcnn.InputError, match=r"all \d candidates more than 0% away .* the nearest, alpha .* has \d.\d\d times as many"
    ):
        candidates(base, 10, 4, 1e-9)


def rounding(arch, ideal_depth, ideal_width, ideal_pixels, base):
    """How far below and above its ideal cost rounding may have taken a network: its convolutions one by one."""
    shares = []
    for s, was in zip(arch.stages, base.stages, strict=True):
        width = s.width / (was.width * ideal_width)
        shares.append((s.depth / (was.depth * ideal_depth), width))
    area = (arch.resolution / ideal_pixels) ** 2
    last = (
        math.ceil(arch.resolution / 8) / (arch.resolution / 8),
        math.ceil(base.resolution / 8) / (base.resolution / 8),
    )
    low = min(d for d, _ in shares) * min(w for _, w in shares) ** 2 * min(area, 1) / last[1] ** 2
    high = max(d for d, _ in shares) * max(w for _, w in shares) ** 2 * max(area, 1) * last[0] ** 2
    return low * 0.85, high * 1.2  # stem, the first blocks of stages and the classifier grow otherwise


@pytest.mark.parametrize(
    "place",
    [(0.3, 0.3, 0.4), (0, 1, 0), (0, 0, 1), pytest.param((1, 0, 0), marks=pytest.mark.slow)],  # up to 512 blocks
)
def test_the_family_doubles_with_phi_within_rounding(base, tmp_path, place):
    growth = coefficients(place)
    rows = family(tmp_path / "compound.yaml", Base(base, 10, 355), growth)
    small = resolve(base).arch
    assert [row["phi"] for row in rows] == list(range(8)) and rows[0]["times"] == 1
    for row in rows:
        phi = row["phi"]
        arch = resolve(at(base, phi, growth)).arch
        assert row["resolution"] == arch.resolution == round(16 * growth["gamma"] ** phi)
        low, high = rounding(arch, growth["alpha"] ** phi, growth["beta"] ** phi, 16 * growth["gamma"] ** phi, small)
        assert low <= row["times"] / 2**phi <= high
        assert row["macs"] == kcnn.facts(arch, 10, stem="standard").macs


def test_the_family_s_commands_train_those_very_networks(base, tmp_path, capsys):
    growth = coefficients((0.3, 0.3, 0.4))
    text = yaml.safe_dump(growth | {"arch": base.arch, "resolution": base.resolution, "stem": base.stem})
    (tmp_path / "compound.yaml").write_text(text)
    rows = family(tmp_path / "compound.yaml", Base(base, 10, 355), growth)
    for row in (rows[0], rows[2], rows[7]):
        words = shlex.split(row["command"])
        assert words[:2] == ["kcnn", "train"] and "--resolution" not in words
        code, out, _ = told(capsys, kcnn.train.main, *words[2:], "--dry-run", "--json")
        plan = json.loads(out.splitlines()[-1])
        assert code == 0 and (plan["macs"], plan["params"]) == (row["macs"], row["params"])
        assert {name: plan["config"][name] for name in growth} == growth


@pytest.fixture
def file(here):
    text = "alpha: 1.1\nbeta: 1.2\ngamma: 1.124\narch: resnet-18\nresolution: 20\nstem: small\n"
    Path("c.yaml").write_text(text)
    return "c.yaml"


def test_flags_win_over_the_compound_file_over_the_paper(file):
    own = resolve(TrainConfig(arch="resnet-18", phi=2, compound=file)).flags
    assert (own.alpha, own.beta, own.gamma, own.stem, own.resolution) == (1.1, 1.2, 1.124, "small", 25)
    own = resolve(TrainConfig(arch="ResNet18", phi=2, compound=file, gamma=1.5, stem="standard")).flags
    assert (own.alpha, own.beta, own.gamma, own.stem, own.resolution) == (1.1, 1.2, 1.5, "standard", 45)
    assert resolve(TrainConfig(arch="resnet-18", compound=file, resolution=48)).resolution == 48
    other = resolve(TrainConfig(arch="mobilenet-v2", phi=1, compound=file)).flags  # its growth is any network's
    assert (other.alpha, other.stem, other.resolution) == (1.1, "auto", round(32 * 1.124))
    paper = resolve(TrainConfig(phi=1)).flags
    assert (paper.alpha, paper.beta, paper.gamma, paper.resolution) == (1.2, 1.1, 1.15, 37)
    assert resolve(own).flags == own


@pytest.mark.parametrize("text, says", [
    (None, "c.yaml"),
    ("alpha: 1.2\nbeta: 1.1\n", "gamma None"),
    ("alpha: 0\nbeta: 1.1\ngamma: 1.1\n", "alpha 0"),
    ("alpha: much\nbeta: 1.1\ngamma: 1.1\n", "alpha 'much'"),
    ("alpha: [\n", "not YAML"),
])  # fmt: skip
def test_a_file_that_is_none_is_one_line(here, capsys, text, says):
    if text:
        Path("c.yaml").write_text(text)
    code, out, err = told(capsys, kcnn.train.main, "--arch=resnet-18", "--phi=1", "--compound=c.yaml", "--dry-run")
    assert code == 2 and out == "" and says in err and err.count("\n") == 1


@pytest.fixture
def quick(monkeypatch):
    """Workers in this process, and trainings that take no time: resolution helps most."""
    begun = []

    def fit(config, callbacks):
        begun.append(config)
        Path(config.run_dir).mkdir(exist_ok=True)
        folders.write_json(Path(config.run_dir, folders.CLASSES), list("0123456789"))
        accuracy = 0.6 + 0.1 * (config.gamma or 1) + 0.001 * config.seed
        facts = kcnn.facts(resolve(config).arch, 10, stem="standard")
        figures = dict.fromkeys(FIGURES, 1.0) | {"val_accuracy": accuracy, "macs": facts.macs, "params": facts.params}
        return Result(Path(config.run_dir), figures)

    monkeypatch.setattr("trainers.fit", fit)
    monkeypatch.setattr(sweep, "carry_out", lambda trials, oracle, _: engine.work_alone(trials, oracle))
    return begun


def test_a_search_ends_with_the_best_and_its_family(here, capsys, quick, monkeypatch):
    monkeypatch.setattr(compound, "GRIDS", (3,))
    argv = (*FLAGS, "--trials", "3", "--tolerance", "0.4", "--seeds", "2", "--epochs", "1", "--run-dir", "c", "--json")
    code, out, _ = told(capsys, compound.main, *argv)
    figures = json.loads(out.splitlines()[-1])
    assert code == 0 and len(quick) == 2 * (1 + 3)
    best = max((c for c in quick if c.phi), key=lambda c: c.gamma)
    assert (figures["alpha"], figures["beta"], figures["gamma"]) == (best.alpha, best.beta, best.gamma)
    assert figures["product"] == pytest.approx(2, rel=1e-3)
    accuracy = statistics.mean(0.6 + 0.1 * best.gamma + 0.001 * seed for seed in (0, 1))
    assert figures["best"]["val_accuracy"] == pytest.approx(accuracy) and figures["best"]["trainings"] == 2
    assert figures["standard_error"] == pytest.approx(math.sqrt(accuracy * (1 - accuracy) / (2 * 355)))
    assert figures["base"]["val_accuracy"] == pytest.approx(0.7005)
    assert figures["paid"] is False and "here twice the cost did not pay" in out  # 4 points on 355 images, twice
    saved = yaml.safe_load(Path("c/compound.yaml").read_text())
    assert {"arch": "resnet-18", "resolution": 16, "stem": "small", "gamma": best.gamma}.items() <= saved.items()
    assert "<h2>The family</h2>" in Path("c/page.html").read_text()
    rows = [line.split() for line in out.splitlines() if line[:5].strip().isdigit()]
    assert [row[0] for row in rows] == [str(phi) for phi in range(8)]
    assert told(capsys, compound.main, *argv)[0] == 0 and len(quick) == 8  # it was all there
    code, _, err = told(capsys, compound.main, *(w.replace("0.5", "1") for w in argv))
    assert code == 2 and "c holds another search: depth is 0.5 there, 1.0 here" in err.replace("the default", "1.0")


def test_whether_twice_the_cost_pays():
    rows = [{"val_accuracy": accuracy} for accuracy in (0.93, 0.90, 0.91)]
    assert not compound.paid(0.95, rows, 1000) and not compound.paid(0.92, rows, 1000)
    assert compound.paid(0.80, rows, 1000) and not compound.paid(0.80, rows, 30)


@pytest.mark.parametrize("flags, says", [
    ("--arch resnet-19", "resnet-19"),
    ("--trials 0", "trials 0"),
    ("--seeds 0", "seeds 0"),
    ("--parallel 0", "parallel 0"),
    ("--trials 1" + "0" * 400, "trials 1000"),
    ("--seeds 1" + "0" * 18, "seeds 1000"),
    ("--tolerance nan", "tolerance nan"),
    ("--tolerance 0", "tolerance 0"),
    ("--tolerance 1", "tolerance 1"),
    ("--phi 1", "phi 1.0: leave it out"),
    ("--alpha 1.2", "alpha 1.2: leave it out"),
    ("--compound x.yaml", "compound 'x.yaml': leave it out"),
    ("--resume auto", "resume 'auto': leave it out"),
    ("--data nowhere/", "nowhere"),
    ("--batch-size 5000", "batch-size 5000"),
    ("--epochs 0", "epochs 0"),
])  # fmt: skip
def test_bad_input_is_one_line_and_leaves_nothing(here, capsys, flags, says):
    code, out, err = told(capsys, compound.main, *flags.split())
    assert code == 2 and out == "" and err.count("\n") == 1 and says in err
    assert list(here.iterdir()) == []


def test_help_teaches(capsys):
    code, out, _ = told(capsys, compound.main, "--help")
    assert code == 0 and all(flag in out for flag in ("--trials", "--tolerance", "--seeds", "--parallel", "--arch"))


@pytest.mark.slow
def test_a_tiny_search_trains_and_its_family_does(here, capsys, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    argv = (
        *FLAGS,
        "--trials",
        "2",
        "--epochs",
        "1",
        "--batch-size",
        "64",
        "--parallel",
        "2",
        "--run-dir",
        "c",
        "--json",
    )
    code, out, _ = told(capsys, compound.main, *argv)
    figures = json.loads(out.splitlines()[-1])
    assert code == 0 and figures["failed"] == 0 and len(figures["candidates"]) == 2
    words = shlex.split(figures["family"][1]["command"])[2:]
    code, out, _ = told(capsys, kcnn.train.main, *words, "--epochs=1", "--run-dir=one", "--json")
    assert code == 0 and json.loads(out.splitlines()[-1])["macs"] == figures["family"][1]["macs"]
    resumed = ("--resume", "auto", "--run-dir", "one", "--epochs", "1", "--json")
    assert told(capsys, kcnn.train.main, *words, *resumed)[0] == 0  # the same flags, of a run that has them resolved


def test_weights_are_refused(tmp_path):
    with pytest.raises(kcnn.InputError, match="weights 'imagenet': leave it out, they fit networks of one width"):
        compound.find_growth(
            TrainConfig(arch="resnet-18", weights="imagenet", run_dir=str(tmp_path)), compound.Method()
        )
