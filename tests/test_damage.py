"""Damaged files: every reader ends in success or in one sentence, in bounded time and memory.

Thousands of damages (see ``fuzzing.damaged``) are drawn, the same ones each time, for files of one format
after the other; ``test_fuzz.py`` damages whole inputs in more ways.
"""

import contextlib
import io
import json
import os
import pickle
import struct
import tarfile
import warnings
import zipfile
import zlib
from dataclasses import replace

import keras
import numpy as np
import pytest
from fuzzing import bounded_memory, damaged
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from voc_trees import make_tree, save_mask, write_batch

from voclab.data import annotations, cifar10, decoding, masks, vocdevkit
from voclab.data import competition as kaggle
from voclab.data.archives import unpack
from voclab.errors import VoclabError
from voclab.kaggle import (
    check_submission,
    decode_segmentation,
    encode_segmentation,
    rle_decode,
    rle_encode,
    score_submission,
    write_submission,
)
from voclab.kaggle.export import export
from voclab.models.backbones import BACKBONES, build_backbone
from voclab.models.classifiers import build_classifier
from voclab.models.saved import model_files, require_layers
from voclab.reporting.notebooks import run as run_notebook
from voclab.training import Recipe, Run, load_model, train
from voclab.training.masks import StoredMasks, write_masks

needs_proc = pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs Linux' /proc")


def survives(read, path, times, seed=0):
    """Damage the file ``times`` times: ``read`` succeeds or raises a sentence, some times the latter."""
    whole = path.read_bytes()
    read()
    rng, sentences = np.random.default_rng(seed), set()
    with warnings.catch_warnings(), bounded_memory():
        warnings.simplefilter("ignore")  # Pillow warns of damaged metadata
        for k in range(times):
            data = damaged(whole, rng)
            path.write_bytes(data)
            try:
                read()
            except VoclabError as error:
                sentences.add(str(error))
            except Exception as error:
                pytest.fail(f"damage {k} of {path.name}: {type(error).__name__}: {error}")
    path.write_bytes(whole)
    read()
    assert sentences, "no damage was noticed"
    assert not any("\n" in sentence for sentence in sentences)


# --- images ---


def image(size=(40, 30)):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), np.uint8))


@needs_proc
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"exif": b"Exif\0\0II*\0" + bytes(40)}])
def test_damaged_images(tmp_path, options):
    image().save(tmp_path / "a.jpg", **options)
    survives(lambda: decoding.decode(tmp_path / "a.jpg"), tmp_path / "a.jpg", 400)


@needs_proc
def test_damaged_masks(tmp_path):
    save_mask(tmp_path / "a.png", np.random.default_rng(0).integers(0, 21, (20, 30), np.uint8))
    survives(lambda: masks.decode(tmp_path / "a.png"), tmp_path / "a.png", 400)


@needs_proc
@pytest.mark.parametrize("suffix", decoding.SUFFIXES)
def test_damaged_images_of_every_kind(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a title"
    options = {} if suffix in (".bmp", ".gif", ".ppm") else {"exif": exif}
    (image().quantize(16) if suffix == ".gif" else image()).save(path, **options)
    survives(lambda: decoding.decode(path), path, 120)


# --- the VOC devkit and the competition ---


@needs_proc
def test_damaged_annotations_and_lists(tmp_path):
    tree = make_tree(tmp_path, {"train": 2})
    annotation = tree.folder / "Annotations" / f"{tree.splits['train'][0]}.xml"
    annotation.write_bytes(b'<?xml version="1.0" encoding="utf-8"?>' + annotation.read_bytes())
    survives(lambda: annotations.read_objects(annotation), annotation, 600)
    listed = tree.folder / "ImageSets/Segmentation/train.txt"
    survives(lambda: vocdevkit.read(tmp_path, "train"), listed, 200)


@needs_proc
def test_damaged_files_of_the_competition(tmp_path):
    make_tree(tmp_path / "voc", {"train": 3, "val": 2})
    parts = (vocdevkit.read(tmp_path / "voc", split) for split in ("train", "val"))
    root = export(*parts, tmp_path / "out", progress=False)

    def whole(split):
        data = kaggle.read(root, split)
        return [(data.image(i), data.mask(i)) for i in range(len(data))]

    for name in ("train/train_set.csv", "test/test_set.csv"):
        survives(lambda: whole(name[: name.index("/")]), root / name, 100)  # noqa: B023 - called here
    for name in ("train/img/train_0.npy", "train/seg/train_1.npy"):
        survives(lambda: whole("train"), root / name, 150)


# --- CIFAR-10 ---


@needs_proc
@pytest.mark.parametrize("name", ["data_batch_1.bin", "data_batch_1", "batches.meta.txt"])
def test_damaged_cifar_files(tmp_path, name):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (3, 32, 32, 3), np.uint8), rng.integers(0, 10, 3)
    write_batch(tmp_path / "data_batch_1.bin", images, labels)
    (tmp_path / "batches.meta.txt").write_text("\n".join(cifar10.CIFAR10_CLASSES))
    if name == "data_batch_1":
        (tmp_path / "data_batch_1.bin").unlink()
        planes = images.transpose(0, 3, 1, 2).reshape(3, -1)
        content = {b"data": planes, b"labels": labels.tolist(), b"filenames": [b"one.png"] * 3}
        packed = pickle.dumps(content, 2).replace(b"numpy._core", b"numpy.core")
        (tmp_path / name).write_bytes(packed)
    survives(lambda: cifar10.read(tmp_path, "train"), tmp_path / name, 500)


# --- submissions ---


@needs_proc
def test_damaged_submissions(tmp_path):
    rng = np.random.default_rng(0)
    ids = [f"{k}" for k in range(4)]
    labels = rng.integers(0, 2, (4, 20))
    maps = rng.choice([0, 0, 3, 20], (4, 5, 6))
    path, truth = tmp_path / "a.csv", tmp_path / "truth.csv"
    for target in (path, truth):
        write_submission(target, ids, labels, maps)
    shapes = dict.fromkeys(ids, (5, 6))
    survives(lambda: check_submission(path), path, 200)
    survives(lambda: check_submission(path, ids, shapes), path, 200, seed=1)
    survives(lambda: score_submission(path, truth), path, 200, seed=2)


CODE = st.one_of(st.text("0123456789 ", max_size=40), st.text(st.characters(), max_size=12))


@settings(max_examples=400, deadline=None, derandomize=True)
@given(CODE, st.integers(0, 6), st.integers(0, 6))
def test_any_text_is_decoded_or_refused(text, height, width):
    """What is decoded is what encoding it again gives, but for runs that touch."""
    try:
        array = rle_decode(text, (height, width))
    except VoclabError:
        array = None
    else:
        np.testing.assert_array_equal(rle_decode(rle_encode(array), array.shape), array)
    with contextlib.suppress(VoclabError):
        label_map = decode_segmentation(text, (height, width), classes=3)
        again = decode_segmentation(encode_segmentation(label_map, 3), (height, width), classes=3)
        np.testing.assert_array_equal(again, label_map)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(st.text(st.sampled_from('0123_classifitonegm,"\r\n \ufeff\0é'), max_size=30), max_size=5))
def test_any_lines_are_checked(tmp_path_factory, lines):
    path = tmp_path_factory.getbasetemp() / "lines.csv"
    path.write_bytes("\n".join(["Id,Predicted", *lines]).encode())
    with contextlib.suppress(VoclabError):
        assert check_submission(path).rows == len(path.read_bytes().splitlines()) - 1


# --- archives and notebooks ---


def gzipped_tar(path):
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as archive:
        for k in range(3):
            member = tarfile.TarInfo(f"tree/{'long' * 40}/é{k}")
            member.size = 900
            archive.addfile(member, io.BytesIO(bytes(900)))


def plain_tar(path):
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        for k in range(3):
            member = tarfile.TarInfo(f"tree/{'long' * 40}/{k}")
            member.size = 900
            archive.addfile(member, io.BytesIO(bytes(900)))


def zipped(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for k in range(3):
            archive.writestr(f"tree/é{k}", bytes(900))


@needs_proc
@pytest.mark.parametrize(
    ("name", "make"), [("a.tar", plain_tar), ("a.tar.gz", gzipped_tar), ("a.zip", zipped)]
)
def test_damaged_archives_write_nothing_outside_and_no_half(tmp_path, name, make):
    inside = tmp_path / "inside"
    inside.mkdir()
    make(inside / name)
    turn = iter(range(10**6))

    def read():
        out = inside / f"out{next(turn)}"
        try:
            unpack(inside / name, out, max_bytes=10**7)
        except VoclabError:
            assert not out.exists()
            raise

    survives(read, inside / name, 250)
    assert [path.name for path in tmp_path.iterdir()] == ["inside"]


def test_damaged_notebooks(tmp_path):
    (tmp_path / "notebooks").mkdir()
    path = tmp_path / "notebooks" / "01_first.ipynb"
    cell = {"cell_type": "code", "source": "x = 1", "metadata": {"tags": ["parameters"]}, "outputs": []}
    cell |= {"execution_count": None, "id": "a"}
    content = {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    whole, rng = json.dumps(content).encode(), np.random.default_rng(0)
    for _ in range(200):
        path.write_bytes(damaged(whole, rng))
        with pytest.raises(VoclabError):  # an unknown parameter ends those that could be read
            run_notebook("01", parameters={"unknown": 1}, notebooks_dir=path.parent, progress=False)


# --- what a run keeps ---


def png_parts(side, packed):
    yield b"\x89PNG\r\n\x1a\n"
    for name, data in ((b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)), (b"IDAT", packed)):
        yield struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


@pytest.fixture(scope="module")
def network():
    return build_classifier("cnn", 3, options={"width": 2})


@needs_proc
@pytest.mark.parametrize("name", ["config.json", "history.json", "metrics.json"])
def test_damaged_texts_of_a_run(tmp_path, name):
    run = Run(tmp_path / "run")
    run.begin({"recipe": {"size": 32, "learning_rate": 0.5}, "weights": None})
    run.save_history([{"epoch": 0, "map": 0.1}, {"epoch": 1, "loss": 0.7, "map": 0.2}])
    run.finish({"map": 0.5, "parts": [1, 2]})
    path = run.folder / name

    def read():
        found = getattr(run, name.removesuffix(".json"))
        assert isinstance(found, list if name == "history.json" else dict)

    survives(read, path, 300)
    for text in ("[" * 100_000, "3", '"text"', "[1]", "null", "9" * 5000, '{"a":' * 50_000):
        path.write_text(text)
        with pytest.raises(VoclabError, match=name.replace(".", r"\.")):
            read()


@needs_proc
def test_damaged_arrays_and_masks_of_a_run(tmp_path):
    run = Run(tmp_path / "run")
    run.begin({})
    rng = np.random.default_rng(0)
    run.save_predictions(test=rng.random((4, 3), np.float32), thresholds=rng.random(3))
    survives(run.predictions, run.folder / "predictions.npz", 400)
    write_masks(tmp_path / "m.zip", ["a"], [rng.integers(0, 21, (9, 8), np.uint8)])
    survives(lambda: StoredMasks(tmp_path / "m.zip")["a"], tmp_path / "m.zip", 300)
    huge = zlib.compress(bytes(9))  # declared as 2 ** 31 - 1 pixels each way
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as archive:
        archive.writestr("a.png", b"".join(png_parts(2**31 - 1, huge)))
    with pytest.raises(VoclabError, match="does not give the mask of a"):
        StoredMasks(tmp_path / "m.zip")["a"]


@needs_proc
def test_damaged_models_are_looked_into_without_keras(tmp_path, network):
    network.save(tmp_path / "model.keras")

    def read():
        for path in model_files([tmp_path]).values():
            require_layers(path, [])

    survives(read, tmp_path / "model.keras", 150)
    for content in ('{"config": {"layers": []}}', '{"config": {"layers": [{"config": {"name": 3}}]}}', "[]"):
        with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
            archive.writestr("config.json", content)
        with contextlib.suppress(VoclabError):
            require_layers(tmp_path / "model.keras", ["conv"])


def test_damaged_models(tmp_path, network):
    path = tmp_path / "model.keras"
    network.save(path)
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for k in range(24):
        path.write_bytes(damaged(whole, rng))
        with contextlib.suppress(VoclabError):
            assert load_model(path).output_shape is not None, k


def test_damaged_weights(tmp_path, monkeypatch):
    path = tmp_path / "backbone.weights.h5"
    model = build_backbone("cnn", None, width=2)
    monkeypatch.setitem(BACKBONES, "cnn", replace(BACKBONES["cnn"], build=lambda **_: model))
    model.save_weights(path)
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(40):
        path.write_bytes(damaged(whole, rng))
        with contextlib.suppress(VoclabError):
            build_backbone("cnn", str(path))


def test_a_damaged_state_is_resumed_or_named(tmp_path, squares):
    recipe = Recipe(size=32, augmentation="none", epochs=0, learning_rate=1e-3)
    inputs = keras.Input((None, None, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(inputs)
    model = keras.Model(inputs, keras.layers.Dense(3)(pooled))
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    run = Run(tmp_path / "run")

    def begin():
        run.begin({})
        score = {"score": lambda model: {"map": 0.5}, "monitor": "map", "progress": lambda line: None}
        train(model, squares, loss=loss, recipe=recipe, run=run, **score)

    begin()
    rng, sentences = np.random.default_rng(0), []
    for name, times in (("state.json", 30), ("last.weights.h5", 30)):
        path = run.folder / "resume" / name
        whole = path.read_bytes()
        for _ in range(times):
            path.write_bytes(damaged(whole, rng))
            try:
                begin()
            except VoclabError as error:
                sentences.append(str(error))
        path.write_bytes(whole)
    assert len(sentences) > 10
    assert all("delete" in sentence for sentence in sentences)
    begin()
