"use strict";
// What the page can do beyond being read: sort tables, filter them, switch between light and dark.
// A link may ask for it: index.html#sort=cells,2,descending or #filter=cells,pgd.

const tables = new Map([...document.querySelectorAll("table")].map((table) => [table.id, table]));
const original = new Map([...tables.values()].map((table) => [table, [...table.tBodies[0].rows]]));

function value(row, column) {
  const cell = row.cells[column];
  return "order" in cell.dataset ? Number(cell.dataset.order) : cell.textContent.trim();
}

function compare(a, b) {
  return typeof a === "number" && typeof b === "number"
    ? a - b
    : String(a).localeCompare(String(b), "en", { numeric: true });
}

function missing(content) {
  return content === "" || Number.isNaN(content);
}

function sort(table, column, direction) {
  const headings = [...table.tHead.rows[0].cells];
  if (!headings[column]) return;
  const sign = direction === "descending" ? -1 : 1;
  const rows = [...original.get(table)];
  if (direction !== "none") {
    rows.sort((a, b) => {
      const [left, right] = [value(a, column), value(b, column)];
      // where nothing was measured, the row comes last in both directions
      if (missing(left) || missing(right)) return missing(left) - missing(right);
      return sign * compare(left, right);
    });
  }
  for (const heading of headings) heading.removeAttribute("aria-sort");
  if (direction !== "none") headings[column].setAttribute("aria-sort", direction);
  table.tBodies[0].append(...rows);
}

function filter(input) {
  const rows = original.get(tables.get(input.dataset.filter));
  const words = input.value.toLowerCase().split(/\s+/);
  for (const row of rows) {
    const text = row.textContent.toLowerCase();
    row.hidden = !words.every((word) => text.includes(word));
  }
  const shown = rows.filter((row) => !row.hidden).length;
  const count = input.closest(".filter").querySelector("output");
  count.textContent = shown === rows.length ? "" : `${shown} of ${rows.length} rows`;
}

function follow() {
  const asked = new URLSearchParams(location.hash.slice(1));
  const [sorted, column, direction] = (asked.get("sort") ?? "").split(",");
  if (tables.has(sorted)) sort(tables.get(sorted), Number(column), direction);
  const [filtered, ...text] = (asked.get("filter") ?? "").split(",");
  const input = [...document.querySelectorAll("[data-filter]")].find((each) => each.dataset.filter === filtered);
  if (input) {
    input.value = text.join(",");
    filter(input);
  }
}

for (const table of tables.values()) {
  [...table.tHead.rows[0].cells].forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    const next = { ascending: "descending", descending: "none" };
    button.addEventListener("click", () =>
      sort(table, column, next[heading.getAttribute("aria-sort")] ?? "ascending"));
  });
}
for (const input of document.querySelectorAll("[data-filter]")) {
  input.closest(".filter").hidden = false;
  input.addEventListener("input", () => filter(input));
}
window.addEventListener("hashchange", follow);
follow();

const theme = document.getElementById("theme");
const systemDark = matchMedia("(prefers-color-scheme: dark)");
let dark = systemDark.matches;
function paint() {
  document.documentElement.style.colorScheme = dark === systemDark.matches ? "" : dark ? "dark" : "light";
  theme.textContent = dark ? "Light" : "Dark";
}
theme.hidden = false;
theme.addEventListener("click", () => { dark = !dark; paint(); });
systemDark.addEventListener("change", () => { dark = systemDark.matches; paint(); });
paint();
