"""Define the header of a checkpoint; reading it imports no torch, and the weights stay on disk."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, ValidationError

from robustbench_sde.errors import BenchError
from robustbench_sde.models.spec import ModelSpec
from robustbench_sde.models.strict import Spec, first_problem
from robustbench_sde.storage.files import check_format
from robustbench_sde.storage.provenance import versions
from robustbench_sde.storage.tensors import read_metadata

#: Key of the header in the metadata of the safetensors file.
KEY = "sde-bench"
#: most characters of a header
_MAX_HEADER = 2**20

ShortText = Annotated[str, StringConstraints(max_length=200)]


class DatasetRef(Spec):
    """The data a model was trained on."""

    name: ShortText
    fingerprint: ShortText
    class_names: tuple[ShortText, ...]


class CheckpointHeader(Spec):
    """The self-description of a checkpoint."""

    format: Literal[1] = 1
    model: ModelSpec
    dataset: DatasetRef
    #: configuration and outcome of the training, for people
    training: dict[str, Any] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=versions)

    @property
    def unfinished(self) -> str:
        """Sentence about a training that was interrupted or still runs; empty if it is finished."""
        done, epochs = self.training.get("epochs_done"), self.training.get("epochs")
        if not (isinstance(done, int) and isinstance(epochs, int) and done < epochs):
            return ""
        return f"{done} of {epochs} epochs, training not finished"


def read_header(path: Path) -> CheckpointHeader:
    """Return the header alone.

    Raises:
        BenchError: the file is missing, truncated, not a checkpoint of this package, or its header is wrong.
    """
    return parse_header(path, read_metadata(path))


def parse_header(path: Path, metadata: dict[str, str]) -> CheckpointHeader:
    """Return the header in the metadata of a safetensors file. Raises as `read_header`."""
    text = metadata.get(KEY)
    if text is None:
        raise BenchError(f"{path} is a safetensors file without an sde-bench header; import it first")
    if len(text) > _MAX_HEADER:
        raise BenchError(f"{path}: the header has {len(text)} characters, more than {_MAX_HEADER}")
    try:
        loaded = json.loads(text)
        check_format(path, loaded, 1)
        return CheckpointHeader.model_validate(loaded)
    except ValidationError as error:
        raise first_problem(error, f"{path}: header") from error
    except (ValueError, RecursionError) as error:
        raise BenchError(f"{path}: the header is not JSON ({error})") from error
