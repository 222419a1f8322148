"""The page as a file: complete, escaped, self-contained, the same for the same run; damage is one line."""

import base64
import hashlib
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from reporting.conftest import CHECKPOINTS, HOSTILE

from robustbench_sde.errors import BenchError
from robustbench_sde.evaluation.tries import survival_numbers
from robustbench_sde.reporting.html.examples import data_uri, examples
from robustbench_sde.reporting.html.page import write_report
from robustbench_sde.reporting.html.svg import inline
from robustbench_sde.storage.examples import Examples

VOID = {"meta", "input", "img", "br", "link"}


class Parsed(HTMLParser):
    """Tags with their attributes, and the text within each kind of tag."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self.open = [], {}, []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(text)

    def attributes(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def render(sample, folder):
    """The page of a sample, and it parsed."""
    run = sample.write(folder)
    text = write_report(run, run)[-1].read_text(encoding="utf-8")
    return text, Parsed(text)


@pytest.fixture(scope="module")
def text(report):
    return report.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def parsed(text):
    return Parsed(text)


def test_every_tag_is_closed(parsed):
    """`Parsed` asserts the order of the ends."""
    assert parsed.open == []


def test_nothing_is_fetched(text, parsed):
    """No address but those inside the page; the policy forbids the rest but one script, by its hash."""
    for _, attributes in parsed.tags:
        for name in ("src", "href", "xlink:href", "action", "srcset", "data", "poster"):
            assert attributes.get(name, "#").startswith(("#", "data:image/png;base64,"))
    assert "@import" not in text
    assert re.findall(r"url\([^#]", text) == []
    policy = next(a["content"] for a in parsed.attributes("meta") if "http-equiv" in a)
    assert policy.startswith("default-src 'none'; ")
    script = re.search(r"<script>(.*?)</script>", text, re.DOTALL).group(1)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in policy


def test_names_from_outside_are_text(text, parsed):
    """A checkpoint, a class and a command with a script in their names."""
    assert len(parsed.attributes("script")) == 1
    assert HOSTILE not in text
    assert any(HOSTILE in shown for shown in parsed.texts["th"])  # a checkpoint
    assert any(HOSTILE in shown for shown in parsed.texts["figcaption"])  # a class
    assert any(HOSTILE in shown for shown in parsed.texts["dd"])  # the command
    assert any(HOSTILE in shown for shown in parsed.texts["td"])  # what an audit says


def test_ids_are_unique_and_links_lead_somewhere(parsed):
    """Also those inside of figures, which matplotlib repeats."""
    ids = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [a["href"][1:] for a in parsed.attributes("a")]
    uses = [a["xlink:href"][1:] for a in parsed.attributes("use")]
    assert links
    assert uses
    assert set(links + uses) <= set(ids)


def test_all_sections_are_there(parsed):
    """And each figure is described to those who cannot see it."""
    assert parsed.texts["h2"] == [
        "At a glance", "Accuracy against budget", "Accuracy against distance", "Corruptions",
        "Accuracy against tries", "Accuracy against score draws", "Examples", "Attack cost", "Audit",
        "All cells", "Provenance",
    ]  # fmt: skip
    assert len(parsed.attributes("svg")) == 9
    assert all(a["role"] == "img" and a["aria-label"] for a in parsed.attributes("svg"))
    assert all(a["alt"] for a in parsed.attributes("img"))


def test_tables_are_tables(parsed):
    """A caption for each, a scope for every heading."""
    assert len(parsed.attributes("caption")) == len(parsed.attributes("table"))
    assert {a["scope"] for a in parsed.attributes("th")} == {"col", "row"}


def test_every_accuracy_has_its_interval(text):
    """The number, and the interval right behind it, in the first table and in all cells."""
    for name in ("glance", "cells", "heat", "heat-0"):
        table = re.search(rf'<table id="{name}">.*?</table>', text, re.DOTALL).group()
        accuracies = re.findall(r">(\d+\.\d)( <small>\(\d+\.\d-\d+\.\d\))?", table)
        assert accuracies
        assert all(interval for _, interval in accuracies)


def test_the_first_table_takes_the_lowest_attack_of_a_budget(text):
    """At 0.03 pgd leaves 18 of 40 images right and square 33: pgd is named."""
    row = re.search(r'<table id="glance">.*?</tr>.*?(<tr>.*?</tr>)', text, re.DOTALL).group(1)
    cell = re.findall(r"<td.*?</td>", row, re.DOTALL)[3]
    assert cell.startswith('<td class="number" data-order="0.45">45.0')
    assert cell.endswith("<br><small>pgd</small></td>")
    assert "linf 0.03 (7.65/255)" in text


def test_findings_name_failed_audits(parsed):
    """Before any number: what the audit says, and the lowest accuracy."""
    shown = parsed.texts["li"]
    assert "Audit of digits-additive: fail, black box." in shown
    assert "Lowest accuracy: 10.0 (4.0-23.1) %, digits-additive under pgd linf 0.06 (15.3/255)." in shown


def test_sections_without_data_are_left_out(sample, tmp_path):
    """A run of clean images on one draw has neither figures nor empty headings."""
    sample.rows = [row for row in sample.rows if row["perturbation"] == "clean" and row["score_draws"] == 16]
    for row in sample.rows:
        sample.records[row["cell"]] = sample.records[row["cell"]].assign(score_draws=1)
        row["mean_score_draws"] = 1.0
        row |= survival_numbers(sample.records[row["cell"]])
    sample.corruptions, sample.audits, sample.examples = None, [], {}
    _, parsed = render(sample, tmp_path)
    assert parsed.texts["h2"] == ["At a glance", "All cells", "Provenance"]
    assert parsed.texts["li"] == ["All 3 cells are valid."]
    assert not (tmp_path / "figures").exists()


def test_a_bad_cell_comes_first(sample, tmp_path):
    """The reason of a bad cell is the first line of the page, and nothing good is said."""
    sample.rows[2] |= {"status": "invalid: eps was 0.031", "accuracy": np.nan}
    sample.complete = False
    _, parsed = render(sample, tmp_path)
    assert parsed.texts["li"][0] == "1 of 39 cells must not be used: invalid: eps was 0.031"
    assert parsed.texts["li"][1] == "The run is not finished: cells are missing."
    assert not any("valid." in line for line in parsed.texts["li"])
    assert "invalid: eps was 0.031" in parsed.texts["td"]


def test_a_run_in_which_everything_failed(sample, tmp_path):
    """Has a page, too."""
    for row in sample.rows:
        row |= {"status": "failed: out of memory", "accuracy": np.nan}
    sample.corruptions, sample.examples = None, {}
    _, parsed = render(sample, tmp_path)
    assert "39 of 39 cells must not be used: failed: out of memory" in parsed.texts["li"]


def test_the_same_run_gives_the_same_page(sample, report, tmp_path):
    """Byte for byte, in another folder as well."""
    run = sample.write(tmp_path / "run")
    again = write_report(run, run)[-1]
    assert again.read_bytes() == report.read_bytes()


def test_examples_show_the_highest_level_of_each_attack(sample, tmp_path):
    """Examples have the prediction for the attacked image, with names of classes where they are known."""
    run = sample.write(tmp_path)
    found = examples(run, run.read_summary(), ["zero", "one", "two"])
    assert [(cell.checkpoint, cell.perturbation) for cell in found] == [
        (checkpoint, "pgd linf 0.06 (15.3/255)") for checkpoint in CHECKPOINTS
    ]
    first = found[0].examples[0]
    assert (first.image_id, first.label, first.prediction, first.correct) == (36, "one", "two", False)
    assert found[0].gain == pytest.approx(0.5 / 0.06, rel=1e-4)
    assert [cell.examples[0].label for cell in examples(run, run.read_summary(), [])] == ["1"] * 3


def test_pictures_have_one_or_three_channels_and_a_bounded_size():
    """A large photograph does not make a large page."""
    random = np.random.Generator(np.random.Philox(0))
    for channels in (1, 3):
        small = data_uri(random.random((channels, 8, 8), np.float32))
        assert small.startswith("data:image/png;base64,iVBOR")
        assert len(data_uri(random.random((channels, 512, 256), np.float32))) < 30_000


def test_an_image_that_did_not_change_is_drawn_grey(sample, tmp_path):
    """No division by nothing."""
    key, stored = next(iter(sample.examples.items()))
    sample.examples = {key: Examples(stored.ids, stored.labels, stored.clean, stored.clean)}
    sample.rows = [row for row in sample.rows if row["cell"] == key]
    run = sample.write(tmp_path)
    (cell,) = examples(run, run.read_summary(), [])
    assert cell.examples[0].difference == data_uri(np.full_like(stored.clean[0], 0.5))


def test_inlined_figures_follow_the_page():
    """Ids are renamed, colours become those of the page, fonts and style sheets go, sizes follow the box."""
    svg = inline(
        '<?xml version="1.0"?><svg width="3pt" height="2pt" viewBox="0 0 3 2" version="1.1">'
        "<style>*{}</style>"
        '<g id="a"/><use xlink:href="#a"/><path clip-path="url(#a)" style="fill: #0072b2; stroke: #000000"/>'
        "<text style=\"font-size: 9px; font-family: 'DejaVu Sans', serif; text-anchor: end\">"
        'id="#0072b2"</text></svg>',
        "one",
        'a "caption"',
    )
    assert svg == (
        '<svg role="img" style="max-width: max(38rem, 4px); min-width: 2px" '
        'aria-label="a &#34;caption&#34;" viewBox="0 0 3 2"><g id="one-a"/>'
        '<use xlink:href="#one-a"/><path clip-path="url(#one-a)" '
        'style="fill: var(--line-0); stroke: currentColor"/>'
        '<text style="font-size: 9px; text-anchor: end">id="#0072b2"</text></svg>'
    )


@pytest.mark.parametrize(
    "file", ["summary.parquet", "manifest.yaml", "corruptions.csv", "examples", "audits", "records"]
)
@pytest.mark.parametrize("damage", [b"", b"\x00\xffnonsense", b"[1, 2]"])
def test_damage_is_one_clear_line(sample, tmp_path, file, damage):
    """Damage is one line that names the file."""
    sample.rows = sample.rows[:5]
    if file != "corruptions.csv":
        sample.corruptions = None  # it would not follow from these rows
    run = sample.write(tmp_path)
    path = tmp_path / file
    if path.is_dir():  # the file of the cell whose examples are shown, or the only one
        path = next(path.glob(f"*{sample.rows[-1]['cell']}*"), path / f"{CHECKPOINTS[2]}.json")
    path.write_bytes(damage)
    with pytest.raises(BenchError, match=re.escape(str(path))) as raised:
        write_report(run, run)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "index.html").exists()


def test_a_run_without_cells_says_so(sample, tmp_path):
    """An empty table is no report."""
    sample.corruptions = None
    run = sample.write(tmp_path)
    run.read_summary()[:0].to_parquet(tmp_path / "summary.parquet")
    run.write_manifest(run.read_manifest() | {"cells": []})
    with pytest.raises(BenchError, match="has no cells yet"):
        write_report(run, run)
