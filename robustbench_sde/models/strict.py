"""Define the base of all specifications, and how their errors become sentences."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from robustbench_sde.errors import BenchError, printable, unknown_name

#: Seed of all random numbers: a signed 64-bit integer, the type of the table column.
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]


class Spec(BaseModel):
    """Base of all specifications: immutable, strict about unknown keys and non-finite numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def first_problem(error: ValidationError, where: str = "") -> BenchError:
    """Return the first problem of a specification as a sentence; names the choice nearest to a wrong name.

    Args:
        error: what pydantic found.
        where: file or section, put in front.
    """
    problem = error.errors()[0]
    key = printable(".".join(str(part) for part in problem["loc"])) or "options"
    prefix = f"{where}: " if where else ""
    if problem["type"] == "literal_error" and isinstance(problem["input"], str):
        choices = [
            choice.strip("' ") for choice in problem["ctx"]["expected"].replace(" or ", ",").split(",")
        ]
        return BenchError(f"{prefix}{unknown_name(key, problem['input'], choices)}")
    if problem["type"] == "missing":
        return BenchError(f"{prefix}{key} is missing")
    message = problem["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    if problem["type"] == "value_error" and isinstance(problem["input"], dict):  # of several keys together
        return BenchError(f"{prefix}{message}")
    return BenchError(f"{prefix}{key}: {message} (got {str(problem['input'])[:60]!r})")
