"""Perturbations by name and strength."""

import io
import warnings

import numpy as np
import pytest
import skimage
from perturbed_images import damage, images, scene
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.stats import chisquare, norm, poisson
from voc_trees import fails

from voclab.corruptions import CONSISTENCY, PERTURBATIONS, STRENGTHS, perturbed
from voclab.corruptions.textures import generator, uniform
from voclab.data.images import GREY

FLIPS = {"horizontal_flip", "vertical_flip"}
RANDOM = {"gaussian_noise", "shot_noise", "salt_and_pepper", "uniform_noise", "occlusion", "fog"}
RISING = {
    "gaussian_noise": (0.02, 0.1, 0.3),
    "shot_noise": (0.02, 0.1, 0.3),
    "salt_and_pepper": (0.01, 0.1, 0.4),
    "uniform_noise": (0.05, 0.2, 0.6),
    "occlusion": (0.1, 0.4, 0.9),
    "gaussian_blur": (0.5, 2, 8),
    "defocus_blur": (0.8, 2, 8),
    "brightness": (0.05, 0.2, 0.5),
    "contrast": (0.2, 0.6, 2),
    "jpeg": (10, 70, 95),
    "fog": (0.2, 1, 3),
    "rotation": (3, 20, 90),
    "horizontal_flip": (1,),
    "vertical_flip": (1,),
}
flat = np.full((300, 300, 3), 128, np.uint8)


def change(image, clean):
    """In [0, 1]."""
    return (image.astype(float) - clean) / 255


def test_every_perturbation_has_a_unit_and_is_tested():
    assert PERTURBATIONS.keys() == STRENGTHS.keys() == RISING.keys()


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_no_strength_changes_nothing(name):
    for what, image in images().items():
        out = perturbed(image, name, 0, 3)
        np.testing.assert_array_equal(out, image, what)
        assert out.dtype == np.uint8
        assert not np.shares_memory(out, image)


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_any_strength_keeps_the_form(name):
    odd = () if name in FLIPS else (1e-300, 1e-9, 0.013, 1, 1.7, 359.99, 1e4, 1e300)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for what, image in images().items():
            before = image.copy()
            for strength in (*RISING[name], *odd, np.float32(1), np.int64(1)):
                out = perturbed(image, name, strength, 5)
                assert out.shape == image.shape, what
                assert out.dtype == np.uint8, what
            np.testing.assert_array_equal(image, before, what)


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_a_seed_fixes_the_image(name):
    image, strength = scene(), RISING[name][-1]
    outs = [perturbed(image, name, strength, seed) for seed in (0, 1, (0, 7), 0, 1, (0, 7))]
    for first, again in zip(outs[:3], outs[3:]):
        np.testing.assert_array_equal(first, again)
    assert len({out.tobytes() for out in outs}) == (3 if name in RANDOM else 1)


@pytest.mark.parametrize("name", sorted(RISING.keys() - FLIPS))
def test_more_strength_is_more_damage(name):
    image = scene(96, 128)
    damages = [
        np.mean([damage(perturbed(image, name, strength, seed), image) for seed in range(4)])
        for strength in RISING[name]
    ]
    assert 0 < damages[0] < damages[1] < damages[2]


def surprise(found, chances):
    """p value of counts under the chances of 0, 1, …, rare ones taken together."""
    counts = np.bincount(found.ravel(), minlength=len(chances))
    expected = found.size * np.asarray(chances)
    assert not counts[expected == 0].any()
    common = expected >= 10
    counts, expected = (np.append(x[common], x[~common].sum()) for x in (counts, expected))
    kept = expected > 0
    expected *= counts.sum() / expected.sum()  # equal but for rounding, as chisquare wants it
    return chisquare(counts[kept], expected[kept]).pvalue


@pytest.mark.parametrize("strength", [0.004, 0.1, 0.5])
def test_gaussian_noise_is_normal(strength):
    image = np.full((300, 400, 3), 100, np.uint8)
    edges = (np.arange(-100, 155) + 0.5) / (255 * strength)
    noisy = perturbed(image, "gaussian_noise", strength, 0)
    assert surprise(noisy, np.diff(norm.cdf(edges), prepend=0, append=1)) > 1e-4
    # Every channel for itself.
    assert abs(np.corrcoef(noisy[..., 0].ravel(), noisy[..., 1].ravel())[0, 1]) < 0.02


def test_uniform_noise_is_even():
    noise = change(perturbed(flat, "uniform_noise", 0.1, 0), flat)
    assert noise.std() == pytest.approx(0.1 / np.sqrt(3), rel=0.01)
    assert abs(noise).max() == pytest.approx(0.1, abs=0.002)
    drawn = uniform(generator(0), (200, 1000))
    assert -1 <= drawn.min() < -0.9999 < 0.9999 < drawn.max() <= 1
    assert chisquare(np.histogram(drawn, 50, (-1, 1))[0]).pvalue > 1e-4


@pytest.mark.parametrize(("value", "photons"), [(1, 60), (77, 3), (240, 1000)])
def test_shot_noise_counts_photons(value, photons):
    image, strength = np.full((300, 400, 3), value, np.uint8), photons**-0.5
    photons = strength**-2  # with the same last bit, on which it depends how a half is rounded
    counts = np.arange(int(poisson.isf(1e-15, value / 255 * photons)) + 2)
    looks = np.rint(255 * np.minimum(counts / photons, 1)).astype(int)
    chances = np.bincount(looks, poisson.pmf(counts, value / 255 * photons), minlength=256)
    assert surprise(perturbed(image, "shot_noise", strength, 0), chances) > 1e-4
    assert perturbed(np.zeros_like(image), "shot_noise", strength).max() == 0


def test_salt_and_pepper_hits_the_share_of_pixels():
    out = perturbed(flat, "salt_and_pepper", 0.2, 0)
    hit = (out != flat).any(2)
    assert hit.mean() == pytest.approx(0.2, abs=0.01)
    theirs = skimage.util.random_noise(flat[..., 0], "s&p", rng=0, amount=0.2)
    assert hit.mean() == pytest.approx(np.isin(theirs, (0, 1)).mean(), abs=0.01)
    assert np.isin(out[hit], (0, 255)).all()
    assert (out[hit] == out[hit][:, :1]).all()  # whole pixels
    assert (out[hit] == 255).mean() == pytest.approx(0.5, abs=0.02)
    assert np.isin(perturbed(scene(), "salt_and_pepper", 1, 0), (0, 255)).all()
    weak = (perturbed(flat, "salt_and_pepper", 0.1, 0) != flat).any(2)
    assert not (weak & ~hit).any()  # the same seed, less of it


@pytest.mark.parametrize(
    ("strength", "side"), [(0.5, 15), (0.31, 9), (0.7, 21), (0.001, 1), (1, 30), (7, 30)]
)
def test_the_square_is_as_large_as_it_says_and_anywhere(strength, side):
    black = np.zeros((30, 50, 3), np.uint8)
    corners = []
    for seed in range(200):
        covered = perturbed(black, "occlusion", strength, seed)
        rows, columns = np.nonzero((covered == GREY).all(2))
        assert len(rows) == side**2
        assert np.ptp(rows) + 1 == np.ptp(columns) + 1 == side
        assert (covered > 0).all(2).sum() == side**2
        corners.append((rows.min(), columns.min()))
    if side > 5:  # every place, from border to border
        np.testing.assert_array_equal(np.min(corners, 0), (0, 0))
        np.testing.assert_array_equal(np.max(corners, 0), (30 - side, 50 - side))


@pytest.mark.parametrize("sigma", [0.4, 1, 2.5, 7, 20, 60])
@pytest.mark.parametrize("shape", [(60, 80), (1, 50), (2, 3)])
def test_gaussian_blur_is_scipys(sigma, shape):
    image, sigma = scene(*shape), min(sigma, max(shape))
    theirs = gaussian_filter(image.astype(float), (sigma, sigma, 0), mode="mirror")
    assert abs(perturbed(image, "gaussian_blur", sigma) - theirs).max() <= 1


@pytest.mark.parametrize("radius", [2, 4.5, 9])
def test_a_point_out_of_focus_is_a_disc(radius):
    half, point = np.zeros((2, 41, 41, 3), np.uint8)
    half[:, :21] = 255
    edge = perturbed(half, "defocus_blur", radius)[20, :, 0] / 255
    inside = np.clip((np.arange(41) - 20.5) / radius, -1, 1)
    share = 0.5 - (np.arcsin(inside) + inside * np.sqrt(1 - inside**2)) / np.pi  # of a disc beyond a line
    np.testing.assert_allclose(edge, share, atol=0.03)
    point[20, 20] = 255
    spot = perturbed(point, "defocus_blur", radius)[..., 0]
    rows, columns = np.nonzero(spot)
    assert 0 < np.hypot(rows - 20, columns - 20).max() <= radius + 0.5
    np.testing.assert_array_equal(spot, spot.T)


@pytest.mark.parametrize("added", [0.1, 0.35, 1.0])
def test_brightness_is_added_to_the_value(added):
    colours = np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    colours[0, :5] = 0
    hsv = skimage.color.rgb2hsv(colours)
    hsv[..., 2] = np.minimum(hsv[..., 2] + added, 1)
    theirs = 255 * skimage.color.hsv2rgb(hsv)
    assert abs(perturbed(colours, "brightness", added) - theirs).max() <= 0.51


def test_contrast_stretches_about_the_mean():
    image = np.random.default_rng(0).normal(120, 15, (80, 80, 3)).clip(0, 255).astype(np.uint8)
    out = perturbed(image, "contrast", 0.8)
    np.testing.assert_allclose(out.mean((0, 1)), image.mean((0, 1)), atol=0.1)
    np.testing.assert_allclose(out.std((0, 1)), 1.8 * image.std((0, 1)), rtol=0.01)
    image, mean = scene(), scene().mean((0, 1))
    for added in (0.3, 14.9, 15.1, 400):
        theirs = np.clip(mean + (image - mean) * (1 + added), 0, 255)
        assert abs(perturbed(image, "contrast", added) - theirs).max() <= 0.51
    even = np.full((7, 9, 3), (77, 3, 201), np.uint8)
    np.testing.assert_array_equal(perturbed(even, "contrast", 1e12), even)


@pytest.mark.parametrize(
    ("strength", "quality"), [(10, 90), (49.6, 50), (0.01, 99), (80, 20), (99, 1), (150, 1)]
)
def test_jpeg_is_pillows(strength, quality):
    image = scene(64, 96)
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    theirs = np.asarray(Image.open(file)).astype(int)
    assert abs(perturbed(image, "jpeg", strength) - theirs).max() <= 3


def test_fog_hides_the_image_but_is_no_brighter_than_it():
    image = scene(96, 128)
    brightest = int(image.max())
    for seed in range(3):
        thin, thick = (perturbed(image, "fog", strength, seed) for strength in (0.5, 3))
        assert thick.max() <= brightest
        kept = [np.corrcoef(out.ravel(), image.ravel())[0, 1] for out in (thin, thick)]
        assert kept[0] > kept[1]
        veil = thick - image * (brightest / (brightest + 255 * 3))
        assert np.ptp(veil, axis=2).max() <= 1.01  # the cloud is grey
    assert perturbed(np.zeros_like(image), "fog", 2).max() == 0


@pytest.mark.parametrize("turns", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("side", [32, 33, 224])
def test_right_angles_are_exact(turns, side):
    square = scene(side, side)
    np.testing.assert_array_equal(perturbed(square, "rotation", 90 * turns), np.rot90(square, turns))


def test_rotation_is_pillows():
    image = gaussian_filter(scene(80, 80), (2, 2, 0))
    theirs = np.asarray(Image.fromarray(image).rotate(30, Image.BILINEAR)).astype(int)
    ours = perturbed(image, "rotation", 30)
    assert abs(ours - theirs)[20:60, 20:60].max() <= 4
    np.testing.assert_array_equal(perturbed(image, "rotation", 390), ours)
    assert (perturbed(np.full((30, 40, 3), 200, np.uint8), "rotation", 45) == 200).all()  # no dark corners


def test_flips_are_numpys():
    image = scene()
    np.testing.assert_array_equal(perturbed(image, "horizontal_flip", 1), image[:, ::-1])
    np.testing.assert_array_equal(perturbed(image, "vertical_flip", 1.0), image[::-1])


def test_the_ten_of_the_consistency_study():
    assert list(CONSISTENCY) == [
        "more brightness", "more contrast", "Gaussian blur", "defocus blur", "fog", "rotation by 90°",
        "horizontal flip", "vertical flip", "random noise", "salt-and-pepper",
    ]  # fmt: skip
    image = scene(128, 128)
    outs = [perturbed(image, *setting, 3) for setting in CONSISTENCY.values()]
    assert len({out.tobytes() for out in outs}) == 10
    for (title, setting), out in zip(CONSISTENCY.items(), outs):
        assert damage(out, image) > 20, title
        assert setting.strength > 0
    np.testing.assert_array_equal(outs[5], np.rot90(image))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            (scene(), "gausian_noise", 0.1),
            "no perturbation 'gausian_noise'; choose one of gaussian_noise, shot",
        ),
        (
            (scene(), "gaussian_blur", -1),
            r"strength of gaussian_blur \(sigma, pixels\) is -1; it must be finite",
        ),
        ((scene(), "fog", float("nan")), "is nan"),
        ((scene(), "fog", "much"), "is much"),
        ((scene(), "vertical_flip", 0.5), "its strength is 0 or 1, not 0.5"),
        ((scene() / 255, "fog", 1), "is float64 of shape .*, not uint8"),
        ((scene()[..., 0], "fog", 1), r"shape \(48, 64\), .*repeat a grey channel"),
        ((scene()[None], "fog", 1), "images of a batch one by one"),
        ((scene()[:, :0], "fog", 1), r"shape \(48, 0, 3\), not uint8 of shape \(height, width, 3\)"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(arguments, words):
    fails(words, perturbed, *arguments)
