"""Models in pixel space: shapes, preprocessing, weights, saving, explanations."""

import socket
from dataclasses import replace

import cv2
import keras
import numpy as np
import pytest

from voclab.backend import value_and_gradient
from voclab.errors import VoclabError
from voclab.evaluation.explain import GradCam
from voclab.models import backbones
from voclab.models.backbones import BACKBONES, PixelPreprocessing, build_backbone, get_backbone
from voclab.models.classifiers import (
    FEATURES,
    build_classifier,
    count_parameters,
    feature_extractor,
    start_from_prior,
)
from voclab.models.joint import build_joint, classifier_of
from voclab.training import load_model

PIXELS = np.random.default_rng(0).random((2, 40, 56, 3), dtype=np.float32)


@pytest.mark.parametrize(
    ("mode", "module"),
    [("tf", "mobilenet_v2"), ("caffe", "resnet50"), ("caffe", "vgg16"), ("torch", "densenet")],
)
def test_preprocessing_equals_that_of_keras_applications(mode, module):
    theirs = getattr(keras.applications, module).preprocess_input((PIXELS * 255.0).copy())
    ours = np.asarray(PixelPreprocessing(mode)(PIXELS))
    np.testing.assert_allclose(ours, theirs, atol=2e-4)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("efficientnet", "efficientnet_b0"),
        ("efficientnet_v2", "efficientnet_v2_s"),
        ("convnext", "convnext_tiny"),
    ],
)
def test_networks_that_normalise_inside_get_raw_pixels(module, name):
    theirs = getattr(keras.applications, module).preprocess_input(PIXELS * 255.0)
    np.testing.assert_allclose(np.asarray(PixelPreprocessing("raw")(PIXELS)), theirs)
    assert BACKBONES[name].mode == "raw"


def test_the_network_from_scratch_takes_any_size_and_returns_logits():
    model = build_classifier("cnn", 20, options={"width": 4})
    for size in (32, 48, 80):
        logits = model.predict_on_batch(np.zeros((2, size, size, 3), np.float32))
        assert logits.shape == (2, 20)
        assert logits.dtype == np.float32
    assert model.layers[-1].activation is keras.activations.linear
    assert count_parameters(model)["trainable"] < count_parameters(model)["total"]


def test_an_untrained_network_starts_from_the_class_frequencies():
    model = build_classifier("cnn", 4, options={"width": 4})
    labels = (np.arange(200)[:, None] % [2, 4, 10, 50] == 0).astype(np.uint8)
    start_from_prior(model, labels)
    answers = 1 / (1 + np.exp(-model.predict_on_batch(PIXELS)))
    np.testing.assert_allclose(answers, np.tile(labels.mean(0), (2, 1)), rtol=1e-4)


def test_an_unknown_backbone_lists_the_known_ones():
    with pytest.raises(VoclabError, match="mobilenet_v2, resnet50"):
        get_backbone("resnet")


def test_weights_that_cannot_be_had_give_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(backbones, "_answers", lambda address, timeout: False)
    with pytest.raises(VoclabError, match="neither cached nor reachable"):
        build_backbone("mobilenet_v2", "imagenet")
    with pytest.raises(VoclabError, match="input scaling"):
        build_backbone("efficientnet_b0", str(tmp_path / "gone.h5"))
    with pytest.raises(VoclabError, match="has no ImageNet weights"):
        build_backbone("cnn", "imagenet")
    with pytest.raises(VoclabError, match=r"gone\.h5 does not exist"):
        build_backbone("mobilenet_v2", str(tmp_path / "gone.h5"))
    (tmp_path / "bad.weights.h5").write_bytes(b"not hdf5")
    with pytest.raises(VoclabError, match=r"bad\.weights\.h5 does not fit backbone 'cnn'"):
        build_backbone("cnn", str(tmp_path / "bad.weights.h5"), width=4)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("mobilenet_v2", "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"),
        ("resnet50", "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5"),
        ("efficientnet_v2_b0", "efficientnetv2-b0_notop.h5"),
    ],
)
def test_weights_in_the_cache_of_keras_count_as_available(name, file, monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(backbones, "_answers", lambda address, timeout: False)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / file.replace("no_top", "").replace("notop", "")).touch()
    (tmp_path / "models" / "resnet50v2_weights_tf_dim_ordering_tf_kernels_notop.h5").touch()
    assert not backbones.imagenet_available(name)
    (tmp_path / "models" / file).touch()
    assert backbones.imagenet_available(name)


def test_weights_of_another_network_are_refused_not_half_loaded(tmp_path):
    build_backbone("cnn", None, width=4).save_weights(tmp_path / "w.weights.h5")
    with pytest.raises(VoclabError, match="does not fit"):
        build_backbone("cnn", str(tmp_path / "w.weights.h5"), width=8)


def test_a_host_that_does_not_answer_is_noticed():
    with socket.socket() as server:  # bound, but nothing listens
        server.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        assert not backbones._answers(address, 1.0)


def test_a_download_that_fails_is_one_sentence(monkeypatch):
    def broken(**options):
        raise Exception("URL fetch failure: 403")

    entry = replace(BACKBONES["resnet50"], build=broken)
    monkeypatch.setitem(backbones.BACKBONES, "resnet50", entry)
    monkeypatch.setattr(backbones, "imagenet_available", lambda name, top: True)
    with pytest.raises(VoclabError, match=r"could not be downloaded \(URL fetch failure: 403\)"):
        build_backbone("resnet50", "imagenet")


def test_genuine_imagenet_weights_recognise_what_they_were_trained_on(shared):
    """Pixel-space MobileNetV2 gives the features of keras.applications on its own preprocessing."""
    path = str(shared / "weights" / "mobilenet_v2_1.0_224_no_top.weights.h5")
    model = build_classifier("mobilenet_v2", 20, weights=path)
    pixels = np.random.default_rng(1).random((1, 64, 64, 3), dtype=np.float32)
    theirs = keras.applications.MobileNetV2(input_shape=(64, 64, 3), include_top=False, weights=path)
    maps = theirs.predict_on_batch(keras.applications.mobilenet_v2.preprocess_input(pixels * 255.0))
    expected = np.concatenate([maps.mean((1, 2)), maps.max((1, 2))], axis=1)
    np.testing.assert_allclose(feature_extractor(model).predict_on_batch(pixels), expected, atol=1e-3)


def test_pretrained_batch_norm_stays_as_it_was(tmp_path):
    path = tmp_path / "w.weights.h5"
    build_backbone("cnn", None, width=4).save_weights(path)
    model = build_classifier("cnn", 3, weights=str(path), options={"width": 4})
    norms = [w for w in model.weights if "bn" in w.path]
    before = [np.array(w) for w in norms]
    assert before
    model.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True))
    model.train_on_batch(PIXELS, np.ones((2, 3), np.float32))
    for old, new in zip(before, norms, strict=True):
        np.testing.assert_array_equal(old, np.array(new))


def test_a_saved_model_loads_in_safe_mode_and_gives_the_same_logits(tmp_path):
    model = build_classifier("cnn", 3, options={"width": 4})
    model.save(tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.predict_on_batch(PIXELS), model.predict_on_batch(PIXELS), atol=1e-6)


def test_grad_cam_equals_class_activation_mapping_where_that_is_exact():
    """With average pooling and a linear head, Grad-CAM is CAM (Zhou et al. 2016): weights times maps."""
    keras.utils.set_random_seed(
        4
    )  # unseeded, about one network in a thousand has no positive evidence at all
    model = build_classifier("cnn", 3, options={"width": 4})
    dense = model.get_layer("logits")
    kernel = np.random.default_rng(2).normal(size=dense.get_weights()[0].shape).astype(np.float32)
    channels = kernel.shape[0] // 2
    kernel[channels:] = 0.0  # the maximum is left out
    dense.set_weights([kernel, np.zeros(3, np.float32)])
    image = np.random.default_rng(3).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    body = keras.Model(model.inputs, model.get_layer(FEATURES).output)
    maps = body.predict_on_batch(image[None].astype(np.float32) / 255.0)[0]
    cam = np.maximum(maps @ kernel[:channels, 1], 0)
    heat = GradCam(model, 64)(image, 1)
    assert heat.shape == (64, 64)
    assert 0.0 <= heat.min() <= heat.max() <= 1.0
    assert cam.max() > 0
    small = heat.reshape(4, 16, 4, 16).mean((1, 3))
    assert np.corrcoef(small.ravel(), cam.ravel())[0, 1] > 0.95


def test_grad_cam_of_a_network_with_two_heads_equals_the_gradient_through_the_whole_of_it():
    """Where the logit depends on finer maps too, those are held: the gradient is the deepest map's alone."""
    keras.utils.set_random_seed(0)
    model = classifier_of(build_joint("cnn", 4, width=16, options={"width": 4}))
    deepest = model.get_layer(FEATURES)
    image = np.random.default_rng(3).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    pixels = image[None].astype(np.float32) / 255.0
    maps = keras.Model(model.inputs, deepest.output).predict_on_batch(pixels)
    found = GradCam(model, 64)(image, 1)

    def logit(nudge):  # of the whole network, whose deepest map is moved by as much in each place
        deepest.activation = lambda x: x + nudge
        return model([pixels], training=False)[0, 1]

    _, slope = value_and_gradient(logit, np.zeros(maps.shape[-1], np.float32))
    heat = np.maximum(maps[0] @ slope, 0)
    assert heat.max() > 0
    large = np.clip(cv2.resize(heat / heat.max(), (64, 64), interpolation=cv2.INTER_CUBIC), 0, 1)
    assert found == pytest.approx(large, abs=1e-4)
