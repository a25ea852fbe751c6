"""`voclab app`: what it answers on networks whose answers are known, without Gradio."""

import json
import os
import re
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import requests
from colour_networks import COLOURS, SIZE, colour_classifier, colour_segmenter, painted
from PIL import Image
from voc_trees import fails

from voclab import cli
from voclab.app import demo
from voclab.app.demo import Answers
from voclab.corruptions import CONSISTENCY
from voclab.data.base import voc_palette
from voclab.data.images import at_size, eight_bit
from voclab.models.network import Network


@pytest.fixture(scope="module")
def answers():
    return Answers(colour_classifier(), colour_segmenter())


def test_classes_are_those_of_the_whole_photo_at_the_size_of_the_network(answers):
    photo = painted("green")
    seen = answers.look(photo)
    logits = answers.classifier.logits(eight_bit(at_size(photo, SIZE)[None]))[0]
    assert list(seen.classes) == list(COLOURS)
    assert list(seen.classes.values()) == pytest.approx(list(1 / (1 + np.exp(-logits))))
    assert seen.top == "green"
    assert seen.said() == f"green {100 * seen.classes['green']:.0f}\N{NO-BREAK SPACE}%"


def test_one_class_an_image_gets_shares_that_sum_to_one():
    network = colour_classifier()
    single = Network(network.model, "multiclass", size=SIZE, class_names=COLOURS)
    seen = Answers(single).look(painted("red"))
    assert sum(seen.classes.values()) == pytest.approx(1)
    assert seen.regions is None


def test_regions_have_the_colours_and_shares_of_their_legend(answers):
    seen = answers.look(painted("blue"))
    ((name, colour, share),) = seen.regions.legend
    assert (name, colour) == ("blue", tuple(voc_palette()[3]))
    assert share == pytest.approx(0.25, abs=0.03)
    assert seen.regions.overlay.shape == (60, 90, 3)
    assert np.allclose(seen.regions.overlay[10, 20], 0.55 * voc_palette()[3], atol=120)


def test_grad_cam_is_bright_where_the_class_is(answers):
    photo = painted("red")
    heat = answers.heat(photo, "red").astype(int)
    assert heat.shape == photo.shape
    assert heat[:20, :30].mean() > heat[40:, 60:].mean() + 20
    fails("no class 'pink'; choose one of red, green, blue", answers.heat, photo, "pink")


@pytest.mark.parametrize("name", ["FGSM", "PGD"])
def test_an_attack_within_its_bound_fools_the_classifier_and_noise_does_not(answers, name):
    photo = painted("red")
    done = answers.attack(photo, name, 4)
    change = done.image.astype(int) - at_size(photo, SIZE)
    assert np.abs(change).max() == 4
    assert done.before.top == "red" != done.after.top
    assert done.verdict.startswith(f"Fooled: {done.before.said()} became {done.after.said()}. No value")
    assert "more than 4 of 255" in done.verdict
    assert done.shown.shape == done.perturbation.shape == (32, 48, 3)  # in the photo's proportions
    assert done.factor == 31
    control = answers.attack(photo, "noise", 4)
    assert control.after.top == "red"
    assert control.verdict.startswith("Not fooled: red")


def test_without_a_bound_nothing_changes(answers):
    photo = painted("red")
    done = answers.attack(photo, "PGD", 0)
    assert np.array_equal(done.image, at_size(photo, SIZE))
    assert (done.perturbation == 128).all()
    assert done.before.classes == done.after.classes
    assert done.verdict.endswith("Nothing was changed.")


def test_the_segmenter_can_be_attacked_too(answers):
    photo = np.full((40, 40, 3), 120, np.uint8)
    photo[:, :, 0] = 145  # just red enough
    before = answers.look(photo).regions.legend
    done = answers.attack(photo, "FGSM", 16, "segmenter")
    assert before[0][0] == "red"
    assert done.before.regions.legend == before
    assert done.after.regions.legend != before
    assert done.verdict.startswith("100 % of the pixels change their label.")


def test_jpeg_undoes_what_nobody_sees(answers):
    photo = painted("red")
    done = answers.attack(photo, "FGSM", 2)
    assert done.after.top != "red"
    assert answers.compressed(photo, done.image, 30).top == "red"


def test_ten_perturbations_with_their_strengths(answers):
    photo = painted("green")
    found = answers.perturbations(photo, 0.5)
    assert len(found) == len(CONSISTENCY) == 10
    captions = [caption for _, caption in found]
    assert captions[0].startswith("more brightness 0.1: green ")
    assert any(caption.startswith("rotation by 90°: green ") for caption in captions)
    shapes = {caption.split(":")[0]: image.shape for image, caption in found}
    assert shapes["rotation by 90°"] == (48, 32, 3)  # a photo that lies is then upright
    assert shapes["vertical flip"] == (32, 48, 3)
    still = answers.perturbations(photo, 0)
    assert still[0][1].endswith(answers.look(photo).said())


def test_a_photo_is_upright_and_not_larger_than_is_needed(tmp_path):
    large = Image.fromarray(painted("red", (300, 2000)))
    exif = Image.Exif()
    exif[0x0112] = 6
    large.save(tmp_path / "large.jpg", exif=exif)
    assert demo.open_photo(tmp_path / "large.jpg").shape == (1024, 154, 3)
    deep = np.full((8, 8), 2**15, np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert demo.open_photo(tmp_path / "deep.png")[0, 0].tolist() == [128] * 3


def test_a_file_that_is_no_photo_is_called_by_its_name(tmp_path):
    for content, words in (
        (b"", "is empty"),
        (b"<html>", "is a web page"),
        (b"abc", "damaged image, or none"),
    ):
        (tmp_path / "x.jpg").write_bytes(content)
        message = fails(words, demo.open_photo, tmp_path / "x.jpg")
        assert message.startswith("x.jpg ")


def test_photos_of_any_shape_are_answered(answers):
    for shape in ((1, 1), (1, 900), (700, 3)):
        photo = np.full((*shape, 3), 99, np.uint8)
        done = answers.attack(photo, "noise", 1)
        assert max(done.shown.shape) <= demo.LONGEST
        assert len(answers.perturbations(photo, 1)) == 10
        assert answers.look(photo).regions.overlay.shape == photo.shape


def test_networks_that_cannot_answer_are_refused():
    fails("pixels is no classifier; name it with --segmenter", Answers, colour_segmenter())
    fails("colours is no segmenter; name it with --model", Answers, colour_classifier(), colour_classifier())
    nameless = Network(colour_classifier().model, "multilabel", "nameless", size=SIZE)
    fails("nameless does not name its classes", Answers, nameless)


def test_examples_are_images_that_can_be_read(tmp_path):
    found = demo.write_examples(tmp_path)
    assert [path.name for path in found[:3]] == ["chelsea.png", "astronaut.png", "coffee.png"]
    assert len(found) == 5
    for path in found:
        photo = demo.open_photo(path)
        assert min(photo.shape[:2]) >= 270
        assert photo.std() > 20


def test_without_a_network_or_gradio_there_is_one_sentence(monkeypatch, capsys):
    monkeypatch.setattr(cli.app.importlib.metadata, "version", lambda name: "6.24.0")
    assert cli.main(["app", "--model", "nowhere"]) == 2
    assert "nowhere is missing" in capsys.readouterr().err
    for old in ("3.50.2", "6.23.1"):
        monkeypatch.setattr(cli.app.importlib.metadata, "version", lambda name, old=old: old)
        assert cli.main(["app"]) == 2
        assert f"Gradio 6.24 or newer, and {old} is installed" in capsys.readouterr().err

    def missing(name):
        raise cli.app.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(cli.app.importlib.metadata, "version", missing)
    assert cli.main(["app", "--model", "nowhere"]) == 2
    error = capsys.readouterr().err
    assert error == 'voclab: The page needs Gradio; install it with pip install "voclab[app]".\n'


def served(monkeypatch, *options):
    """The answers of the page that `voclab app` would serve with these options."""
    pytest.importorskip("gradio", reason='needs Gradio (pip install "voclab[app]")')
    from voclab.app import page

    found = []

    @contextmanager
    def serve(answers, port, host):
        found.append(answers)
        yield "http://127.0.0.1"

    monkeypatch.setattr(page, "served", serve)
    monkeypatch.setattr(page, "wait", lambda: None)
    monkeypatch.setattr(Answers, "warm_up", lambda self: None)
    cli.app.app(cli.parser().parse_args(["app", *options]))
    return found[0]


def test_without_options_the_networks_that_come_with_the_package_see_the_cat(monkeypatch, tmp_path):
    answers = served(monkeypatch)
    chelsea = demo.open_photo(demo.write_examples(tmp_path)[0])
    seen = answers.look(chelsea)
    assert seen.top == "cat"
    assert seen.classes["cat"] > 0.5
    (name, _, share), *_ = seen.regions.legend
    assert name == "cat"
    assert 0.5 < share < 1
    heat = answers.heat(chelsea, "cat").astype(int)
    assert heat.shape == chelsea.shape
    assert heat[60:200, 120:330].mean() > heat[:40, :40].mean()  # the face, rather than the cushion's corner


def test_a_segmenter_comes_with_the_ready_classifier_only(runs, monkeypatch):
    own = served(monkeypatch, "--model", runs[0])
    assert own.segmenter is None
    both = served(monkeypatch, "--model", runs[0], "--segmenter", runs[1])
    assert list(both.victims) == ["classifier", "segmenter"]


@pytest.fixture
def runs(tmp_path):
    """Both networks as `voclab train` leaves them."""
    folders = []
    for network in (colour_classifier(), colour_segmenter()):
        folder = tmp_path / network.name
        folder.mkdir()
        network.model.save(folder / "model.keras")
        config = {"task": network.task, "class_names": COLOURS, "experiment": {"recipe": {"size": SIZE}}}
        (folder / "config.json").write_text(json.dumps(config))
        folders.append(str(folder))
    return folders


def test_the_page_is_served_to_this_computer_and_leaves_nothing(runs, monkeypatch):
    pytest.importorskip("gradio", reason='needs Gradio (pip install "voclab[app]")')
    from voclab.app import page

    said, seen = [], {}

    def run(*options):
        cli.app.app(cli.parser().parse_args(["app", *options]))

    def visit():
        url = seen["url"] = re.search("http://[^;]+", said[-1])[0]
        seen["folder"] = Path(os.environ["GRADIO_TEMP_DIR"])
        assert list(seen["folder"].rglob("chelsea.png"))
        large = {"files": ("large.jpg", bytes(27_000_000))}
        assert requests.post(f"{url}gradio_api/upload", files=large).status_code == 413
        assert "was not uploaded by a user" in opened(url, runs[0] + "/config.json")
        fails(
            "Port .* is taken; name another one", run, "--model", runs[0], "--port", str(urlsplit(url).port)
        )

    # Not by capsys: what Gradio does to logging closes the stream that TensorFlow found when it was imported.
    monkeypatch.setattr(cli.app, "say", lambda line, **_: said.append(line))
    monkeypatch.setattr(page, "wait", visit)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")  # as universities have them, but dead
    monkeypatch.setenv("NO_PROXY", "")
    run("--model", runs[0], "--segmenter", runs[1])
    assert urlsplit(seen["url"]).hostname == "127.0.0.1"
    assert not seen["folder"].exists()
    with pytest.raises(requests.ConnectionError):
        requests.get(seen["url"])
    fails("is no classifier; name it with --segmenter", run, "--model", runs[1])


def opened(url: str, path: str) -> str:
    """What the page answers to somebody who names a file of this computer as the photo."""
    dependencies = requests.get(f"{url}config").json()["dependencies"]
    number = next(d["id"] for d in dependencies if any(event == "load" for _, event in d["targets"]))
    file = {"path": path, "meta": {"_type": "gradio.FileData"}}
    call = {"data": [file], "fn_index": number, "session_hash": "test"}
    requests.post(f"{url}gradio_api/queue/join", json=call).raise_for_status()
    return requests.get(f"{url}gradio_api/queue/data?session_hash=test").text
