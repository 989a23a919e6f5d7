"use strict";
const words = new Intl.Collator(undefined, { numeric: true });

function sortable(table) {
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const heads = Array.from(table.tHead.rows[0].cells);

  const sort = (column, descending) => {
    const number = heads[column].classList.contains("number");
    const way = descending ? -1 : 1;
    const read = (text) => (number ? Number.parseFloat(text) : text);
    const value = new Map(rows.map((row) => [row, read(row.cells[column].textContent)]));
    const missing = (x) => x === "" || Number.isNaN(x);
    rows.sort((a, b) => {
      const [x, y] = [value.get(a), value.get(b)];
      // What has no value stands last, whichever way.
      if (missing(x) || missing(y)) return missing(x) - missing(y);
      return way * (number ? x - y : words.compare(x, y));
    });
    body.append(...rows);
  };

  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const descending = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      sort(column, descending);
    });
  });
  searchable(rows, table.parentElement.previousElementSibling);
}

function searchable(rows, find) {
  const text = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
  const field = find.querySelector("input");
  find.hidden = false;
  field.addEventListener("input", () => {
    const wanted = field.value.trim().toLowerCase();
    let count = 0;
    for (const row of rows) {
      row.hidden = !text.get(row).includes(wanted);
      count += !row.hidden;
    }
    find.querySelector("[role=status]").textContent = wanted ? `${count} of ${rows.length} rows` : "";
  });
}

document.querySelectorAll("table.sortable").forEach(sortable);
