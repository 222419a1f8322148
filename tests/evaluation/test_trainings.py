"""The interval of a difference between kinds of networks (`benchmarks/paper.py`) holds other trainings."""

import numpy as np
import pytest

from benchmarks.paper import less


@pytest.mark.parametrize(("several", "few"), [(3, 3), (3, 1)])
def test_the_interval_covers_where_trainings_differ_more_than_images(several: int, few: int) -> None:
    """No kind is better, trainings differ by 4 points. False alarm: below 93 % of 1,500, 3 in 10,000."""
    generator = np.random.default_rng(0)
    repeats, images = 1500, 500
    covered = narrow = 0
    for _ in range(repeats):
        difficulty = generator.random(images)

        def kind(trainings: int, difficulty: np.ndarray = difficulty) -> np.ndarray:
            level = 0.5 + 0.04 * generator.standard_normal((trainings, 1))
            return (difficulty + 0.1 * generator.standard_normal((trainings, images)) < level).astype(float)

        kinds = {"plain": kind(several), "noisy": kind(several), "rare": kind(few)}
        found = less(kinds, "rare", "plain")
        covered += found.low <= 0 <= found.high
        images_alone = less({name: kinds[name][:1] for name in ("rare", "plain")}, "rare", "plain")
        narrow += images_alone.low <= 0 <= images_alone.high
    assert covered / repeats > 0.93
    assert narrow / repeats < 0.8, "one training each: images alone say too much"


def test_the_interval_of_single_trainings_is_that_of_images() -> None:
    """With one training of each kind nothing is known of others."""
    kinds = {"plain": np.array([[1.0, 1.0, 0.0, 0.0]]), "noisy": np.array([[1.0, 0.0, 0.0, 0.0]])}
    found = less(kinds, "noisy", "plain")
    assert found.estimate == -0.25
    assert found.low < -0.25 < 0 < found.high
