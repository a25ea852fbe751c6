"""`voclab export`: a network in another format answers as in Keras, or nothing is written."""

import json
import re
import subprocess
import sys
from importlib.util import find_spec

import keras
import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from voc_trees import content, fails

from voclab import cli
from voclab.app import export as exporting
from voclab.app import litert
from voclab.app.export import FORMATS, TOLERANCE, export
from voclab.app.litert import open_exported
from voclab.data.images import resized
from voclab.evaluation import open_saved
from voclab.files import write_json
from voclab.models.network import Network
from voclab.models.prediction import TestTime
from voclab.models.segmenters import build_unet
from voclab.training import Run

SIZE = 32
NAMES = ("cat", "dog", "猫")
THRESHOLDS = (0.2, 0.5, 0.7)
NEEDED = {"onnx": ("tf2onnx", "onnxruntime"), "litert": ("ai_edge_litert",)}


def needs(name):
    missing = [package for package in NEEDED.get(name, ()) if find_spec(package) is None]
    return pytest.mark.skipif(bool(missing), reason=f"needs {' and '.join(missing)}")


def classifier(dtype=None) -> keras.Model:
    inputs = keras.Input((None, None, 3), name="pixels")
    x = keras.layers.Conv2D(4, 3, 2, activation="relu", dtype=dtype, name="features")(inputs)
    x = keras.layers.BatchNormalization(dtype=dtype)(x)
    x = keras.layers.Dropout(0.5)(keras.layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, keras.layers.Dense(3, bias_initializer="normal")(x))


def saved(folder, model, task, **config):
    """The folder of a run."""
    run = Run(folder)
    folder.mkdir(parents=True)
    run.save_model(model)
    described = {"task": task, "class_names": NAMES, "experiment": {"recipe": {"size": SIZE}}}
    write_json(folder / "config.json", {**described, **config})
    return run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folder of a classifier and of a segmenter by name."""
    keras.utils.set_random_seed(0)
    root = tmp_path_factory.mktemp("runs")
    made = saved(root / "classifier", classifier(), "multilabel")
    made.save_predictions(test=np.zeros((2, 3), np.float32), thresholds=np.array(THRESHOLDS))
    looks = {"test_time": {"sizes": [32, 64], "flip": False}}
    described = {"recipe": {"size": SIZE}, "task": looks}
    saved(root / "segmenter", build_unet(4, width=4, depth=1), "segmentation", experiment=described)
    return {name: root / name for name in ("classifier", "segmenter")}


@pytest.fixture(scope="module")
def written(runs):
    """(network, format) -> the folder that the command wrote, made when it is first asked for."""
    kept = {}

    def of(name, to):
        if (name, to) not in kept:
            assert cli.main(["export", str(runs[name]), "--to", to]) == 0
            kept[name, to] = runs[name] / "export" / to
        return kept[name, to]

    return of


def images(count, height, width):
    return np.random.default_rng(1).random((count, height, width, 3), dtype=np.float32)


def answers(folder, to, pixels):
    """The logits of an exported network, asked as another program would."""
    if to == "savedmodel":
        import tensorflow as tf

        serve = tf.saved_model.load(str(folder / "1")).signatures["serving_default"]
        return serve(pixels=tf.constant(pixels))["output_0"].numpy()
    if to == "onnx":
        import onnxruntime

        return onnxruntime.InferenceSession(folder / "network.onnx").run(None, {"pixels": pixels})[0]
    return open_exported(folder).logits(pixels)


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("name", ["classifier", "segmenter"])
@pytest.mark.parametrize("to", ["savedmodel", pytest.param("onnx", marks=needs("onnx")), "litert"])
def test_a_network_answers_as_it_does_in_keras(name, to, runs, written):
    folder, network = written(name, to), open_saved(runs[name])
    assert {path.name for path in folder.iterdir()} == {FORMATS[to], "network.json"}
    sizes = [(2, SIZE, SIZE)] if to == "litert" else [(2, SIZE, SIZE), (1, 48, 40)]
    for pixels in (images(*size) for size in sizes):
        np.testing.assert_allclose(
            answers(folder, to, pixels), network.logits(pixels), rtol=0, atol=TOLERANCE
        )


def test_a_network_of_mixed_precision_is_written_in_float32(tmp_path):
    run = saved(tmp_path / "run", classifier("mixed_float16"), "multiclass")
    folder, plain = export(run.folder, "litert").folder, classifier()
    plain.set_weights(run.load_model().get_weights())
    pixels = images(1, SIZE, SIZE)
    close(open_exported(folder).logits(pixels), Network(plain, "multiclass").logits(pixels))


def test_the_card_says_how_to_read_the_answers(written):
    card = json.loads((written("classifier", "savedmodel") / "network.json").read_text())
    assert (card["task"], card["size"], card["name"]) == ("multilabel", SIZE, "classifier")
    assert tuple(card["class_names"]) == NAMES
    assert tuple(card["thresholds"]) == THRESHOLDS
    card = json.loads((written("segmenter", "savedmodel") / "network.json").read_text())
    assert (card["task"], card["thresholds"]) == ("segmentation", None)
    assert "background first" in card["output"]


def test_the_command_says_where_it_is_how_large_and_how_close(runs, tmp_path, capsys):
    command = ["export", str(runs["classifier"] / "model.keras"), "--to", "savedmodel", "--size", "40"]
    assert cli.main([*command, "--folder", str(tmp_path / "a b")]) == 0
    folder = tmp_path / "a b" / "savedmodel"
    said = capsys.readouterr().out
    assert re.fullmatch(rf"{folder}: 0\.\d MB; logits differ from Keras' by at most \S+\n", said)
    assert json.loads((folder / "network.json").read_text())["size"] == 40


# --- nothing half-written, nothing of others replaced ---


def test_an_export_is_replaced_and_nothing_else_is(runs, tmp_path):
    folder = export(runs["classifier"], "savedmodel", tmp_path, size=24).folder
    assert export(runs["classifier"], "savedmodel", tmp_path, size=40).folder == folder
    assert json.loads((folder / "network.json").read_text())["size"] == 40
    (folder / "2").mkdir()  # another version, as TensorFlow Serving takes them
    before = content(tmp_path)
    fails(
        "savedmodel is in the way, and voclab did not write it",
        export,
        runs["classifier"],
        "savedmodel",
        tmp_path,
    )
    assert content(tmp_path) == before
    (tmp_path / "litert").write_text("mine")
    fails("litert is in the way", export, runs["classifier"], "litert", tmp_path)
    assert (tmp_path / "litert").read_text() == "mine"


def test_other_answers_or_a_failing_converter_leave_what_was_there(runs, tmp_path, monkeypatch):
    export(runs["classifier"], "savedmodel", tmp_path)
    before = content(tmp_path)

    def other(network, path):
        path.write_text("x")
        return lambda pixels: network.logits(pixels) + 2e-4

    def failing(network, path):
        path.write_text("half")
        raise RuntimeError("no such operation\nmore")

    for writer, words in ((other, "a logit differs by 0.0002;"), (failing, r"\(no such operation\); choose")):
        monkeypatch.setitem(exporting._WRITERS, "savedmodel", writer)
        monkeypatch.setitem(exporting._WRITERS, "litert", writer)
        for to in ("savedmodel", "litert"):
            fails(words, export, runs["classifier"], to, tmp_path)
            assert content(tmp_path) == before
            assert [path.name for path in tmp_path.iterdir()] == ["savedmodel"]


# --- sentences before TensorFlow is imported ---


@pytest.mark.parametrize(
    ("model", "to", "words"),
    [
        ("{run}", "onnx", 'onnx needs tf2onnx and onnxruntime; install "voclab[export]".'),
        ("{run}", "coreml", "There is no format 'coreml'; choose one of savedmodel, onnx, litert."),
        ("nowhere", "litert", "nowhere is missing; name a run's folder, a .keras file, or ready."),
    ],
)
def test_a_slip_is_one_sentence_before_tensorflow_is_imported(model, to, words, runs):
    code = (
        "import sys; from voclab import cli; from voclab.app import export\n"
        "export.find_spec = lambda name: None\n"
        f"status = cli.main(['export', sys.argv[1], '--to', '{to}'])\n"
        "print(status, sorted({'tensorflow', 'keras'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, model.format(run=runs["classifier"])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("2 []\n", f"voclab: {words}\n")


# --- a run without its data set ---


def test_a_run_is_opened_without_a_data_set(runs):
    network = open_saved(runs["classifier"])
    assert (network.task, network.size, network.class_names) == ("multilabel", SIZE, NAMES)
    assert tuple(network.thresholds) == THRESHOLDS
    assert (network.name, network.layer) == ("classifier", "features")
    network = open_saved(runs["segmenter"] / "model.keras", 64)
    assert (network.task, network.size, network.thresholds) == ("segmentation", 64, None)
    assert (network.class_names, network.test_time) == (NAMES, TestTime((64,), flip=False))
    assert next(network.label_maps([np.zeros((50, 70, 3), np.uint8)])).shape == (50, 70)
    assert open_saved(runs["segmenter"]).test_time == TestTime((32, 64), flip=False)


def test_what_a_run_does_not_say_or_says_wrongly_is_refused(tmp_path):
    net = classifier()
    bare = tmp_path / "bare.keras"
    net.save(bare)
    fails("does not say whether an image has one class or several", open_saved, bare)
    for number, (task, config, words) in enumerate(
        [
            ("multiclass", {"experiment": {}}, "does not say at what size"),
            ("multiclass", {"class_names": ["a"]}, "names 1 classes, and the model tells 3 apart"),
            ("adversary", {}, "is neither a classifier nor a segmenter"),
            ("segmentation", {}, "is neither a classifier nor a segmenter"),
        ]
    ):
        fails(words, open_saved, saved(tmp_path / str(number), net, task, **config).folder)
    generator = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(3, 1)])
    fails("is neither a", open_saved, saved(tmp_path / "made", generator, "adversary").folder)
    run = saved(tmp_path / "other", net, "multilabel")
    run.save_predictions(thresholds=np.ones(2))
    fails(r"thresholds of shape \(2,\), and the model tells 3", open_saved, run.folder)
    run = saved(tmp_path / "unnamed", net, "multiclass", class_names=None)
    assert open_saved(run.folder).class_names == ()


# --- LiteRT without Keras ---


@needs("litert")
def test_litert_answers_without_keras(runs, written):
    pixels = images(2, SIZE, SIZE)
    code = (
        "import sys, numpy as np; from voclab.app.litert import open_exported\n"
        "network = open_exported(sys.argv[1])\n"
        f"pixels = np.random.default_rng(1).random({pixels.shape}, dtype=np.float32)\n"
        "assert network.runtime.startswith('LiteRT ')\n"
        "assert not {'tensorflow', 'keras', 'cv2', 'scipy'} & set(sys.modules)\n"
        "print(network.logits(pixels).tolist())"
    )
    command = [sys.executable, "-c", code, str(written("classifier", "litert"))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""  # what its C++ prints is kept from the terminal
    expected = open_saved(runs["classifier"]).logits(pixels)
    close(json.loads(done.stdout), expected)


def test_tensorflow_runs_what_litert_is_not_there_for(runs, written, monkeypatch):
    folder = written("classifier", "litert")
    there = ["tensorflow"]
    monkeypatch.setattr(litert, "find_spec", lambda name: name in there or None)
    network = open_exported(folder)
    assert network.runtime.startswith("TensorFlow ")
    pixels = images(1, SIZE, SIZE)
    expected = open_saved(runs["classifier"]).logits(pixels)
    close(network.logits(pixels), expected)
    there.clear()
    fails("Nothing here can run LiteRT files; install ai-edge-litert", open_exported, folder)


def test_what_litert_cannot_take_is_a_sentence(written, tmp_path):
    folder = written("classifier", "litert")
    fails(r"takes images of shape \(B, 32, 32, 3\), not", open_exported(folder).logits, images(1, 24, SIZE))
    other = written("classifier", "savedmodel")
    fails("savedmodel is an export to savedmodel; name one made with --to litert", open_exported, other)
    fails("network.json is missing", open_exported, tmp_path)
    write_json(tmp_path / "network.json", {"name": "x"})
    fails("network.tflite is missing", open_exported, tmp_path)
    whole = (folder / "network.tflite").read_bytes()
    (tmp_path / "network.tflite").write_bytes(whole)
    fails("network.json does not describe a network", open_exported, tmp_path)
    (tmp_path / "network.tflite").write_bytes(whole[:100])
    fails("network.tflite cannot be loaded", open_exported, tmp_path)


@pytest.mark.parametrize("name", ["classifier", "segmenter"])
def test_predict_takes_a_run_and_its_export(name, runs, written, tmp_path, capsys):
    Image.fromarray((255 * images(1, 40, 60)[0]).astype(np.uint8)).save(tmp_path / "a.png")
    said = []
    for model in (runs[name], written(name, "litert")):
        capsys.readouterr()
        assert cli.main(["predict", str(tmp_path / "a.png"), "--json", "--model", str(model)]) == 0
        said.append(json.loads(capsys.readouterr().out))
    assert [one["model"] for one in said] == [name] * 2
    assert said[0]["runtime"].startswith("Keras ")
    assert re.match("LiteRT |TensorFlow ", said[1]["runtime"])
    (keras_says,), (litert_says,) = (one["images"] for one in said)
    if name == "classifier":
        assert tuple(keras_says["classes"]) == NAMES
        assert keras_says["classes"] == pytest.approx(litert_says["classes"], abs=TOLERANCE)
        above = {k for k, t in zip(NAMES, THRESHOLDS) if keras_says["classes"][k] > t}
        assert set(keras_says["present"]) == set(litert_says["present"]) == above
        assert keras_says["regions"] is None
    else:  # which Keras is shown at its run's sizes, in their proportions
        assert keras_says["classes"] is None
        for regions in (keras_says["regions"], litert_says["regions"]):
            assert set(regions) <= {*NAMES}
            assert 0 <= sum(regions.values()) <= 1.00001


# --- the page ---

BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "serving.md").read_text("utf-8"), flags=re.S)


@pytest.mark.parametrize("to", [pytest.param(to, marks=needs(to)) for to in FORMATS])
def test_what_the_page_shows_works(to, runs, written, tmp_path, monkeypatch, capsys):
    (tmp_path / "runs" / "pets" / "export").mkdir(parents=True)
    (tmp_path / "runs" / "pets" / "export" / to).symlink_to(written("classifier", to))
    capsys.readouterr()
    image = (255 * images(1, 90, 120)[0]).astype(np.uint8)
    Image.fromarray(image).save(tmp_path / "photo.png")
    pixels = resized(image, SIZE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["request.py", "photo.png"])
    (block,) = (block for block in BLOCKS if f"export/{to}" in block)
    exec(block.replace("photo.jpg", "photo.png"), {})
    printed = capsys.readouterr().out
    if to == "savedmodel":
        np.testing.assert_allclose(json.loads(printed)["instances"], pixels[None], atol=1e-6)
        return
    logits = open_saved(runs["classifier"]).logits(pixels[None])[0]
    said = dict(line.rsplit(" ", 1) for line in printed.splitlines())
    assert list(said) == list(NAMES)
    np.testing.assert_allclose([float(p) for p in said.values()], 1 / (1 + np.exp(-logits)), atol=6e-4)
