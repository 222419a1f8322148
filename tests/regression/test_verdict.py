"""Words of a comparison: its one line, its notes, and its advice."""

import pytest
from regression.worlds import changed, make_cell, make_side

from robustbench_sde.regression.compare import compare
from robustbench_sde.regression.policy import Policy
from robustbench_sde.regression.verdict import FewerImages


@pytest.mark.parametrize(("count", "end"), [(3, ": a, b, c"), (4, ": a, b, c, ...")])
def test_new_cells_are_named_up_to_three(count, end):
    """Cells that the baseline lacks are counted, and the first three named."""
    before, _ = changed(30, 20)
    blank = {"perturbation": "", "norm": "", "eps": None}
    new = [make_cell(before, checkpoint=name, **blank) for name in "abcd"[:count]]
    (note,) = compare(make_side(make_cell(before)), make_side(make_cell(before), *new), Policy()).notes
    assert note == f"{count} cells of the run not in the baseline and not judged{end}"


def test_a_comparison_shows_itself_in_one_line():
    """Both sides, the verdict and the counts stand in it."""
    before, after = changed(360, 200, 60, 0)
    found = compare(
        make_side(make_cell(before), name="old"), make_side(make_cell(after), name="new"), Policy()
    )
    assert repr(found) == "<Comparison: old -> new, regression (1 regressed)>"


@pytest.mark.parametrize(
    ("command", "mend"), [("", "run it with 1,000 images"), ("x --images 1000", "`x --images 1000`")]
)
def test_fewer_images_say_what_to_do(command, mend):
    """The command that makes the run is named where it is known."""
    text = str(FewerImages(50, 1000, command))
    assert text == f"the run has 50 images and the baseline 1,000: {mend}"
