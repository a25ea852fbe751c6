"""Every wrong option: one sentence that names what is allowed, and status 2, before Keras is imported."""

import io
import json
import os
import subprocess
import sys
import zipfile
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from voc_trees import fails

from voclab import options
from voclab.experiments import parameters
from voclab.experiments.options import LOSSES, SEGMENTERS, asked

HEAVY = ("tensorflow", "keras", "albumentations", "matplotlib")
SEED = "whole number, 0 or more and at most 4294967295"

# What is typed -> words of the sentence. NET looks like the folder of a run, DATA holds images by class.
WRONG = {
    "nonsense": "invalid choice",
    "train --nonsense": "unrecognized arguments: --nonsense",
    "": "required: COMMAND",
    # earlier names
    "pretrain --images 100": "`voclab pretrain` is gone; ImageNet weights take its place",
    "train --dataset DATA --model small_cnn --rate 0.1": "--rate is called --learning-rate now",
    "train --dataset DATA --model small_cnn --augmentations=none": (
        "--augmentations is called --augmentation now"
    ),
    "train --task adversary --dataset DATA --victim NET --mode image": "--mode is gone",
    "run 04 --pictures DATA": "--pictures is called --small-images now",
    "run 01 --weights source": "weights 'source' is gone; use auto, or imagenet with the backbone",
    # data
    "data make --seed -1": SEED,
    "data make --size -3": "--size is -3; choose a whole number, 48 or more",
    "data make --root FILE/toy": "FILE is a file; name a folder",
    "data info --data nowhere": "There is no folder nowhere, and no data set of that name; correct the path",
    "data info --data toyvoc --split nonsense": "no split 'nonsense'; choose one of train, val, trainval",
    "evaluate --model NET --data toycifar --split val": "no split 'val'; choose one of train, test",
    "data info --data DATA --split nonsense": "no split 'nonsense'; choose train or val",
    "data fetch kaggle": "--competition",
    "data export --data DATA": "--to",
    # run
    "run 99 --notebooks NOTEBOOKS": '"99" names no notebook of NOTEBOOKS; there is: 01_first, 02_second',
    "run 0 --notebooks NOTEBOOKS": "more than one notebook",
    "run 01 --notebooks nowhere": "no folder nowhere",
    "run 01 --profile huge": "no profile 'huge'; choose one of auto, smoke, demo, full",
    "run 01 --seed -1": SEED,
    "run 01 --backbone alexnet": "no backbone 'alexnet'; choose one of cnn",
    "run 01 --weights missing.h5": "missing.h5 does not exist",
    "run 01 --weights imagenet --backbone resnet8": "no ImageNet weights",
    "run 04 --small-images nowhere": "There is no folder nowhere",
    "run 03 --epsilon 0": "epsilon is 0; choose a number, 1 or more and at most 255",
    "run 01 --epsilon 4 --notebooks NOTEBOOKS": "its parameters are: profile, seed",
    "run 01 --out FILE": "FILE is a file",
    "run 01 --output NOTEBOOKS": "NOTEBOOKS, which is a folder; name a file",
    "run all --output one.ipynb --notebooks NOTEBOOKS": "Several notebooks cannot be saved in the one file",
    "run 01 --in-place --output a.ipynb": "not allowed with",
    "run 01 --in-place --data DATA --notebooks NOTEBOOKS": "may only show the embedded data",
    # train
    "train": "--dataset and --model must be named",
    "train --dataset DATA": "--model must be named",
    "train --dataset nowhere --model small_cnn": "There is no folder nowhere",
    "train --dataset DATA --model cnn": "cnn is now called small_cnn",
    "train --dataset DATA --model alexnet": "no model 'alexnet'; choose one of small_cnn, resnet8",
    "train --dataset DATA --model small_cnn --augmentation heavy": (
        "no augmentation 'heavy'; choose one of none"
    ),
    "train --dataset DATA --model small_cnn --optimizer adagrad": (
        "no optimizer 'adagrad'; choose one of adam, sgd"
    ),
    "train --dataset DATA --model small_cnn --epochs -1": "--epochs is -1; choose a whole number, 0 or more",
    "train --dataset DATA --model small_cnn --epochs 1000000000000": "at most 100000",
    "train --dataset DATA --model small_cnn --learning-rate 0": (
        "--learning-rate is 0; choose a number above 0"
    ),
    "train --dataset DATA --model small_cnn --batch-size 0": "--batch-size is 0",
    "train --dataset DATA --model small_cnn --size -3": "--size is -3; choose a whole number, 8 or more",
    "train --dataset DATA --model small_cnn --dropout 1.5": "--dropout is 1.5; choose a number, 0 or more",
    "train --dataset DATA --model small_cnn --width 0.5": "number of channels, such as 16",
    "train --dataset DATA --model efficientnet_b0 --width 0.5": "one width only",
    "train --dataset DATA --model resnet50 --width 8": "--width is for small_cnn, resnet8",
    "train --task sleep --dataset DATA --model small_cnn": "no task 'sleep'; choose one of classification",
    "train --task segmentation --dataset DATA --model resnet8": "no model 'resnet8'; choose one of unet",
    "train --dataset DATA --model unet": "no model 'unet'; choose one of small",
    "train --task segmentation --dataset DATA --model deeplab": "--backbone must be named",
    "train --task segmentation --dataset DATA --model unet --loss hinge": "no loss 'hinge'; choose one of",
    "train --task segmentation --dataset DATA --model unet --mixup 1": "--mixup is for classification, not",
    "train --task segmentation --dataset DATA --model unet --augmentation adversarial": "is for class",
    "train --dataset DATA --model small_cnn --loss dice": "--loss is for segmentation, not for class",
    "train --dataset DATA --model small_cnn --trades 6": "add --augmentation adversarial",
    "train --dataset DATA --model small_cnn --epsilon 4": "add --augmentation adversarial",
    "train --dataset DATA --model small_cnn --steps 5": "add --augmentation adversarial",
    "train --dataset DATA --model small_cnn --momentum 0.5": "add --optimizer sgd",
    "sweep --name s --dataset DATA --model small_cnn --search momentum=0.1:0.9": "add --optimizer sgd",
    "train --dataset DATA --model small_cnn --ema 1": "--ema is 1; choose a number",
    "train --task adversary --dataset DATA --victim NET --ema 0.9": "--ema is for classification",
    "train --task simsiam --dataset DATA --model small_cnn --augmentation none": "not for simsiam",
    "train --task simsiam --dataset DATA --model unet": "no model 'unet'",
    "train --task adversary --dataset DATA": "--victim must be named",
    "train --task adversary --dataset DATA --victim nowhere": "nowhere is missing; name a run's folder",
    "train --task adversary --dataset DATA --victim NET --weights imagenet": "is for classification, segm",
    "train --task adversary --dataset DATA --victim NET --epsilon 8": "is for classification, not for adv",
    "train --task adversary --dataset DATA --victim NET --width 0.5": "--width is 0.5; choose a whole number",
    "train --dataset DATA --model small_cnn --config missing.json": "missing.json is missing",
    "train --config FILE": "FILE is not readable JSON",
    "train --dataset DATA --model small_cnn --name ../elsewhere": "--name is '../elsewhere'",
    "train --dataset DATA --model small_cnn --runs FILE": "FILE is a file",
    # evaluate
    "evaluate": "--model",
    "evaluate --model nowhere": "nowhere is missing; name a run's folder, a .keras file, or ready",
    "evaluate --model FILE": "FILE is no .keras file",
    "evaluate --model BROKEN": "BROKEN cannot be loaded",
    "evaluate --model NET --data DATA --split test": "no split 'test'; choose train or val",
    "evaluate --model NET --data DATA --images 0": "--images is 0; choose a whole number, 1 or more",
    "evaluate --model NET --data DATA --noise rain --level 1": "no perturbation 'rain'; choose one of",
    "evaluate --model NET --data DATA --noise gaussian": "belong together",
    "evaluate --model NET --data DATA --noise gaussian --level -1": "0 or more",
    "evaluate --model NET --data DATA --noise gaussian --level 1e30": "at most 1000",
    "evaluate --model NET --data DATA --noise horizontal_flip --level 0.5": "0 or 1",
    "evaluate --model NET --data DATA --noise gaussian --level 1 --corruptions": "not allowed with",
    "evaluate --model NET --data DATA --figure DATA": "DATA, which is a folder",
    # visualize
    "visualize --model NET --data DATA": "--sample-id",
    "visualize --model nowhere --data DATA --sample-id 0": "nowhere is missing",
    "visualize --model NET --data DATA --sample-id 999": "no image 999; name an id such as",
    "visualize --model NET --data DATA --sample-id 0 --layers conv9": "no layer conv9 that gives a map",
    "visualize --model NET --data DATA --sample-id 0 --to FILE": "FILE is a file",
    # consistency
    "consistency --model vgg19": "vgg19 is missing; name a run's folder, a .keras file, or one of ready",
    "consistency --model vgg19=FILE": "no ImageNet classifier 'vgg19'; choose one of mobilenet",
    "consistency --model vgg16=missing.h5": "missing.h5 does not exist",
    "consistency --model vgg16:0.5": "one width",
    "consistency --model mobilenet:wide": "no number",
    "consistency --model mobilenet:nan": "width of mobilenet is nan",
    "consistency --model NET NET": "named twice",
    "consistency --model NET --image gone.jpg": "gone.jpg is missing",
    "consistency --model NET --data DATA --image a.jpg": "not allowed with",
    "consistency --model NET --data DATA --images 0": "--images is 0",
    "consistency --model NET --data DATA --split test": "no split 'test'",
    "consistency --model NET --data DATA --seed -1": SEED,
    "consistency --model NET --data DATA --to FILE": "FILE is a file",
    # robustness
    "robustness --model NET NET --data DATA": "named twice",
    "robustness --model NET --data DATA --baseline other": "baseline other is not among net",
    "robustness --model NET --data DATA --to FILE": "FILE is a file",
    # submissions, badges, gallery
    "submit check gone.csv": "gone.csv",
    "submit merge gone.csv --to new.csv": "gone.csv",
    "submit merge gone.csv --to DATA": "DATA, which is a folder",
    "submit push gone.csv": "--competition",
    "badges --repo nonsense": "'nonsense' is no repository; name it as OWNER/NAME",
}


def _files(folder: Path) -> dict[str, str]:
    """What the command lines name."""
    for name, shade in (("dark", 20), ("light", 200)):
        (folder / "images" / name).mkdir(parents=True)
        for k in range(5):
            Image.new("RGB", (20, 24), (shade,) * 3).save(folder / "images" / name / f"{k}.png")
    (folder / "net").mkdir()
    layers = [{"config": {"name": name}} for name in ("pixels", "conv1", "conv2")]
    with zipfile.ZipFile(folder / "net" / "model.keras", "w") as archive:
        archive.writestr("config.json", json.dumps({"config": {"layers": layers}}))
    (folder / "broken.keras").write_text("cut off")
    (folder / "note.txt").write_text("no JSON, no network")
    (folder / "notebooks").mkdir()
    for name in ("01_first", "02_second"):
        cell = {"cell_type": "code", "id": "a", "metadata": {"tags": ["parameters"]}, "outputs": []}
        cell |= {"source": 'profile = "auto"\nseed = 0\ndata = None', "execution_count": None}
        notebook = {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
        (folder / "notebooks" / f"{name}.ipynb").write_text(json.dumps(notebook))
    names = {"DATA": "images", "NET": "net", "BROKEN": "broken.keras", "FILE": "note.txt"}
    return {key: str(folder / name) for key, name in {**names, "NOTEBOOKS": "notebooks"}.items()}


def _named(text: str, files: dict[str, str]) -> str:
    for word, path in files.items():
        text = text.replace(word, path)
    return text


class _Refuse:
    """Lets none of the heavy packages be imported."""

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in HEAVY:
            raise AssertionError(f"{name} was imported")


def _run(commands: list[list[str]]) -> list[dict]:
    """Status and output of each command line, in this process, without heavy packages."""
    from voclab import cli

    found = []
    for command in commands:
        out, error = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(error):
            try:
                status = cli.main(command)
            except BaseException as problem:
                status = repr(problem)
        found.append({"status": status, "error": error.getvalue()})
    return found


if __name__ == "__main__":  # the process that the test below starts
    sys.meta_path.insert(0, _Refuse())
    print(json.dumps(_run(json.load(sys.stdin))))


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """Command line -> what it answered, all in one process that can import no heavy package."""
    import shlex

    folder = tmp_path_factory.mktemp("options")
    files = _files(folder)
    work = folder / "work"
    work.mkdir()
    typed = [shlex.split(_named(text, files)) for text in WRONG]
    done = subprocess.run(
        [sys.executable, __file__],
        input=json.dumps(typed),
        capture_output=True,
        text=True,
        cwd=work,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert done.returncode == 0, done.stderr
    assert not list(work.iterdir()), "a command that was refused wrote something"
    return dict(zip(WRONG, json.loads(done.stdout), strict=True)), files


@pytest.mark.parametrize("typed", WRONG)
def test_a_wrong_option_is_one_sentence_before_anything_heavy_is_imported(typed, answers):
    answer, files = answers[0][typed], answers[1]
    assert answer["status"] == 2, answer["error"]
    assert answer["error"].startswith("voclab: ")
    assert answer["error"].count("\n") == 1
    assert _named(WRONG[typed], files) in answer["error"]


@pytest.mark.parametrize(
    ("check", "value", "result"),
    [
        (options.whole, "7", 7),
        (options.whole, 7.0, 7),
        (options.whole, np.int64(7), 7),
        (options.seed, 2**32 - 1, 2**32 - 1),
        (options.number, "1e-3", 0.001),
        (options.number, np.float32(0.5), 0.5),
        (options.positive, 3, 3.0),
        (options.bound, "8", 8.0),
        (options.text, Path("a b"), "a b"),
    ],
)
def test_what_makes_sense_is_taken(check, value, result):
    assert check("--it", value) == result
    assert type(check("--it", value)) is type(result)


@pytest.mark.parametrize("check", [options.whole, options.number, options.seed, options.positive])
@pytest.mark.parametrize(
    "value",
    [None, True, " ", "x", "-1", float("nan"), float("inf"), [], "9" * 5000, 10**400, 1j, b"1"],
    ids=lambda value: repr(value)[:20],
)
def test_what_is_no_number_is_refused_on_one_line(check, value):
    problem = fails("--it is ", check, "--it", value)
    assert len(str(problem)) < 250


def test_a_wrong_value_of_any_kind_in_a_configuration_is_one_sentence(tmp_path):
    path = tmp_path / "config.json"
    good = {"dataset": "toycifar", "model": "small_cnn"}
    for found, words in (
        ([], "not of a run"),
        ({"model": "small_cnn"}, "not of a run"),
        (good | {"dataset": 3}, "dataset in .*config.json is 3"),
        (good | {"model": ["small_cnn"]}, "no model in .*config.json"),
        (good | {"epochs": "ten"}, "epochs in .*config.json is ten"),
        (good | {"epochs": None}, "epochs in .* is None"),
        (good | {"seed": True}, "seed in .* is True"),
        (good | {"learning_rate": [1]}, r"rate in .* is \[1\]"),
        (good | {"validation": 1}, "validation in .* is 1"),
        (good | {"rate": 1}, "the option rate, which `voclab train` does not know"),
    ):
        path.write_text(json.dumps({"asked": found}))
        fails(words, asked, {}, path)
    for text in ("", "{", "3", "[]", "null", '{"asked": 3}', "[" * 100_000, "\ufeff\x00"):
        path.write_text(text)
        fails("config.json", asked, {}, path)
    path.write_bytes(b"\xff\xfe{}")
    fails("config.json", asked, {}, path)


def test_options_are_taken_as_they_were_meant(tmp_path):
    found = asked(
        {"dataset": "toycifar", "model": "small_cnn", "epochs": "3", "width": 4}
        | {"augmentation": "adversarial", "epsilon": 16}
    )
    expected = {
        "task": "classification",
        "epochs": 3,
        "epsilon": 16.0,
        "learning_rate": None,
        "width": 4.0,
    }
    assert {name: found[name] for name in expected} == expected
    assert "loss" not in found  # of segmenters
    path = tmp_path / "config.json"
    kept = {"dataset": "toycifar", "model": "resnet8", "seed": 4, "size": None}
    path.write_text(json.dumps({"asked": kept}))
    assert asked({"seed": 5}, path) == asked({"dataset": "toycifar", "model": "resnet8", "seed": 5})
    assert asked(asked({"dataset": "d", "task": "segmentation", "model": "unet"}))["batch_size"] == 16


def test_what_is_offered_before_keras_is_imported_is_what_there_is():
    from voclab.losses import LOSSES as losses
    from voclab.models.segmenters import SEGMENTERS as segmenters

    assert (tuple(losses), tuple(segmenters)) == (LOSSES, SEGMENTERS)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"profile": "huge"}, "no profile 'huge'; choose one of auto, smoke, demo, full"),
        ({"seed": None}, "seed is None"),
        ({"weights": None}, "weights is None"),
        ({"epsilon": "much"}, "epsilon is much"),
        ({"data": 3}, "data is 3"),
    ],
)
def test_parameters_of_a_notebook_are_checked(given, words):
    fails(words, parameters.check, **given)
