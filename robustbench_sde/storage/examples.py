"""A few images of a cell, before and after, for people to look at."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from robustbench_sde.errors import BenchError

#: At most so many images of a cell are kept.
EXAMPLES = 8


@dataclass(frozen=True, eq=False)
class Examples:
    """Images of a cell beside what was made of them; their predictions are in its records, by id.

    Raises:
        BenchError: the arrays do not belong together, or are too many.
    """

    #: (n,) int64 image ids, n <= `EXAMPLES`
    ids: npt.NDArray[np.int64]
    #: (n,) int64 true classes
    labels: npt.NDArray[np.int64]
    #: (n, C, H, W) float32 in [0, 1]
    clean: npt.NDArray[np.float32]
    #: (n, C, H, W) float32 in [0, 1]
    perturbed: npt.NDArray[np.float32]

    def __post_init__(self) -> None:
        count = len(self.ids)
        if not (
            count <= EXAMPLES
            and self.ids.shape == self.labels.shape == (count,)
            and self.clean.shape == self.perturbed.shape
            and self.clean.ndim == 4
            and len(self.clean) == count
            and self.ids.dtype == self.labels.dtype == np.int64
            and self.clean.dtype == self.perturbed.dtype == np.float32
        ):
            raise BenchError(f"example images do not belong together, or are more than {EXAMPLES}")
