"""Attack made with one solver and scored with another: does a solver protect, or only mask gradients?"""

from dataclasses import dataclass

from robustbench_sde.errors import BenchError
from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.perturbations.attacks.apgd import APGDCrossEntropy
from robustbench_sde.perturbations.attacks.limits import AtLeastOne
from robustbench_sde.sde.solvers import SOLVERS, check_solver


@dataclass(frozen=True, kw_only=True)
class OtherSolver(APGDCrossEntropy):
    """apgd-ce on the same weights and noise, solved with `on_solver` in `on_steps` steps.

    Adaptive solvers may mask gradients (Huang et al., PMLR 145), and a change of solver between attack and
    test changes the outcome (Carrara et al. 2021).
    """

    name = "other-solver"

    #: solver through which the attack computes gradients
    on_solver: str = "euler"
    #: number of steps of this solver; None: as many as the scored model has
    on_steps: AtLeastOne | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_solver(self.on_solver, ())

    @property
    def adaptive(self) -> bool:
        return SOLVERS[self.on_solver].order is None

    @property
    def label(self) -> str:
        steps = "" if self.on_steps is None else f"/{self.on_steps}"
        return f"{self.name}:{self.on_solver}{steps}"

    def crafted_on(self, model: RandomClassifier) -> RandomClassifier:
        other = model.with_solver(solver=self.on_solver, steps=self.on_steps)
        if other is None:
            raise BenchError(f"{model.name} has no solver of ours: {self.name} cannot change it")
        return other
