// What the leaderboard can do beyond page.js: show the boards of one data set, norm or budget.
// A link may ask for it: index.html#dataset=digits&eps=0.03.

const choices = [...document.querySelectorAll("[data-choice]")];
const boards = [...document.querySelectorAll(".board")];

function choose() {
  for (const board of boards) {
    board.hidden = choices.some((each) => each.value && board.dataset[each.dataset.choice] !== each.value);
  }
  const shown = boards.filter((board) => !board.hidden).length;
  document.querySelector(".choices output").textContent =
    shown === boards.length ? "" : `${shown} of ${boards.length} boards`;
}

function chosen() {
  const asked = new URLSearchParams(location.hash.slice(1));
  for (const each of choices) {
    const wanted = asked.get(each.dataset.choice);
    if (wanted !== null) each.value = wanted;
  }
  choose();
}

document.querySelector(".choices").hidden = boards.length < 2;
for (const each of choices) each.addEventListener("change", choose);
window.addEventListener("hashchange", chosen);
chosen();
