"""The page in a real browser: nothing goes wrong, tables sort and filter, phones and darkness work."""

import pytest
from regression.worlds import changed, make_cell, make_side, write_run
from reporting.browser import CHROMIUM, Browser

from robustbench_sde.reporting.leaderboard import write_leaderboard

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture
def page(report, browser):
    """The report of the sample run, on a desktop."""
    browser.show(1280, 900)
    browser.send("Emulation.setScriptExecutionDisabled", value=False)
    return report


COLUMN = "[...document.querySelectorAll('#cells tbody tr:not([hidden])')].map(r => r.cells[{}].innerText)"


def numbers(browser, heading):
    """Return the texts of a column of the table of all cells from top to bottom, and the column's number."""
    headings = browser.run("[...document.querySelectorAll('#cells thead th')].map(h => h.innerText)")
    column = headings.index(heading)
    return [float(text.split()[0]) for text in browser.run(COLUMN.format(column))], column


def test_the_page_opens_from_disk_without_complaint_or_network(page, browser):
    """No error or warning is logged, and nothing but the file itself and its images is asked for."""
    browser.open(page)
    assert browser.run("document.querySelectorAll('table').length") >= 6
    assert browser.complaints == []
    asked = [url for url in browser.requests if not url.startswith("data:image/png")]
    assert asked == [page.as_uri()]
    broken = "[...document.images].filter(i => !i.complete || !i.naturalWidth).length"
    assert browser.run("document.querySelectorAll('details').forEach(d => d.open = true)") is None
    assert browser.run(broken) == 0


def test_hostile_names_are_shown_and_not_run(page, browser):
    """A name with a script in it is text everywhere."""
    browser.open(page)
    assert browser.run("document.scripts.length") == 1
    assert "<script>alert" in browser.run("document.querySelector('#glance tbody th').innerText")
    browser.run("document.body.append(Object.assign(document.createElement('script'), {text: 'evil = 1'}))")
    assert browser.run("typeof evil") == "undefined"


@pytest.mark.parametrize("heading", ["accuracy (95 %)", "passes/image"])
def test_a_click_on_a_heading_sorts(page, browser, heading):
    """Ascending, descending, and as it was; by number and not by text; by mouse and keyboard."""
    browser.open(page)
    first, column = numbers(browser, heading)
    button = f"document.querySelectorAll('#cells thead th')[{column}].querySelector('button')"
    browser.run(f"{button}.click()")
    assert numbers(browser, heading)[0] == sorted(first) != first
    assert browser.run(f"{button}.parentElement.ariaSort") == "ascending"
    browser.run(f"{button}.focus()")
    for kind in ("keyDown", "keyUp"):
        browser.send("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", text="\r",
                     windowsVirtualKeyCode=13)  # fmt: skip
    assert numbers(browser, heading)[0] == sorted(first, reverse=True)
    browser.run(f"{button}.click()")
    assert numbers(browser, heading)[0] == first
    assert browser.run("document.querySelectorAll('[aria-sort]').length") == 0


def test_a_link_can_ask_for_an_order_and_a_filter(page, browser):
    """index.html#sort=cells,1,ascending&filter=cells,pgd 0.06."""
    browser.open(page, "#sort=cells,1,descending&filter=cells,pgd%200.06")
    shown = browser.run(COLUMN.format(1))
    assert len(shown) == 3
    assert all("pgd linf 0.06" in text for text in shown)
    assert browser.run("document.querySelector('[data-filter=cells]').value") == "pgd 0.06"
    rows = browser.run("document.querySelectorAll('#cells tbody tr').length")
    assert browser.run("document.querySelector('.filter output').innerText") == f"3 of {rows} rows"
    assert browser.complaints == []


def test_a_phone_scrolls_tables_and_not_the_page(page, browser):
    """At 390 pixels only the boxes around tables are wider than the screen."""
    browser.show(390, 844)
    browser.open(page)
    browser.run("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert browser.run("document.documentElement.scrollWidth") == 390
    assert browser.run("document.querySelector('#cells').offsetWidth") > 390


def test_it_is_dark_where_the_system_is_and_when_asked(page, browser):
    """The system decides until the button is pressed."""
    background = "getComputedStyle(document.body).backgroundColor.match(/[0-9.]+/g).slice(0, 3).map(Number)"
    browser.open(page)
    assert min(browser.run(background)) > 240
    browser.run("document.getElementById('theme').click()")
    assert max(browser.run(background)) < 40
    browser.show(1280, 900, "dark")
    browser.open(page)
    assert max(browser.run(background)) < 40
    ink = background.replace("document.body", "document.querySelector('svg text')").replace(
        "backgroundC", "c"
    )
    assert min(browser.run(ink)) > 200


def test_it_reads_without_javascript(page, browser):
    """Every table is there, and no control that would do nothing."""
    browser.send("Emulation.setScriptExecutionDisabled", value=True)
    browser.open(page)
    assert browser.run("document.querySelectorAll('table').length") >= 6
    assert browser.run("document.getElementById('theme').offsetHeight") == 0
    assert browser.run("[...document.querySelectorAll('.filter')].every(f => f.offsetHeight === 0)")
    assert browser.run("document.querySelector('#cells').innerText.includes('pgd linf 0.06')")


def test_the_leaderboard_filters_sorts_and_fits_a_phone(tmp_path, browser):
    """Choices hide boards, headings sort, nothing is fetched, and the page is no wider than a phone."""
    for number, (name, right) in enumerate({"<script>alert(1)</script>": 200, "other": 100}.items()):
        cells = [make_cell(changed(360, right)[0], checkpoint=name, eps=eps) for eps in (0.03, 0.06)]
        write_run(tmp_path / f"run{number}", make_side(*cells))
        (tmp_path / f"run{number}" / "index.html").touch()
    page = write_leaderboard([tmp_path / "run0", tmp_path / "run1"], tmp_path / "out")[-1]
    browser.show(400, 900)
    browser.send("Emulation.setScriptExecutionDisabled", value=False)
    browser.complaints.clear()
    browser.requests.clear()
    browser.open(page, "#eps=0.06")
    shown = "[...document.querySelectorAll('.board')].filter(b => !b.hidden).map(b => b.dataset.eps)"
    assert browser.run(shown) == ["0.06"]
    assert browser.run("document.querySelector('.choices output').textContent") == "1 of 2 boards"
    choose = "(v => { const s = document.querySelector('[data-choice=eps]'); s.value = v; "
    browser.run(f"{choose}s.dispatchEvent(new Event('change')); }})('')")
    assert browser.run(shown) == ["0.03", "0.06"]
    assert browser.run("document.scripts.length") == 1
    assert browser.run("document.documentElement.scrollWidth <= 400")
    first = "document.querySelector('#table-1 tbody th').innerText"
    assert browser.run(first).startswith("<script>")
    browser.run("document.querySelectorAll('#table-1 thead button')[2].click()")
    assert browser.run(first).startswith("other"), "sorted by the worst accuracy, ascending"
    assert browser.complaints == []
    assert browser.requests == [page.as_uri()]
