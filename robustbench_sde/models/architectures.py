"""List the architectures by name."""

from collections.abc import Mapping
from types import MappingProxyType

from robustbench_sde.models.architecture import PLAIN, Architecture
from robustbench_sde.models.published.liu2020 import LIU2020
from robustbench_sde.models.published.odenet import ODENET, ODENET_RESIDUAL

#: Architectures by the name that specifications store.
ARCHITECTURES: Mapping[str, Architecture] = MappingProxyType(
    {"plain": PLAIN, "liu2020": LIU2020, "odenet": ODENET, "odenet-residual": ODENET_RESIDUAL}
)
