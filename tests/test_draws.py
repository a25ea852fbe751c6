"""Random bits in bulk and numbers by table: every distribution is met, whatever way a number is found."""

import numpy as np
import pytest
from scipy.stats import chisquare, norm, poisson
from voc_trees import fails

from voclab.corruptions import draws
from voclab.corruptions.draws import Table, bits, generator, uniform
from voclab.corruptions.perturbations import perturbed

MANY = (200, 1000)


def surprise(found, lowest, chances):
    """p value of counts under the chances of ``lowest``, ``lowest + 1``, …, rare ones taken together."""
    counts = np.bincount(found.ravel() - lowest, minlength=len(chances))
    assert len(counts) == len(chances)  # nothing outside
    expected = found.size * np.asarray(chances)
    assert not counts[expected == 0].any()
    common = expected >= 10
    counts, expected = (np.append(x[common], x[~common].sum()) for x in (counts, expected))
    kept = expected > 0
    expected *= counts.sum() / expected.sum()  # equal but for rounding, as chisquare wants it
    return chisquare(counts[kept], expected[kept]).pvalue if kept.sum() > 1 else 1.0


def test_seeds_are_spread():
    first = [generator(seed).bit_generator.random_raw() for seed in (0, 1, (0, 1), (0, 2), (3, 2))]
    assert len(set(first)) == 5
    again = generator(np.random.SeedSequence((0, 1)))
    assert again.bit_generator.random_raw() == first[2]


@pytest.mark.parametrize("kind", [np.uint16, np.uint32])
@pytest.mark.parametrize("source", [np.random.SFC64, np.random.PCG64, np.random.Philox])
def test_bits_are_even(kind, source):
    found = bits(np.random.Generator(source(3)), (5, 7001, 3), kind)
    assert found.shape == (5, 7001, 3)
    assert found.dtype == kind
    for shift in range(np.dtype(kind).itemsize * 8):
        assert np.mean((found >> shift) & 1) == pytest.approx(0.5, abs=0.01)
    assert chisquare(np.bincount((found % 251).ravel(), minlength=251)).pvalue > 1e-4


def test_half_words_are_refused():
    fails("MT19937 gives too few bits", bits, np.random.Generator(np.random.MT19937(0)), (4,), np.uint16)


def test_uniform_reaches_both_ends_evenly():
    found = uniform(generator(0), MANY)
    assert found.dtype == np.float32
    assert -1 <= found.min() < -0.9999
    assert 0.9999 < found.max() <= 1
    assert chisquare(np.histogram(found, 50, (-1, 1))[0]).pvalue > 1e-4


@pytest.mark.parametrize("cell_bits", [1, 3, 10, 16])
def test_a_table_meets_its_distribution(cell_bits):
    """With few cells nearly all numbers are found by further bits, with many hardly any."""
    chances = np.array([0.3, 0.0, 0.123, 1e-4, 0.25, 0.0269, 0.3])
    table = Table(-3, np.cumsum(chances)[:-1], cell_bits)
    assert surprise(table.draw(generator(cell_bits), MANY), -3, chances) > 1e-4


def test_each_row_has_its_own_distribution():
    chances = np.array([[1, 0, 0], [0, 0, 1], [0.2, 0.5, 0.3], [1 / 3, 1 / 3, 1 / 3]])
    rows = np.random.default_rng(0).integers(0, 4, MANY).astype(np.uint8)
    for cell_bits in (2, 12):
        table = Table(0, np.minimum(np.cumsum(chances, axis=1)[:, :-1], 1), cell_bits)
        found = table.draw(generator(1), MANY, rows)
        for row in range(4):
            assert surprise(found[rows == row], 0, chances[row]) > 1e-4


def test_certain_numbers():
    for cumulative, number in (([0, 0], 7), ([0, 1], 6), ([1, 1], 5)):
        assert (Table(5, np.array(cumulative, float)).draw(generator(0), (50, 3)) == number).all()


@pytest.mark.parametrize("shape", [(6,), (40, 50), (40, 50, 3)])
def test_numpy_and_opencv_look_up_the_same(monkeypatch, shape):
    table = Table(-255, norm.cdf((np.arange(-255, 255) + 0.5) / 20))
    found = []
    for opencv in {False, draws._OPENCV_LOOKS_UP}:
        monkeypatch.setattr(draws, "_OPENCV_LOOKS_UP", opencv)
        found.append(table.draw(generator(4), shape))
        assert found[-1].shape == shape
    np.testing.assert_array_equal(found[0], found[-1])


def test_a_wider_distribution_draws_further_out():
    narrow, wide = (
        Table(-255, norm.cdf((np.arange(-255, 255) + 0.5) / width)).draw(generator(0), MANY).astype(int)
        for width in (9, 30)
    )
    assert (np.sign(narrow) * np.sign(wide) >= 0).all()
    assert (abs(wide) >= abs(narrow)).mean() > 0.9999


@pytest.mark.parametrize("strength", [0.004, 0.1, 0.5])
def test_gaussian_noise_is_normal(strength):
    image = np.full((300, 400, 3), 100, np.uint8)
    edges = (np.arange(-100, 155) + 0.5) / (255 * strength)
    chances = np.diff(norm.cdf(edges), prepend=0, append=1)
    assert surprise(perturbed(image, "gaussian_noise", strength, 0), 0, chances) > 1e-4


@pytest.mark.parametrize("value", [1, 77, 240])
@pytest.mark.parametrize("photons", [3, 60, 1000])
def test_shot_noise_counts_photons(value, photons):
    image, strength = np.full((300, 400, 3), value, np.uint8), photons**-0.5
    photons = strength**-2  # with the same last bit, on which it depends how a half is rounded
    counts = np.arange(int(poisson.isf(1e-15, value / 255 * photons)) + 2)
    looks = np.rint(255 * np.minimum(counts / photons, 1)).astype(int)
    chances = np.bincount(looks, poisson.pmf(counts, value / 255 * photons), minlength=256)
    assert surprise(perturbed(image, "shot_noise", strength, 0), 0, chances) > 1e-4
