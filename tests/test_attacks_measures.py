"""Measures of attacks by hand: what fools, what is seen, and what handling does to images."""

import io
from dataclasses import replace

import cv2
import keras
import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from sklearn.metrics import average_precision_score

from toyvoc.voc import make_toyvoc
from voclab.attacks.gradient import FGSM, PGD, Noise
from voclab.attacks.measures import HANDLING, Bench, handled, visibility
from voclab.attacks.target import VanishingGradientError
from voclab.data import vocdevkit
from voclab.data.base import VOID
from voclab.data.images import eight_bit
from voclab.models.network import Network
from voclab.training.segmentation import measure

SIZE, COUNT = 32, 6


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A handful of ToyVOC's images, of several shapes."""
    root = make_toyvoc(tmp_path_factory.mktemp("toyvoc"), 5, COUNT, 0, 0, size=72, progress=False)
    images = vocdevkit.read(root, "train", name="toyvoc")
    assert len({images.mask(i).shape for i in range(COUNT)}) > 1
    return images


@pytest.fixture(scope="module")
def bench(images):
    return Bench(images, SIZE)


def classifier(bench, labels, scale=4.0):
    """A network whose logits for the clean images are ``scale`` times ``labels``, (COUNT, classes)."""
    keras.utils.set_random_seed(1)
    features = [
        keras.Input((None, None, 3)),
        keras.layers.Conv2D(16, 5, strides=3, activation="tanh"),
        keras.layers.GlobalAveragePooling2D(),
    ]
    model = keras.Sequential([*features, keras.layers.Dense(labels.shape[1])])
    values = np.asarray(keras.Sequential(features)(eight_bit(bench.images)), np.float64)
    kernel = np.linalg.lstsq(values, scale * labels, rcond=None)[0]
    model.layers[-1].set_weights([kernel, np.zeros(labels.shape[1])])
    np.testing.assert_allclose(model(eight_bit(bench.images)), scale * labels, atol=0.05)
    return model


def believed(images):
    """Logits that say the truth, a little more for its first class; of the last image something wrong."""
    logits = 2.0 * images.labels - 1
    logits[np.arange(COUNT), images.labels.argmax(1)] += 0.5
    logits[-1] = np.where(images.labels[-1] > 0, -1.0, 0.1)
    return logits


@pytest.fixture(scope="module")
def victims(bench, images):
    """One victim of each task, with hand-made weights."""
    model = classifier(bench, believed(images))
    colours = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(21, 1)])
    # Every label that occurs is told by its mean colour: the nearest one is the largest of linear functions.
    kernel, bias = np.zeros((3, 21)), np.full(21, -1e3)
    pixels = np.concatenate([images.image(i).reshape(-1, 3) / 255 for i in range(COUNT)])
    labels = np.concatenate([images.mask(i).ravel() for i in range(COUNT)])
    for k in set(labels.tolist()) - {VOID}:
        mean = pixels[labels == k].mean(0)
        kernel[:, k], bias[k] = 20 * mean, -10 * (mean**2).sum()
    colours.layers[-1].set_weights([kernel.reshape(1, 1, 3, 21), bias])
    return {
        "multilabel": Network(model, "multilabel", "labels"),
        "multiclass": Network(model, "multiclass", "classes"),
        "segmentation": Network(colours, "segmentation", "pixels"),
    }


@pytest.fixture(scope="module")
def perturbed(bench, victims):
    """Images attacked so mildly that some are fooled and some are not."""
    found = {}
    for task, epsilon in (("multilabel", 2), ("multiclass", 2), ("segmentation", 12)):
        found[task], _ = bench.attack(FGSM(), victims[task], epsilon / 255)
    return found


def logits_of(victim, images):
    return np.asarray(victim.model(images.astype(np.float32) / 255))


# --- the images ---


def test_the_images_are_resized_and_rounded_to_8_bits(bench, images):
    assert bench.images.dtype == np.uint8
    assert bench.images.shape == (COUNT, SIZE, SIZE, 3)
    assert len(bench) == COUNT
    for i in range(COUNT):
        small = cv2.resize(images.image(i), (SIZE, SIZE), interpolation=cv2.INTER_AREA)
        np.testing.assert_array_equal(bench.images[i], small)


def test_the_truth_for_every_task(bench, images):
    np.testing.assert_array_equal(bench.truth("multilabel"), images.labels)
    assert all(images.labels[i, k] == 1 for i, k in enumerate(bench.truth("multiclass")))
    maps = bench.truth("segmentation")
    assert maps.shape == (COUNT, SIZE, SIZE)
    for i in range(COUNT):
        assert set(np.unique(maps[i])) <= set(np.unique(images.mask(i)))
        height, width = images.mask(i).shape
        for row, column in ((0, 0), (5, 20), (31, 31)):
            assert maps[i, row, column] == images.mask(i)[row * height // SIZE, column * width // SIZE]


def test_a_goal_is_named_by_the_class_of_the_data_set(bench):
    assert bench.target("multilabel", "appear", 4).class_index == 4
    assert bench.target("multiclass", "vanish", 4).class_index == 4
    assert bench.target("segmentation", "vanish", 4).class_index == 5
    assert bench.target("segmentation").class_index is None


# --- attacks ---


@pytest.mark.parametrize("task", ["multilabel", "segmentation"])
def test_an_attack_on_all_images_gives_8_bit_images_within_the_bound(bench, victims, task):
    lines = []
    saved, seconds = bench.attack(PGD(steps=2), victims[task], 2.6 / 255, batch_size=4, progress=lines.append)
    assert saved.dtype == np.uint8
    assert saved.shape == bench.images.shape
    change = np.abs(saved.astype(int) - bench.images)
    assert change.max() == 2
    assert change.any((1, 2, 3)).sum() >= COUNT - 1  # one image is wrong from the start
    assert np.isfinite(seconds)
    assert [line.split(" images")[0] for line in lines] == ["4/6", "6/6"]
    assert lines[-1].endswith(" 0 s left")


def test_batches_do_not_matter_to_a_deterministic_attack(bench, victims):
    whole, _ = bench.attack(FGSM(), victims["segmentation"], 4 / 255)
    parts, _ = bench.attack(FGSM(), victims["segmentation"], 4 / 255, batch_size=1)
    assert (whole == parts).mean() > 0.999
    np.testing.assert_array_equal(bench.attack(FGSM(), victims["multilabel"], 0)[0], bench.images)


def test_an_attack_gets_the_goal(bench, victims, images):
    # Every image's class vanishes where it is, also if a batch holds no image of it.
    k = int(np.flatnonzero((images.labels.sum(0) > 0) & (images.labels.sum(0) < COUNT))[0])
    victim = victims["segmentation"]
    saved, _ = bench.attack(FGSM(), victim, 20 / 255, goal="vanish", class_index=k, batch_size=1)
    with_class = (bench.truth("segmentation") == k + 1).any((1, 2))
    np.testing.assert_array_equal((saved != bench.images).any((1, 2, 3)), with_class)
    assert bench.effect(victim, saved, goal="vanish", class_index=k)["success"] > 0.1


def test_a_batch_without_gradient_stays_as_it_is_and_a_network_without_any_is_refused(bench):
    """The network sees one bright corner, which the first image does not have; then not even that."""
    marked, k = Bench(bench.dataset, SIZE), bench.truth("multiclass")[0]
    marked.images = bench.images.copy()
    marked.images[0, 0, 0], marked.images[1:, 0, 0] = 0, 250
    inputs = keras.Input((None, None, 3))
    corner = keras.ops.relu(inputs[:, :1, :1] - 0.5)
    logits = keras.layers.Dense(20)(keras.layers.GlobalAveragePooling2D()(corner))
    model = keras.Model(inputs, logits)
    bias = 5.0 * np.eye(20)[k]  # right about the first image, and sure of itself
    model.layers[-1].set_weights([np.random.default_rng(0).normal(0, 0.1, (3, 20)), bias])
    victim = Network(model, "multiclass", "the blind one")
    assert (bench.truth("multiclass") == k).sum() > 1
    for attack in (FGSM(), PGD(steps=2)):
        saved, _ = marked.attack(attack, victim, 4 / 255, batch_size=1)
        np.testing.assert_array_equal(saved[0], marked.images[0])
        assert (saved[1:] != marked.images[1:]).any()
    model.layers[-1].set_weights([np.zeros((3, 20)), bias])
    for attack in (FGSM(), PGD(steps=2)):
        with pytest.raises(VanishingGradientError, match="gradient of the blind one vanishes at every image"):
            marked.attack(attack, victim, 4 / 255, batch_size=1)


# --- classifiers ---


@pytest.mark.parametrize("task", ["multilabel", "multiclass"])
def test_fooled_and_accuracy_of_classifiers_by_hand(bench, victims, perturbed, images, task):
    victim = victims[task]
    was_right, is_right = [], []
    for i in range(COUNT):
        true = set(np.flatnonzero(images.labels[i])) if task == "multilabel" else {images.labels[i].argmax()}
        for changed, answers in ((bench.images, was_right), (perturbed[task], is_right)):
            answers.append(int(logits_of(victim, changed[i : i + 1])[0].argmax()) in true)
    assert was_right == [True] * (COUNT - 1) + [False]
    assert 0 < sum(is_right[:-1]) < COUNT - 1
    effect = bench.effect(victim, perturbed[task])
    assert effect["success"] == pytest.approx(1 - sum(is_right[:-1]) / (COUNT - 1))
    assert effect["accuracy"] == pytest.approx(sum(is_right) / COUNT)
    clean = bench.effect(victim, bench.images)
    assert clean["success"] == 0
    assert clean["accuracy"] == pytest.approx(1 - 1 / COUNT)
    assert ("map" in effect) == (task == "multilabel")


def test_map_is_that_of_scikit_learn(bench, victims, perturbed, images):
    scores = logits_of(victims["multilabel"], perturbed["multilabel"])
    occurs = np.flatnonzero(images.labels.any(0))
    expected = np.mean([average_precision_score(images.labels[:, k], scores[:, k]) for k in occurs])
    effect = bench.effect(victims["multilabel"], perturbed["multilabel"])
    assert effect["map"] == pytest.approx(expected)
    assert effect["map"] < bench.effect(victims["multilabel"], bench.images)["map"]


def test_nobody_can_be_fooled_who_was_never_right(bench, images):
    wrong = Network(classifier(bench, 1.0 - images.labels), "multilabel")
    effect = bench.effect(wrong, bench.images)
    assert np.isnan(effect["success"])
    assert effect["accuracy"] == 0


def test_two_victims_of_one_name_are_not_confused(bench, images):
    right, wrong = (Network(classifier(bench, y), "multilabel") for y in (images.labels, 1.0 - images.labels))
    assert right.name == wrong.name
    assert bench.effect(right, bench.images)["success"] == 0
    assert np.isnan(bench.effect(wrong, bench.images)["success"])


def test_clean_answers_are_computed_once(bench, victims):
    assert bench.clean(victims["multilabel"]) is bench.clean(victims["multilabel"])


@pytest.mark.parametrize("task", ["multilabel", "multiclass"])
@pytest.mark.parametrize("goal", ["appear", "vanish"])
def test_success_of_classifiers_by_hand(bench, victims, perturbed, images, task, goal):
    victim = victims[task]
    before, after = (logits_of(victim, changed) for changed in (bench.images, perturbed[task]))
    seen = set()
    for k in range(20):
        prizes = []
        for i in range(COUNT):
            there = [z[i, k] > 0 if task == "multilabel" else z[i].argmax() == k for z in (before, after)]
            if goal == "appear" and not there[0]:
                prizes.append(there[1])
            true = images.labels[i, k] if task == "multilabel" else images.labels[i].argmax() == k
            if goal == "vanish" and there[0] and true:
                prizes.append(not there[1])
        success = bench.effect(victim, perturbed[task], goal=goal, class_index=k)["success"]
        assert success == pytest.approx(np.mean(prizes) if prizes else np.nan, nan_ok=True)
        seen.add("nan" if not prizes else "some" if any(prizes) else "none")
    assert {"some", "none" if goal == "appear" else "nan"} <= seen


def test_success_goes_by_the_thresholds_of_the_victim(bench, victims, perturbed):
    low = Network(victims["multilabel"].model, "multilabel", thresholds=np.full(20, 0.03))
    before, after = (logits_of(low, images) for images in (bench.images, perturbed["multilabel"]))
    cut = np.log(0.03 / 0.97)
    differs = 0
    for k in range(20):
        options = {"images": perturbed["multilabel"], "goal": "appear", "class_index": k}
        appeared = bench.effect(low, **options)["success"]
        assert appeared == pytest.approx((after[:, k] > cut)[before[:, k] <= cut].mean())
        differs += appeared != bench.effect(victims["multilabel"], **options)["success"]
    assert differs


# --- segmenters ---


def test_dice_is_measured_at_each_images_own_size(bench, victims, perturbed, images):
    victim = victims["segmentation"]
    dice = []
    for changed in (bench.images, perturbed["segmentation"]):
        maps = logits_of(victim, changed)
        sizes = [images.mask(i).shape for i in range(COUNT)]
        large = (cv2.resize(m, (w, h), interpolation=cv2.INTER_LINEAR) for m, (h, w) in zip(maps, sizes))
        metrics, _ = measure((m.argmax(-1).astype(np.uint8) for m in large), images, boundaries=False)
        dice.append(metrics.mean_dice())
    effect = bench.effect(victim, perturbed["segmentation"])
    assert effect["dice"] == pytest.approx(dice[1], abs=2e-3)
    assert bench.clean(victim).metrics.mean_dice() == pytest.approx(dice[0], abs=2e-3)
    assert effect["success"] == pytest.approx(1 - dice[1] / dice[0], abs=5e-3)
    assert 0.05 < effect["success"] < 1
    assert bench.effect(victim, bench.images)["success"] == 0


def test_flipped_is_the_share_of_pixels_with_another_label(bench, victims, perturbed):
    victim = victims["segmentation"]
    before, after = (logits_of(victim, x).argmax(-1) for x in (bench.images, perturbed["segmentation"]))
    changed = sum(int(a != b) for a, b in zip(before.ravel().tolist(), after.ravel().tolist()))
    effect = bench.effect(victim, perturbed["segmentation"])
    assert effect["flipped"] == pytest.approx(changed / before.size, abs=1e-3)
    assert 0.02 < effect["flipped"] < 1
    assert bench.effect(victim, bench.images)["flipped"] == 0
    assert set(effect) == {"dice", "success", "flipped"}


def test_a_better_map_fools_nobody_and_a_useless_victim_cannot_be_fooled(bench, victims, perturbed, images):
    victim = victims["segmentation"]
    worse_first = Bench(images, SIZE)
    worse_first.images = perturbed["segmentation"]  # these count as clean
    assert worse_first.effect(victim, bench.images)["success"] == 0
    blind = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(21, 1)])
    blind.layers[-1].set_weights([np.zeros((1, 1, 3, 21)), np.eye(21)[0]])
    effect = bench.effect(Network(blind, "segmentation"), bench.images)
    assert effect["dice"] == 0
    assert np.isnan(effect["success"])


@pytest.mark.parametrize("goal", ["appear", "vanish"])
def test_success_of_segmenters_by_hand(bench, victims, perturbed, goal):
    victim, truth = victims["segmentation"], bench.truth("segmentation")
    before, after = (logits_of(victim, x).argmax(-1) for x in (bench.images, perturbed["segmentation"]))
    seen = set()
    for k in range(20):
        prizes = []
        for true, was, is_ in zip(truth.ravel(), before.ravel(), after.ravel()):
            if goal == "appear" and true != VOID and was != k + 1:
                prizes.append(is_ == k + 1)
            if goal == "vanish" and true == k + 1 and was == k + 1:
                prizes.append(is_ != k + 1)
        success = bench.effect(victim, perturbed["segmentation"], goal=goal, class_index=k)["success"]
        assert success == pytest.approx(np.mean(prizes) if prizes else np.nan, abs=2e-3, nan_ok=True)
        seen.add("nan" if not prizes else "some" if any(prizes) else "none")
    assert {"some", "nan" if goal == "vanish" else "none"} <= seen


def test_void_is_no_prize(images):
    void = replace(images, read_mask=lambda i: np.full_like(images.mask(i), VOID))
    bench = Bench(void, SIZE)
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(21, 1)])
    victim = Network(model, "segmentation")
    for goal in ("appear", "vanish"):
        effect = bench.effect(victim, np.rot90(bench.images, axes=(1, 2)), goal=goal, class_index=0)
        assert np.isnan(effect["success"])
        assert np.isnan(effect["success"])


# --- what is seen ---


def noisy(seed=0, n=4, size=(24, 20)):
    rng = np.random.default_rng(seed)
    clean = rng.integers(0, 256, (n, *size, 3)).astype(np.uint8)
    change = rng.integers(-9, 10, clean.shape)
    return np.clip(clean.astype(int) + change, 0, 255).astype(np.uint8), clean


def test_visibility_against_scikit_image():
    perturbed, clean = noisy()
    seen = visibility(perturbed, clean)
    psnr = [peak_signal_noise_ratio(a, b, data_range=255) for a, b in zip(clean, perturbed)]
    ssim = [
        structural_similarity(
            a / 255, b / 255, data_range=1, channel_axis=2, gaussian_weights=True, sigma=1.5,
            use_sample_covariance=False,
        )
        for a, b in zip(clean, perturbed)
    ]  # fmt: skip
    assert seen["psnr"] == pytest.approx(np.mean(psnr))
    assert seen["ssim"] == pytest.approx(np.mean(ssim))
    assert seen["linf"] == 9
    lengths = [np.linalg.norm(a.ravel() / 255 - b.ravel() / 255) for a, b in zip(clean, perturbed)]
    assert seen["l2"] == pytest.approx(np.mean(lengths))
    differences = [deltaE_ciede2000(rgb2lab(a), rgb2lab(b)).mean() for a, b in zip(clean, perturbed)]
    assert seen["ciede2000"] == pytest.approx(np.mean(differences))
    assert set(seen) == {"linf", "l2", "psnr", "ssim", "ciede2000"}


def test_colour_differences_are_of_images_spread_over_all():
    clean = np.full((120, 16, 16, 3), 128, np.uint8)
    perturbed = clean.copy()
    perturbed[60:] += 2
    one = visibility(perturbed[119:], clean[119:])["ciede2000"]
    assert 0.3 < one < 1  # two steps of grey are just not seen
    assert visibility(perturbed, clean)["ciede2000"] == pytest.approx(one / 2)


def test_visibility_by_hand():
    clean = np.full((2, 16, 16, 3), 100, np.uint8)
    perturbed = clean.copy()
    perturbed[0] += 3  # PSNR 20 log10(255 / 3)
    perturbed[1] -= 30  # and 20 log10(255 / 30); an unsigned difference would be 226
    seen = visibility(perturbed, clean)
    assert seen["linf"] == 30
    assert seen["l2"] == pytest.approx(np.sqrt(16 * 16 * 3) * (3 + 30) / 2 / 255)
    assert seen["psnr"] == pytest.approx(20 * (np.log10(85) + np.log10(8.5)) / 2)
    perturbed[1] = clean[1]  # what an attack left alone has no PSNR to average
    assert visibility(perturbed, clean)["psnr"] == pytest.approx(20 * np.log10(85))
    nothing = {"linf": 0, "l2": 0, "psnr": np.inf, "ssim": 1, "ciede2000": 0}
    assert visibility(clean, clean) == nothing


# --- handling ---

every_way = pytest.mark.parametrize("how", HANDLING)


@every_way
@pytest.mark.parametrize("size", [(24, 20), (25, 17), (1, 1)])
def test_handling_keeps_shape_and_type(how, size):
    images, _ = noisy(size=size)
    before = images.copy()
    after = handled(images, how)
    assert after.shape == images.shape
    assert after.dtype == np.uint8
    np.testing.assert_array_equal(images, before)
    assert size == (1, 1) or (after != images).any((1, 2, 3)).all()


@every_way
def test_handling_keeps_colours_in_their_places(how):
    colours = np.array([[200, 40, 90], [10, 160, 250], [77, 77, 77]], np.uint8)
    flat = np.broadcast_to(colours[:, None, None], (3, 16, 16, 3)).copy()
    assert np.abs(handled(flat, how).astype(int) - flat).max() <= 3


@pytest.mark.parametrize("quality", [90, 75, 50])
def test_jpeg_is_that_of_pillow(bench, quality):
    def pillow(image):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=quality, subsampling="4:2:0")
        return np.asarray(Image.open(file).convert("RGB"))

    ours = handled(bench.images, f"JPEG, quality {quality}").astype(int)
    theirs = np.stack([pillow(image) for image in bench.images]).astype(int)
    loss = np.abs(theirs - bench.images).mean()
    assert loss > 1
    assert np.abs(ours - theirs).mean() < 0.1 * loss


def test_lower_quality_loses_more(bench):
    loss = [np.abs(handled(bench.images, how).astype(int) - bench.images).mean() for how in HANDLING[:3]]
    assert loss == sorted(loss)
    assert loss[0] < 0.8 * loss[2]


def test_blur_is_gaussian_of_sigma_1():
    images, _ = noisy()
    expected = gaussian_filter(images.astype(float), (0, 1, 1, 0), mode="mirror", truncate=3)
    assert np.abs(handled(images, "blur, sigma 1") - expected).max() <= 1.5


def test_half_size_and_back_takes_means_and_interpolates():
    board = np.indices((12, 10)).sum(0) % 2 * 200
    images = np.repeat(board[None, ..., None], 3, -1).astype(np.uint8)
    assert np.unique(handled(images, "half size and back")).tolist() == [100]  # a chessboard is gone
    blocks = np.kron(np.random.default_rng(0).integers(0, 256, (6, 5)), np.ones((2, 2))).astype(np.uint8)
    images = np.repeat(blocks[None, ..., None], 3, -1)
    half = blocks[::2, ::2].astype(np.float32)
    expected = cv2.resize(half, (10, 12), interpolation=cv2.INTER_LINEAR)
    assert np.abs(handled(images, "half size and back")[0, ..., 1] - expected).max() <= 1


@pytest.mark.parametrize("how", ["jpeg", "JPEG", "JPEG, quality 30", "blur", "half size", ""])
def test_unknown_handling_is_refused(how):
    with pytest.raises(ValueError, match=r"is not one of JPEG, quality 90, .*half size and back"):
        handled(noisy()[0], how)


def test_handling_weakens_noise(bench):
    rng = np.random.default_rng(0)
    clean = np.full((1, 32, 32, 3), 120, np.uint8)
    speckled = (clean + rng.choice([-8, 8], clean.shape)).astype(np.uint8)
    for how in HANDLING:
        assert np.abs(handled(speckled, how).astype(int) - 120).mean() < 8


def test_the_control_is_no_attack(bench, victims, perturbed):
    """Noise of the same size flips fewer pixels than the attack."""
    victim = victims["segmentation"]
    noise, _ = bench.attack(Noise(), victim, 12 / 255)
    attack = bench.effect(victim, perturbed["segmentation"])
    assert bench.effect(victim, noise)["dice"] > attack["dice"]
    same, other = (visibility(x, bench.images)["linf"] for x in (noise, perturbed["segmentation"]))
    assert same == other == 12
