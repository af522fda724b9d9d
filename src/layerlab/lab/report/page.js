"use strict";
// Tables sort by a click (or Enter) on a heading. Without scripts the headings are plain text and nothing is lost.
document.querySelectorAll(".table:not(.sheet) table").forEach((table) => {
  const body = table.tBodies[0];
  if (!body || body.rows.length < 2) return;
  Array.from(table.tHead.rows[0].cells).forEach((head, column) => {
    if (head.tagName !== "TH") return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      table.querySelectorAll("thead th").forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = (row) => {
        const cell = row.cells[column];
        return cell.dataset.sort === undefined ? cell.textContent.trim() : Number(cell.dataset.sort);
      };
      const rank = (value) => (typeof value === "number" ? 0 : value ? 1 : 2);
      const rows = Array.from(body.rows);
      rows.sort((one, other) => {
        const a = key(one);
        const b = key(other);
        // Numbers before words before nothing, whichever way the column is sorted.
        if (rank(a) !== rank(b)) return rank(a) - rank(b);
        const order = typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true });
        return down ? -order : order;
      });
      body.append(...rows);
    });
  });
});
// What does not scroll is no stop of the Tab key; without scripts every box that may scroll is one.
const boxes = document.querySelectorAll(".scroll");
const stops = () => boxes.forEach((box) => {
  if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
  else if (box !== document.activeElement) box.removeAttribute("tabindex");
});
stops();
window.addEventListener("resize", stops);
