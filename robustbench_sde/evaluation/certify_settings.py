"""What is asked of certificates; no torch is needed to say it."""

from dataclasses import dataclass

from robustbench_sde.choices import DecisionRule
from robustbench_sde.errors import BenchError


@dataclass(frozen=True)
class CertifySettings:
    """Draws, error and radii of certificates."""

    #: largest number of draws of an image on the `certify` stream
    draws: int = 10_000
    #: draws of an image on the `select` stream, which pick the class
    select_draws: int = 100
    #: probability with which a certificate may be wrong, for each image
    alpha: float = 0.001
    #: L2 radii whose certified accuracy is asked for, in units of images in [0, 1]
    radii: tuple[float, ...] = (0.0, 0.25, 0.5, 1.0)
    #: decision that is certified: `vote` or `mean-prob`
    rule: DecisionRule = "vote"
    #: False: every image gets all draws
    early: bool = True
    #: seed of all randomness
    seed: int = 0
    #: rows (images x draws) in one pass; changes no number
    rows: int = 256

    def __post_init__(self) -> None:
        if self.rule == "single":
            raise BenchError("`rule` single has no certificate; use vote or mean-prob")
        for name, value, least in (
            ("draws", self.draws, 2),
            ("select_draws", self.select_draws, 1),
            ("batch_size", self.rows, 1),
        ):
            if value < least:
                raise BenchError(f"`{name}` is {value}; it must be at least {least}")
        if not 0 < self.alpha < 1:
            raise BenchError(f"`alpha` is {self.alpha}; it must be between 0 and 1")
        if not self.radii or not all(0 <= radius <= 1e4 for radius in self.radii):
            raise BenchError("`radius` must name at least one radius, each between 0 and 10000")
        if not -(2**63) <= self.seed < 2**63:
            raise BenchError(f"`seed` is {self.seed}; it must be a whole number of 64 bits")
