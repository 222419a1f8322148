"""Options of speed: where they can be given, where they are noted, and what they leave alone."""

from builders import save_digits_model

from robustbench_sde.storage.run_folder import RunFolder


def test_graphs_can_be_switched_off_and_cells_stay_the_same(program, monkeypatch, tmp_path):
    """The manifest says whether passes may be recorded; cells have the same keys and numbers either way."""
    monkeypatch.chdir(tmp_path)
    path = save_digits_model(tmp_path / "tiny.safetensors")
    command = ["attack", path, "--device", "cpu", "--images", "4", "--steps", "2", "--eot-draws", "2"]
    command += ["--score-draws", "2", "--quiet", "--attack", "pgd"]
    folders = {}
    for option in ("--graphs", "--no-graphs"):
        out = tmp_path / option.strip("-")
        code, _, err = program(*command, option, "--out", out)
        assert code == 0, err
        folders[option] = RunFolder(out)
    assert folders["--graphs"].read_manifest()["graphs"] is True
    assert folders["--no-graphs"].read_manifest()["graphs"] is False
    stored = [{path.name for path in folder.path.glob("records/*.parquet")} for folder in folders.values()]
    assert stored[0] == stored[1]
    assert len(stored[0]) == 3


def test_commands_that_compute_have_the_same_options_of_speed(program):
    """Every command that takes a noise backend takes `--no-graphs` as well."""
    for command in ("attack", "audit", "certify", "corrupt", "run", "score", "stability", "study", "versus"):
        code, out, _ = program(command, "--help")
        assert code == 0
        assert "--noise-backend" in out
        assert "--no-graphs" in out
