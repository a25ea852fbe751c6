"""Classifiers by name: shapes, sizes, published counts, learning, files."""

import keras
import numpy as np
import pytest

from voclab.backend import input_gradient, resize
from voclab.errors import VoclabError
from voclab.evaluation.explain import GradCam
from voclab.models import zoo
from voclab.models.catalogue import BACKBONE
from voclab.models.classifiers import build_classifier, count_parameters, feature_extractor
from voclab.training import load_model

TINY = {
    "small_cnn": 4,
    "resnet8": 4,
    "resnet10": 4,
    "resnet20": 4,
    "resnet18": 4,
    "vgg": 4,
    "densenet": 4,
    "residual_cnn": 4,
    "mobilenet_v2": 0.35,
    "efficientnet_b0": None,
}
SMALL = [name for name in TINY if zoo.ZOO[name].resize is None]
PIXELS = np.random.default_rng(0).random((2, 32, 32, 3), dtype=np.float32)


@pytest.fixture(scope="module")
def tiny():
    """name -> a classifier of ten classes at tiny width, made once."""
    made = {}

    def get(name):
        if name not in made:
            keras.utils.set_random_seed(1)
            made[name] = zoo.build(name, 10, width=TINY[name])
        return made[name]

    return get


def test_every_name_is_tested():
    assert list(TINY) == list(zoo.ZOO)


@pytest.mark.parametrize("name", TINY)
def test_pixels_of_any_size_become_logits_and_a_saved_model_says_the_same(name, tiny, tmp_path):
    model = tiny(name)
    expected = np.asarray(model(PIXELS))
    assert expected.shape == (2, 10)
    assert expected.dtype == np.float32
    assert model.layers[-1].activation is keras.activations.linear
    gradient = np.asarray(input_gradient(model, keras.ops.convert_to_tensor(PIXELS)))
    assert gradient.shape == PIXELS.shape
    assert all(np.abs(image).max() > 0 for image in gradient)
    model.save(tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(np.asarray(loaded(PIXELS)), expected, atol=1e-5)
    for height, width in ((40, 56), (17, 33)):
        pixels = np.full((1, height, width, 3), 0.5, np.float32)
        assert loaded(pixels).shape == (1, 10)


@pytest.mark.parametrize(
    ("name", "mode"),
    [("resnet8", "tf"), ("densenet", "tf"), ("mobilenet_v2", "tf"), ("efficientnet_b0", "raw")],
)
def test_normalisation_is_inside(name, mode, tiny):
    """The backbone by hand, on pixels scaled as it wants them, gives the pooled features."""
    model = tiny(name)
    pixels = PIXELS if zoo.ZOO[name].resize is None else np.asarray(resize(PIXELS, 96, 96))
    maps = np.asarray(model.get_layer(BACKBONE)(pixels * 255.0 if mode == "raw" else pixels * 2.0 - 1.0))
    pools = {"average": maps.mean((1, 2)), "maximum": maps.max((1, 2))}
    expected = np.concatenate([pools[kind] for kind in zoo.ZOO[name].pooling], axis=1)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(feature_extractor(model)(PIXELS) / scale, expected / scale, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "trainable"),
    [
        ("small_cnn", 94_538),
        ("resnet8", 78_042),
        ("resnet20", 272_474),
        ("resnet18", 11_173_962),
        ("vgg", 9_228_362),
    ],
)
def test_numbers_of_parameters_are_those_published(name, trainable):
    """He et al. give 0.27 M for ResNet-20; ResNet-18 is known to have 11.17 M, VGG-11 9.23 M."""
    assert count_parameters(zoo.build(name, 10))["trainable"] == trainable


@pytest.mark.parametrize(("depth", "trainable"), [(40, 176_122), (100, 769_162)])
def test_densenet_has_the_published_number_of_parameters(depth, trainable):
    """Huang et al. 2017, table 2: 0.8 M for DenseNet-BC of depth 100 and growth rate 12."""
    model = build_classifier("densenet_bc", 10, options={"depth": depth}, pooling=("average",))
    assert count_parameters(model)["trainable"] == trainable


def test_a_depth_that_densenet_cannot_have_is_refused():
    with pytest.raises(ValueError, match="6n"):
        build_classifier("densenet_bc", 10, options={"depth": 42})


@pytest.mark.parametrize(
    ("backbone", "options"),
    [
        ("small_cnn", {"width": 4}),
        ("resnet8", {"width": 4}),
        ("vgg11", {"width": 4}),
        ("densenet_bc", {"width": 4, "depth": 10}),
    ],
)
def test_a_handful_of_images_is_learnt_by_heart(backbone, options):
    keras.utils.set_random_seed(5)
    model = build_classifier(backbone, 3, options=options, dropout=0.0, pooling=("average",))
    labels = np.arange(12) % 3
    pixels = np.random.default_rng(4).random((12, 16, 16, 3), dtype=np.float32) * 0.4
    pixels[np.arange(12), :, :, labels] += 0.3  # tinted by class, under noise
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss, jit_compile=False)
    losses = [float(model.train_on_batch(pixels, labels)) for _ in range(40)]
    assert losses[0] > 0.7
    assert losses[-1] < 0.2


def test_features_and_heat_maps_work_as_for_images(tiny):
    model = tiny("resnet8")
    assert feature_extractor(model)(PIXELS).shape == (2, 16)
    image = np.random.default_rng(2).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    assert GradCam(model, 32)(image, 3).shape == (32, 32)


def test_weights_of_a_backbone_are_taken_from_its_file(tiny, tmp_path):
    path = tmp_path / "backbone.weights.h5"
    tiny("resnet8").get_layer(BACKBONE).save_weights(path)
    model = zoo.build("resnet8", 5, width=4, weights=str(path))
    assert model(PIXELS).shape == (2, 5)
    ours, theirs = (feature_extractor(m)(PIXELS) for m in (model, tiny("resnet8")))
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    with pytest.raises(VoclabError, match="does not fit backbone 'vgg11'"):
        zoo.build("vgg", 5, width=4, weights=str(path))
    with pytest.raises(VoclabError, match="has no ImageNet weights"):
        zoo.build("resnet18", 5, width=4, weights="imagenet")


def test_genuine_weights_are_transferred_to_enlarged_images(shared):
    path = str(shared / "weights" / "mobilenet_v2_0.35_224_no_top.weights.h5")
    model = zoo.build("mobilenet_v2", 10, width=0.35, weights=path, resize=64)
    options = {"input_shape": (64, 64, 3), "include_top": False, "alpha": 0.35, "weights": path}
    theirs = keras.applications.MobileNetV2(**options)
    enlarged = np.asarray(resize(PIXELS, 64, 64))
    maps = np.asarray(theirs(keras.applications.mobilenet_v2.preprocess_input(enlarged * 255.0)))
    expected = np.concatenate([maps.mean((1, 2)), maps.max((1, 2))], axis=1)
    np.testing.assert_allclose(feature_extractor(model)(PIXELS), expected, atol=1e-3)


def test_what_cannot_be_built_is_one_sentence():
    with pytest.raises(
        VoclabError, match=r"no classifier 'lenet'; choose one of small_cnn, resnet8, .*efficientnet_b0\.$"
    ):
        zoo.build("lenet", 10)
    with pytest.raises(VoclabError, match="one width only"):
        zoo.build("efficientnet_b0", 10, width=0.5)
