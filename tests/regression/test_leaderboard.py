"""Models of several runs in an order that their images support."""

import numpy as np
from regression.worlds import changed, make_cell, make_side

from robustbench_sde.regression.leaderboard import make_boards


def cell(right, images=360, first=0, **facts):
    """A cell whose first `right` images are right; their ids begin at `first`."""
    return make_cell(changed(images, right)[0], ids=np.arange(images) + first, **facts)


def ranks(runs):
    """Rank, number of ties and worst accuracy by model, of the only board."""
    (board,) = make_boards(runs)
    return {row.model: (row.rank, row.tied, round(row.worst.estimate, 3)) for row in board.standings}, board


def test_models_that_images_do_not_separate_share_a_rank():
    """Two images fewer are a tie, and sixty fewer are not; ties are counted, the best comes first."""
    runs = {
        "a": make_side(cell(200, checkpoint="first")),
        "b": make_side(cell(198, checkpoint="second"), cell(140, checkpoint="third")),
    }
    found, board = ranks(runs)
    assert list(found) == ["first", "second", "third"]
    assert {name: row[:2] for name, row in found.items()} == {
        "first": (1, 1),
        "second": (1, 1),
        "third": (3, 0),
    }
    assert (board.paired, board.unpaired) == (3, 0)


def test_the_order_is_that_of_ranks():
    """A model of few images that shares the first rank stands above a better one that does not."""
    runs = {
        "many": make_side(cell(340, checkpoint="first"), cell(300, checkpoint="second")),
        "few": make_side(cell(8, images=10, first=10_000, checkpoint="small")),
    }
    found, board = ranks(runs)
    assert found["small"][2] < found["second"][2]
    assert [row.rank for row in board.standings] == [1, 1, 2]
    assert list(found) == ["first", "small", "second"]


def test_pairs_of_images_decide_what_two_samples_do_not():
    """Twelve more right ones of 360 equal images separate two models; on other images equal shares tie."""
    one, other = cell(200, checkpoint="one"), cell(188, checkpoint="other")
    assert ranks({"a": make_side(one), "b": make_side(other)})[0]["other"][0] == 2
    elsewhere = cell(188, first=10_000, checkpoint="other")
    found, board = ranks({"a": make_side(one), "b": make_side(elsewhere)})
    assert found["other"][:2] == (1, 1)
    assert (board.paired, board.unpaired) == (0, 1)


def test_the_worst_case_is_over_attacks_and_smaller_budgets():
    """A stronger attack counts, and so does a smaller budget at which fewer images are right."""
    strong = cell(150, settings="Strong(steps=9)", perturbation="auto")
    small = cell(120, eps=0.01)
    found, board = ranks({"a": make_side(cell(200), strong)})
    assert found["net"][2] == round(150 / 360, 3)
    assert board.standings[0].worst_attack.startswith("auto")
    boards = make_boards({"a": make_side(cell(200), strong, small)})
    assert [board.eps for board in boards] == [0.01, 0.03]
    assert boards[1].standings[0].worst.estimate == 120 / 360
    assert len(boards[1].standings[0].attacks) == 3


def test_unequal_effort_and_bad_cells_are_told():
    """A note says that models were not attacked alike, and another one names a cell that is left out."""
    other = cell(150, checkpoint="other", settings="PGD(steps=99)")
    bad = make_cell(np.zeros(0, bool), checkpoint="bad", status="invalid: wrong")
    _, board = ranks({"a": make_side(cell(200)), "b": make_side(other, bad)})
    assert board.notes[0].startswith("The models were not attacked alike")
    assert board.notes[1] == "Left out, b: bad pgd linf eps=0.03 is invalid: wrong."
    assert ranks({"a": make_side(cell(200)), "b": make_side(cell(150, checkpoint="c"))})[1].notes == ()


def test_each_data_set_norm_and_budget_has_a_board():
    """Boards are apart by data set, norm and budget; clean accuracy stands beside each."""
    clean = cell(300, perturbation="clean", norm="", eps=None, settings="Clean()")
    l2 = cell(250, norm="l2", eps=0.5)
    boards = make_boards({"a": make_side(clean, cell(200), l2, cell(90, dataset="other"))})
    assert [(board.dataset, board.norm, board.eps) for board in boards] == [
        ("digits", "l2", 0.5),
        ("digits", "linf", 0.03),
        ("other", "linf", 0.03),
    ]
    assert [board.standings[0].worst.estimate for board in boards] == [250 / 360, 200 / 360, 90 / 360]
    assert boards[0].standings[0].clean.estimate == 300 / 360
    assert boards[2].standings[0].clean is None
    assert make_boards({"a": make_side(clean)}) == []
