from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from synthetic import CONFIGS, PROBLEM, best_at, landscape_at

from tunekit.core.config import Config
from tunekit.core.evaluation import Status
from tunekit.search.landscape import Landscape, Point
from tunekit.search.neighbours import (
    DISTANCES,
    Distances,
    Neighbours,
    preference,
    unmeasured,
)


class TestMoments:
    """Expected log times, and which rise together."""

    def _moments(self, *landscapes: Landscape) -> tuple[dict[Config, float], np.ndarray]:
        mean, covariance = Neighbours.of(PROBLEM, CONFIGS, landscapes).moments()
        return dict(zip(CONFIGS, mean.tolist(), strict=True)), covariance

    def test_without_neighbours_all_are_equal(self) -> None:
        mean, covariance = self._moments()
        assert set(mean.values()) == {0.0}
        assert not covariance.any()

    def test_one_far_away_is_believed_less(self) -> None:
        near, far = (self._moments(landscape_at(n=size))[0] for size in (2**20, 2**26))
        spreads = [max(mean.values()) - min(mean.values()) for mean in (near, far)]
        weight = DISTANCES.weight(PROBLEM, landscape_at(n=2**26).problem)
        assert spreads[0] == pytest.approx(0.4 / 2)
        assert spreads[1] == pytest.approx(0.4 * weight / (1 + weight))

    def test_what_a_search_did_not_measure_is_completed_from_what_is_like_it(self) -> None:
        """One and four warps were measured; eight are like four, two like both."""
        complete, _ = self._moments(landscape_at())
        partial, _ = self._moments(landscape_at(configs=CONFIGS[::2]))
        of_others = [[mean[config] for config in CONFIGS[1::2]] for mean in (complete, partial)]
        assert np.corrcoef(*of_others)[0, 1] > 0.7

    def test_what_is_like_nothing_measured_is_expected_like_most(self) -> None:
        few = [config for config in CONFIGS if config["BLOCK"] == 64 and config["VEC"] == 4]
        mean, _ = self._moments(landscape_at(64, configs=few))
        known = [mean[config] for config in few]
        strange = mean[Config(BLOCK=1024, VEC=1, num_warps=1)]
        assert min(known) < strange < max(known)

    @pytest.mark.parametrize("every", [1, 2, 3, 7])
    def test_the_covariance_is_one(self, every: int) -> None:
        """Symmetric and positive semidefinite, whatever each of many searches left out."""
        landscapes = [
            landscape_at(best, n=2**power, configs=CONFIGS[start::every])
            for start, (best, power) in enumerate(itertools.product((64, 256, 1024), (18, 20, 23)))
        ]
        _, covariance = self._moments(*landscapes)
        assert np.array_equal(covariance, covariance.T) or np.allclose(covariance, covariance.T)
        assert np.linalg.eigvalsh(covariance).min() > -1e-12
        assert covariance.diagonal().max() > 1e-4

    def test_a_row_knows_nothing_of_candidates_it_does_not_have(self) -> None:
        neighbours = Neighbours.of(PROBLEM, CONFIGS, [landscape_at(configs=CONFIGS[:5])])
        assert np.isnan(neighbours.logs).tolist() == [[False] * 5 + [True] * (len(CONFIGS) - 5)]


class TestDistances:
    @pytest.mark.parametrize(
        "changes",
        [
            {"dims": (("n", 2**21),)},
            {"dtype": "float16"},
            {"kernel": "relu"},
            {"alignment": "p4"},
            {"device": "h200"},
        ],
    )
    def test_whatever_differs_makes_it_less_and_both_ways_alike(
        self, changes: dict[str, str]
    ) -> None:
        other = replace(PROBLEM, **changes)  # type: ignore[arg-type]
        assert 0.0 < DISTANCES.weight(PROBLEM, other) < DISTANCES.weight(PROBLEM, PROBLEM) == 1.0
        assert DISTANCES.weight(PROBLEM, other) == DISTANCES.weight(other, PROBLEM)

    def test_the_hash_of_a_kernel_does_not_matter(self) -> None:
        assert DISTANCES.weight(PROBLEM, replace(PROBLEM, kernel_hash="ffff")) == 1.0

    def test_figures(self) -> None:
        distances = Distances(octaves=2.0, itemsize=0.3, dtype=0.1, kernel=0.5)
        other = replace(PROBLEM, dims=(("n", 2**23),), dtype="float16", kernel="relu")
        assert distances.weight(PROBLEM, other) == pytest.approx(
            math.exp(-(1.5**2 + 0.3 + 0.5) / 2)
        )
        halves = (replace(PROBLEM, dtype=name) for name in ("float16", "bfloat16"))
        assert distances.weight(*halves) == pytest.approx(math.exp(-0.1 / 2))

    def test_every_size_counts(self) -> None:
        one, other = (
            replace(PROBLEM, dims=dims) for dims in ((("k", 8), ("n", 8)), (("k", 16), ("n", 4)))
        )
        assert Distances(octaves=1.0).weight(one, other) == pytest.approx(math.exp(-1))

    def test_a_size_may_be_zero(self) -> None:
        """As may another project's: whole numbers from 0."""
        none = replace(PROBLEM, dims=(("n", 0),))
        assert 0.0 <= DISTANCES.weight(PROBLEM, none) < 1.0
        assert DISTANCES.weight(PROBLEM, none) == DISTANCES.weight(none, PROBLEM)
        assert DISTANCES.weight(none, none) == 1.0


class TestPreference:
    def test_the_share_of_the_neighbours_it_serves_by_weight(self) -> None:
        near, far = landscape_at(128), landscape_at(512, n=2**23)
        weights = [DISTANCES.weight(PROBLEM, each.problem) for each in (near, far)]
        shares = preference(PROBLEM, CONFIGS, [near, far])
        assert list(shares) == CONFIGS
        assert shares[best_at(128)] == pytest.approx(weights[0] / sum(weights))
        assert shares[best_at(512)] == pytest.approx(weights[1] / sum(weights))
        assert {shares[config] for config in CONFIGS[:8]} == {0.0}

    def test_half_a_percent_over_the_best_is_as_good(self) -> None:
        points = [
            Point(config, Status.OK, time_us)
            for config, time_us in zip(CONFIGS, (1.0, 1.0049, 1.0051), strict=False)
        ]
        landscape = Landscape(PROBLEM, tuple(points))
        assert list(preference(PROBLEM, CONFIGS[:4], [landscape]).values()) == [1, 1, 0, 0]

    def test_the_best_of_a_neighbour_may_be_no_candidate(self) -> None:
        others = [config for config in CONFIGS if config != best_at(256)]
        assert set(preference(PROBLEM, others, [landscape_at()]).values()) == {0.0}

    def test_what_failed_or_is_unknown_at_a_neighbour_does_not_serve_it(self) -> None:
        landscapes = [
            landscape_at(),
            landscape_at(failed=[best_at(256)]),
            landscape_at(configs=CONFIGS[:9]),
        ]
        assert preference(PROBLEM, CONFIGS, landscapes)[best_at(256)] == pytest.approx(1 / 3)

    def test_without_neighbours_nothing_is_preferred(self) -> None:
        stranger = landscape_at()
        stranger = replace(stranger, problem=replace(stranger.problem, dims=(("m", 1),)))
        assert preference(PROBLEM, CONFIGS, []) == dict.fromkeys(CONFIGS, 0.0)
        assert preference(PROBLEM, CONFIGS, [stranger]) == dict.fromkeys(CONFIGS, 0.0)


class TestUnmeasured:
    def test_what_no_near_problem_has_a_time_of(self) -> None:
        near = [landscape_at(configs=CONFIGS[:20]), landscape_at(n=2**19, configs=CONFIGS[10:30])]
        failed = landscape_at(configs=CONFIGS[30:40], failed=CONFIGS[30:40])
        far = landscape_at(n=2**27, configs=CONFIGS)
        assert unmeasured(PROBLEM, CONFIGS, [*near, failed, far]) == len(CONFIGS) - 30

    def test_of_nothing_known_all_of_them(self) -> None:
        assert unmeasured(PROBLEM, CONFIGS, []) == len(CONFIGS)
