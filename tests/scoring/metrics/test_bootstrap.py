"""The bootstrap: against theory, against a plain loop, its coverage, and as properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import permutation_test, t
from sklearn.utils import resample

from nanoemox.scoring import bootstrap_difference, bootstrap_interval, mean_statistic
from nanoemox.scoring.metrics import bootstrap
from nanoemox.types import NanoEmoXError

values = st.lists(st.floats(-5, 5), min_size=1, max_size=40)


def test_the_interval_of_a_mean_is_that_of_theory() -> None:
    right = np.arange(400) % 5 != 0  # 80 %
    interval = bootstrap_interval(mean_statistic(right), 400, num_resamples=20_000)
    half = 1.96 * np.sqrt(0.8 * 0.2 / 400)
    assert interval.estimate == pytest.approx(0.8)
    assert interval.low == pytest.approx(0.8 - half, abs=0.004)
    assert interval.high == pytest.approx(0.8 + half, abs=0.004)
    assert (interval.level, interval.num_resamples) == (0.95, 20_000)


def test_equal_to_a_loop_over_scikit_learns_resample() -> None:
    data = np.random.default_rng(3).gamma(2.0, size=60)
    loop = [resample(data, random_state=seed).mean() for seed in range(3000)]
    interval = bootstrap_interval(mean_statistic(data), 60, level=0.9, num_resamples=3000, seed=1)
    assert (interval.low, interval.high) == pytest.approx(tuple(np.quantile(loop, [0.05, 0.95])), abs=0.04)


def test_interval_has_nominal_coverage() -> None:
    generator = np.random.default_rng(0)
    covered = 0
    for trial in range(300):
        data = generator.normal(size=80)
        interval = bootstrap_interval(mean_statistic(data), 80, level=0.9, num_resamples=400, seed=trial)
        covered += interval.low <= 0 <= interval.high
    assert 0.85 <= covered / 300 <= 0.94


def test_p_value_is_uniform_under_the_null() -> None:
    generator = np.random.default_rng(1)
    p_values = []
    for trial in range(300):
        a, b = generator.normal(size=(2, 60))
        pair = bootstrap_difference(mean_statistic(a), mean_statistic(b), 60, num_resamples=300, seed=trial)
        p_values.append(pair.p_value)
    assert 0.02 <= np.mean(np.array(p_values) <= 0.05) <= 0.09
    assert 0.42 <= np.mean(p_values) <= 0.58


def test_the_p_value_of_a_few_wins_is_that_of_the_closed_form() -> None:
    wins = np.arange(10) < 2  # better on two of ten samples, equal on the others
    pair = bootstrap_difference(mean_statistic(wins), mean_statistic(np.zeros(10)), 10, num_resamples=40_000)
    assert pair.p_value == pytest.approx(2 * 0.8**10, abs=0.005)  # no resample holds a win: (8 / 10) ** 10


def test_p_value_is_close_to_the_permutation_test() -> None:
    gain = np.random.default_rng(6).normal(0.15, 1, size=60)
    flips = permutation_test((gain,), np.mean, permutation_type="samples", n_resamples=9999, rng=0).pvalue
    pair = bootstrap_difference(mean_statistic(gain), mean_statistic(np.zeros(60)), 60, num_resamples=9999)
    assert 0.001 < flips < 0.2
    assert pair.p_value == pytest.approx(float(flips), abs=0.01)


def test_paired_test_is_more_powerful_than_two_intervals() -> None:
    generator = np.random.default_rng(2)
    hard = generator.normal(size=200) * 3
    a, b = mean_statistic(hard + 0.2), mean_statistic(hard + generator.normal(size=200) * 0.1)
    one, two = bootstrap_interval(a, 200), bootstrap_interval(b, 200)
    assert one.low < two.high  # they overlap
    pair = bootstrap_difference(a, b, 200)
    assert pair.interval.low > 0.15
    assert pair.p_value == pytest.approx(2 / 2001)


@given(values, st.integers(0, 5))
def test_properties(data: list[float], seed: int) -> None:
    statistic = mean_statistic(data)
    interval = bootstrap_interval(statistic, len(data), num_resamples=50, seed=seed)
    slack = 1e-9
    assert min(data) - slack <= interval.low <= interval.high <= max(data) + slack
    assert interval.estimate == pytest.approx(float(np.mean(data)), abs=1e-12)
    assert interval == bootstrap_interval(statistic, len(data), num_resamples=50, seed=seed)
    narrow = bootstrap_interval(statistic, len(data), level=0.5, num_resamples=50, seed=seed)
    assert interval.low - slack <= narrow.low <= narrow.high <= interval.high + slack


@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5)), min_size=1, max_size=30))
def test_a_difference_is_antisymmetric(rows: list[tuple[float, float]]) -> None:
    a, b = (mean_statistic(column) for column in zip(*rows, strict=True))
    ab = bootstrap_difference(a, b, len(rows), num_resamples=50)
    ba = bootstrap_difference(b, a, len(rows), num_resamples=50)
    assert ab.p_value == ba.p_value
    assert 0 < ab.p_value <= 1
    assert (ab.interval.low, ab.interval.high) == pytest.approx((-ba.interval.high, -ba.interval.low), abs=1e-9)


def test_a_system_does_not_differ_from_itself() -> None:
    statistic = mean_statistic([0.0, 1.0, 1.0])
    pair = bootstrap_difference(statistic, statistic, 3)
    assert (pair.interval.low, pair.interval.high, pair.p_value) == (0, 0, 1)


def test_resampling_in_blocks_does_not_change_results() -> None:
    mean = mean_statistic(np.random.default_rng(4).normal(size=50_000))
    blocks: list[np.ndarray] = []

    def statistic(indices: np.ndarray) -> np.ndarray:
        blocks.append(indices)
        return mean(indices)

    found = bootstrap_interval(statistic, 50_000, num_resamples=101)
    drawn = [block for block in blocks if len(block) > 1]
    assert len(drawn) > 1
    assert max(block.nbytes for block in drawn) <= 16_000_000
    whole = mean(np.concatenate(drawn))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(whole, [0.025, 0.975])), abs=1e-12)


def test_clustered_intervals_have_nominal_coverage_and_plain_ones_do_not() -> None:
    """Thirty speakers of eight clips each, whose scores share what is theirs."""
    generator = np.random.default_rng(5)
    names = np.repeat(np.arange(30), 8).tolist()
    covered = {"cluster": 0, "sample": 0}
    for trial in range(200):
        data = np.repeat(generator.normal(size=30), 8) + 0.5 * generator.normal(size=240)
        for kind, clusters in (("cluster", names), ("sample", None)):
            found = bootstrap_interval(
                mean_statistic(data), 240, clusters=clusters, level=0.9, num_resamples=300, seed=trial
            )
            covered[kind] += found.low <= 0 <= found.high
    assert 0.82 <= covered["cluster"] / 200 <= 0.95
    assert covered["sample"] / 200 < 0.65


def test_whole_clusters_are_drawn() -> None:
    seen: set[tuple[int, ...]] = set()

    def statistic(indices: np.ndarray) -> np.ndarray:
        seen.update(tuple(sorted(row.tolist())) for row in indices)
        return indices.mean(1).astype(np.float64)

    found = bootstrap_interval(statistic, 5, clusters=["a", "b", "a", "b", "b"], num_resamples=200)
    assert seen == {(0, 0, 2, 2), (0, 1, 2, 3, 4), (1, 1, 3, 3, 4, 4), (0, 1, 2, 3, 4)}
    assert found.num_clusters == 2


def test_few_clusters_have_nominal_coverage() -> None:
    generator = np.random.default_rng(6)
    names = np.repeat(np.arange(6), 10).tolist()
    covered, significant = 0, 0
    for trial in range(300):
        data = np.repeat(generator.normal(size=6), 10) + 0.5 * generator.normal(size=60)
        statistic, zero = mean_statistic(data), mean_statistic(np.zeros(60))
        found = bootstrap_difference(statistic, zero, 60, clusters=names, num_resamples=500, seed=trial)
        covered += found.interval.low <= 0 <= found.interval.high
        significant += found.p_value < 0.05
    assert 0.9 <= covered / 300 <= 0.98
    assert 0.02 <= significant / 300 <= 0.1


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 9, 30])
def test_students_t_is_that_of_scipy(freedom: int) -> None:
    for value in (0.0, 0.5, 1.96, 12.7):
        assert bootstrap.student_tail(value, freedom) == pytest.approx(float(t.sf(value, freedom)), abs=1e-12)
    for tail in (0.4, 0.05, 0.025):
        assert bootstrap.student_quantile(tail, freedom) == pytest.approx(float(t.isf(tail, freedom)), abs=1e-9)


def test_more_samples_of_the_same_few_clusters_are_no_weaker_evidence() -> None:
    right, wrong = mean_statistic([1.0] * 8), mean_statistic([0.0] * 8)
    fewer = bootstrap_difference(mean_statistic([1.0] * 4), mean_statistic([0.0] * 4), 4, clusters="abcd").p_value
    assert fewer == bootstrap_difference(right, wrong, 8, clusters="aabbccdd").p_value > 0.05


@pytest.mark.parametrize("clusters", [None, "a"])
def test_one_sample_shows_no_difference(clusters: str | None) -> None:
    assert bootstrap_difference(mean_statistic([1.0]), mean_statistic([0.0]), 1, clusters=clusters).p_value == 1


def test_paired_difference_resamples_the_same_clusters() -> None:
    generator = np.random.default_rng(7)
    names = np.repeat(np.arange(6), 20).tolist()
    hard = np.repeat(generator.normal(size=6) * 3, 20)
    a, b = mean_statistic(hard + 0.2), mean_statistic(hard)
    pair = bootstrap_difference(a, b, 120, clusters=names)
    assert (pair.interval.low, pair.interval.high) == pytest.approx((0.2, 0.2))
    noisy = mean_statistic(hard + np.repeat(generator.normal(size=6), 20))
    wide = bootstrap_difference(noisy, b, 120, clusters=names).interval
    narrow = bootstrap_difference(noisy, b, 120).interval
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)


def test_mistakes_are_named() -> None:
    statistic = mean_statistic([1.0])
    for options, message in (
        ({"level": 95}, "level is 95"),
        ({"num_resamples": 0}, "num_resamples is 0"),
    ):
        with pytest.raises(NanoEmoXError, match=message):
            bootstrap_interval(statistic, 1, **options)
    with pytest.raises(NanoEmoXError, match="0 samples"):
        bootstrap_difference(statistic, statistic, 0)
    with pytest.raises(NanoEmoXError, match="2 clusters for 1 samples"):
        bootstrap_interval(statistic, 1, clusters=["a", "b"])
    with pytest.raises(NanoEmoXError, match="finite"):
        mean_statistic([float("nan")])
