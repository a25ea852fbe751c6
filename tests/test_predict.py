"""`voclab predict`: what the network that comes with the package says of free photos, and what is written."""

import importlib.resources
import json
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec

import cv2
import numpy as np
import pytest
from PIL import Image
from voc_trees import content

from voclab import cli, plotting
from voclab.app import litert
from voclab.app import predict as predicting
from voclab.cli import predict as command
from voclab.data import masks
from voclab.data.base import VOC_CLASSES, voc_palette
from voclab.data.decoding import decode
from voclab.data.images import resized
from voclab.models import ready

PHOTOS = ("astronaut", "camera", "chelsea", "coffee")
needs_litert = pytest.mark.skipif(not find_spec("ai_edge_litert"), reason="needs ai-edge-litert")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of the free photos that come with scikit-image."""
    folder = tmp_path_factory.mktemp("photos")
    for name in PHOTOS:
        shutil.copy(importlib.resources.files("skimage.data") / f"{name}.png", folder)
    return folder


def predict(capsys, *arguments):
    """(exit status, standard output, standard error) of the command."""
    capsys.readouterr()
    status = cli.main(["predict", *map(str, arguments)])
    said = capsys.readouterr()
    return status, said.out, said.err


@pytest.fixture
def answered(photos, tmp_path, capsys):
    """What the command says of all of them as JSON, and the folder that it wrote."""
    status, out, err = predict(capsys, photos, "--to", tmp_path / "out", "--json")
    assert (status, err.count("\n")) == (0, 1)
    return json.loads(out), tmp_path / "out"


# --- the answers ---


def test_it_finds_the_cat_and_the_people(photos, capsys):
    status, out, err = predict(capsys, photos)
    lines = dict(line.removeprefix(f"{photos}/").split(".png: ") for line in out.splitlines())
    assert (status, list(lines)) == (0, list(PHOTOS))
    found = {
        name: re.match(r"(?!unsure)(\w+) >?\d+ %.*; pixels: \1 \d+ %", said) for name, said in lines.items()
    }
    assert [found[name][1] for name in PHOTOS[:3]] == ["person", "person", "cat"]
    assert all(len(line) < 100 for line in lines.values())
    assert re.fullmatch(r"(LiteRT|TensorFlow) [\d.]+ answered 4 images, \d+ ms each\n", err)


def test_json_says_all_of_it(answered, photos):
    said, folder = answered
    assert (said["model"], said["failed"]) == ("ready", [])
    assert re.match("LiteRT |TensorFlow ", said["runtime"])
    for name, image in zip(PHOTOS, said["images"], strict=True):
        assert image["file"] == str(photos / f"{name}.png")
        assert tuple(image["size"]) == Image.open(image["file"]).size
        assert tuple(image["classes"]) == VOC_CLASSES
        assert all(0 <= p <= 1 for p in image["classes"].values())
        above = [c for c, t in zip(VOC_CLASSES, ready.card()["thresholds"]) if image["classes"][c] > t]
        assert image["present"] == sorted(above, key=lambda c: -image["classes"][c])
        assert list(image["regions"].values()) == sorted(image["regions"].values(), reverse=True)
        written = {"mask": f"{name}.png", "overlay": f"{name}_overlay.jpg"}
        assert image["files"] == {what: str(folder / file) for what, file in written.items()}
    assert len(list(folder.iterdir())) == 8


def test_label_maps_are_those_of_voc_and_overlays_those_of_the_figures(answered):
    for image in answered[0]["images"]:
        path, photo = image["files"]["mask"], decode(image["file"])
        mask = masks.decode(path)
        assert Image.open(path).mode == "P"
        assert Image.open(path).getpalette() == voc_palette().ravel().tolist()
        np.testing.assert_array_equal(mask, np.asarray(Image.open(path)))
        assert mask.shape == photo.shape[:2]
        for k, name in enumerate(VOC_CLASSES, 1):
            assert (mask == k).mean() == pytest.approx(image["regions"].get(name, 0), abs=1e-6)
        shown = decode(image["files"]["overlay"])
        assert np.abs(shown.astype(float) - plotting.overlay(photo, mask)).mean() < 4  # JPEG
    cat = masks.decode(answered[0]["images"][2]["files"]["mask"]) == VOC_CLASSES.index("cat") + 1
    assert cat[100:200, 150:300].mean() > 0.9  # its face


def test_it_is_unsure_where_nothing_is_above_its_threshold():
    said = np.array([0.2, 0.4]), np.zeros((5, 5), np.uint8)
    names, thresholds = ("cat", "dog"), np.full(2, 0.5)
    answering = predicting.Answering(lambda image: said, "none", "pets", names, thresholds, places=True)
    path = importlib.resources.files("skimage.data") / "chelsea.png"
    assert predicting.predict(answering, path).text() == "unsure, perhaps dog 40 %; pixels: background only"


def test_the_network_for_litert_is_the_one_for_keras(photos):
    """The same weights, rounded in another way."""
    image = decode(photos / "chelsea.png")
    pixels = resized(image, ready.card()["size"])
    answers, _ = litert.interpreter(ready.FOLDER / ready.LITE)
    found = answers(pixels[None])
    presence = np.asarray(ready.load(ready.CLASSIFIER)([pixels[None]]))
    np.testing.assert_allclose(found["presence"], presence, atol=0.2)
    labels = np.asarray(ready.load(ready.SEGMENTER)([pixels[None]]))[0].argmax(-1)
    places = cv2.resize(found["places"][0], labels.shape[::-1]).argmax(-1)
    assert (labels == places).mean() > 0.99


# --- images of all kinds ---


def test_images_of_all_kinds(photos, tmp_path, capsys):
    folder, out = tmp_path / "my 写真", tmp_path / "out"
    folder.mkdir()
    cat = Image.open(photos / "chelsea.png")
    cat.convert("L").save(folder / "grau größer.png")
    Image.fromarray(np.asarray(cat.convert("L")).astype(np.uint16) * 257).save(folder / "16 bit.png")
    transparent = cat.convert("RGBA")
    transparent.putalpha(255)
    transparent.save(folder / "猫.webp", lossless=True)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90°
    cat.transpose(Image.Transpose.ROTATE_90).save(folder / "upright.jpg", exif=exif)
    cat.save(folder / f"{'長' * 83}.png")  # as long as a name can be, 253 bytes
    (folder / "notes.txt").write_text("no image")
    status, said, err = predict(capsys, folder, "--to", out, "--json")
    images = {image["file"].rpartition("/")[2]: image for image in json.loads(said)["images"]}
    assert (status, len(images)) == (0, 5)
    assert all(image["present"][0] == "cat" for image in images.values())
    assert {tuple(image["size"]) for image in images.values()} == {cat.size}
    assert all(masks.decode(image["files"]["mask"]).shape == cat.size[::-1] for image in images.values())
    assert f"{folder}: left out 1 file that cannot be read as an image (.txt).\n" in err


def test_a_large_photo_keeps_its_size_and_no_more_is_computed(photos, tmp_path, capsys):
    Image.open(photos / "chelsea.png").resize((3000, 2000)).save(tmp_path / "large.jpg")
    answering = predicting.open_answering()
    prediction = predicting.predict(answering, tmp_path / "large.jpg")
    assert prediction.present[0] == "cat"
    assert prediction.labels.shape == (683, 1024)
    assert (prediction.mask.shape, prediction.mask.dtype) == ((2000, 3000), np.uint8)
    predicting.write(prediction, (tmp_path / "mask.png", tmp_path / "overlay.jpg"))
    np.testing.assert_array_equal(masks.decode(tmp_path / "mask.png"), prediction.mask)
    assert Image.open(tmp_path / "overlay.jpg").size == (1024, 683)
    Image.new("RGB", (1, 3000)).save(tmp_path / "thin.png")
    assert predicting.predict(answering, tmp_path / "thin.png").labels.shape == (1024, 1)


# --- nothing is lost ---


def small(path, photos, colour="RGB"):
    """One of the photos, small, at a path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.open(photos / "chelsea.png").resize((60, 40)).convert(colour).save(path)
    return path


def test_images_of_one_name_do_not_overwrite_each_other(photos, tmp_path, capsys):
    files = [small(tmp_path / name, photos) for name in ("a/x.jpg", "a/x.png", "b/X.png", "b/x-2.png")]
    out = tmp_path / "out"
    status, said, err = predict(capsys, *files, files[0], "--to", out, "--json")
    assert status == 0
    written = [image["files"]["mask"] for image in json.loads(said)["images"]]
    assert written == [str(out / name) for name in ("x.png", "x-2.png", "X-3.png", "x-2-2.png")]
    assert len(list(out.iterdir())) == 8
    assert f"The label map of {files[1]} is {written[1]}: its name is taken, or too long.\n" in err
    assert str(files[0]) not in err


def test_earlier_predictions_are_replaced_and_nothing_else_is(photos, tmp_path, capsys):
    file, out = small(tmp_path / "in" / "x.jpg", photos), tmp_path / "out"
    assert predict(capsys, file, "--to", out)[0] == 0
    assert predict(capsys, file, "--to", out)[0] == 0
    assert len(list(out.iterdir())) == 2
    for name in ("x.png", "x_overlay.jpg"):
        small(out / name, photos)
        before = content(out)
        status, said, err = predict(capsys, file, "--to", out)
        assert (status, said) == (2, "")
        assert err == (
            f"voclab: {out / name} is in the way, and `voclab predict` did not write it; move it, or name"
            " another folder with --to.\n"
        )
        assert content(out) == before
        (out / name).unlink()


def test_images_that_are_looked_at_are_never_written_over(photos, tmp_path, capsys):
    file = small(tmp_path / "x.png", photos)
    before = content(tmp_path)
    for arguments, words in (
        ((file, "--to", tmp_path), "is an image that is looked at; name another folder with --to."),
        (
            (tmp_path, "--to", tmp_path),
            "holds the images themselves, and what is written would lie among them",
        ),
    ):
        status, said, err = predict(capsys, *arguments)
        assert (status, said) == (2, "")
        assert words in err
    assert content(tmp_path) == before


# --- what cannot be answered ---


def test_a_damaged_image_among_others_is_named_and_the_others_are_answered(photos, tmp_path, capsys):
    for name in ("a.png", "c.png"):
        small(tmp_path / name, photos)
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:500])
    status, said, err = predict(capsys, tmp_path)
    assert (status, [line[: -len(line.partition(": ")[2])] for line in said.splitlines()]) == (
        2,
        [f"{tmp_path / name}: " for name in ("a.png", "c.png")],
    )
    assert re.search(rf"^voclab: {tmp_path / 'b.png'} is a damaged image.*\.$", err, flags=re.M)
    assert "answered 2 images" in err
    status, said, _ = predict(capsys, tmp_path, "--json")
    assert (status, [image["file"] for image in json.loads(said)["failed"]]) == (2, [str(tmp_path / "b.png")])
    status, said, err = predict(capsys, tmp_path / "b.png")
    assert (status, said, err.count("\n")) == (2, "", 1)


def test_slips_are_a_sentence_each(photos, tmp_path, capsys, monkeypatch):
    file = photos / "chelsea.png"
    (tmp_path / "empty").mkdir()
    for arguments, words in (
        ([file, tmp_path / "none.jpg"], "none.jpg is missing; name an image or a folder of images."),
        ([tmp_path / "empty"], "empty holds no images itself; name a folder that does."),
        ([file, "--model", "nowhere"], "nowhere is missing; name a run's folder, a .keras file, or ready."),
    ):
        status, said, err = predict(capsys, *arguments)
        assert (status, said, err.count("\n")) == (2, "", 1)
        assert words in err
    monkeypatch.setattr(litert, "find_spec", lambda name: None)
    status, said, err = predict(capsys, file)
    assert (status, said) == (2, "")
    assert "Nothing here can run LiteRT files; install ai-edge-litert" in err


def test_a_classifier_writes_no_label_maps(photos, tmp_path, capsys, monkeypatch):
    def look(image):
        return np.array([0.2, 0.8]), None

    answering = predicting.Answering(look, "none", "pets", ("cat", "dog"), None, places=False)
    monkeypatch.setattr(predicting, "open_answering", lambda model: answering)
    status, _, err = predict(capsys, photos / "chelsea.png", "--to", tmp_path / "out")
    assert (status, err) == (2, "voclab: pets says nothing of places; leave --to out, or name a segmenter.\n")
    assert predict(capsys, photos / "chelsea.png")[1] == f"{photos / 'chelsea.png'}: dog 80 %\n"


# --- in the shell ---


def test_on_a_terminal_it_says_how_long_it_takes(photos, capsys, monkeypatch):
    shown = []
    monkeypatch.setattr(command, "tell_in_place", shown.append)
    predict(capsys, photos)
    assert [line for line in shown if re.fullmatch(r"\d of 4 images, about \d+ s left", line)] == shown[1::2]
    assert len(shown) == 7


@needs_litert
def test_no_tensorflow_is_imported(photos, tmp_path):
    heavy = ("tensorflow", "keras", "matplotlib", "skimage", "pandas", "scipy", "sklearn")
    code = (
        "import sys; from voclab import cli\n"
        "assert cli.main(['predict', *sys.argv[1:]]) == 0\n"
        f"assert not set({heavy}) & set(sys.modules), set({heavy}) & set(sys.modules)"
    )
    given = [sys.executable, "-c", code, str(photos / "chelsea.png"), "--to", str(tmp_path / "out")]
    done = subprocess.run(given, capture_output=True, text=True, check=True)
    assert done.stdout.count("\n") == 1
    assert re.fullmatch(r"LiteRT .* answered 1 image, .*\n", done.stderr)


def test_a_pipe_that_closes_early_ends_it_quietly(photos):
    given = [sys.executable, "-m", "voclab", "predict", str(photos)]
    with subprocess.Popen(given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert "astronaut.png: person" in running.stdout.readline()
        running.stdout.close()
        assert running.stderr.read() == ""
    assert running.returncode == 0
