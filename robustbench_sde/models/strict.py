"""Define the base of all specifications, and how their errors become sentences."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from robustbench_sde.errors import BenchError, in_our_words, printable, unknown_name

#: Seed of all random numbers: a signed 64-bit integer, the type of the table column.
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]


class Spec(BaseModel):
    """Base of all specifications: immutable, strict about unknown keys and non-finite numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def first_problem(error: ValidationError, where: str = "", *, parameters: bool = False) -> BenchError:
    """Return the first problem of a specification as a sentence; names the choice nearest to a wrong name.

    Args:
        error: what pydantic found.
        where: file or section, put in front.
        parameters: whether keys are parameters of a function, which are options of a command.
    """
    problem = error.errors()[0]
    # the first part is a key; texts behind it may be names of types, where a value may have one of several
    first, *more = problem["loc"] or ("options",)
    parts = [first, *(part for part in more if isinstance(part, int) or part.isidentifier())]
    key = printable(".".join(map(str, parts)))
    prefix = f"{where}: " if where else ""
    if problem["type"] == "literal_error" and isinstance(problem["input"], str):
        choices = [
            choice.strip("' ") for choice in problem["ctx"]["expected"].replace(" or ", ",").split(",")
        ]
        return BenchError(f"{prefix}{unknown_name(key, problem['input'], choices)}")
    if problem["type"] == "missing":
        return BenchError(f"{prefix}{key} is missing")
    message = in_our_words(problem["msg"])
    if problem["type"] == "value_error" and isinstance(problem["input"], dict):  # of several keys together
        return BenchError(f"{prefix}{message}")
    named = f"`{key}`" if parameters else key
    return BenchError(f"{prefix}{named}: {message} (got {str(problem['input'])[:60]!r})")
