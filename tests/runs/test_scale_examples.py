"""The files of examples/scale: options that exist, YAML and shell that parse."""

import re
import subprocess
from pathlib import Path

import pytest
import typer
import yaml

from robustbench_sde.cli.app import app

FOLDER = Path(__file__).parents[2] / "examples" / "scale"


@pytest.mark.parametrize("name", ["two_gpus.sh", "suite.sbatch", "train.sbatch"])
def test_scripts_parse(name):
    """Bash parses the scripts without running them."""
    subprocess.run(["bash", "-n", FOLDER / name], check=True)


@pytest.mark.parametrize("path", sorted(FOLDER.iterdir()), ids=lambda path: path.name)
def test_options_exist(path):
    """Every option of an sde-bench command is one that it has."""
    text = re.sub(r"\\\n|(?m:^\s*#.*$)", " ", path.read_text())
    commands = typer.main.get_command(app).commands
    found = re.findall(r"(?:sde-bench|robustbench_sde) (run|train)\b([^;&\n]*(?:\n {4,}--[^\n]*)*)", text)
    assert found or path.name == "Dockerfile"
    for name, rest in found:
        known = {option for parameter in commands[name].params for option in parameter.opts}
        assert set(re.findall(r"--[a-z-]+", rest)) <= known


def test_the_kuberay_job_is_a_job_and_its_volume():
    """Valid YAML, with the entry point in one line."""
    job, volume = yaml.safe_load_all((FOLDER / "rayjob.yaml").read_text())
    assert (job["kind"], volume["kind"]) == ("RayJob", "PersistentVolumeClaim")
    assert "\n" not in job["spec"]["entrypoint"].strip()
    head = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    assert head["volumes"][0]["persistentVolumeClaim"]["claimName"] == volume["metadata"]["name"]
