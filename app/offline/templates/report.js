"use strict";
const table = document.querySelector("#images table");
if (table) {
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const heads = Array.from(table.tHead.rows[0].cells);
  const text = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
  const words = new Intl.Collator(undefined, { numeric: true });

  const sort = (column, descending) => {
    const number = heads[column].classList.contains("number");
    const way = descending ? -1 : 1;
    const value = new Map(rows.map((row) => [row, row.cells[column].textContent]));
    rows.sort((a, b) => {
      const [x, y] = [value.get(a), value.get(b)];
      // What has no value stands last, whichever way.
      if (x === "" || y === "") return (x === "") - (y === "");
      return way * (number ? Number(x) - Number(y) : words.compare(x, y));
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

  const field = document.querySelector("#find");
  const shown = document.querySelector("#shown");
  field.closest(".find").hidden = false;
  field.addEventListener("input", () => {
    const wanted = field.value.trim().toLowerCase();
    let count = 0;
    for (const row of rows) {
      row.hidden = !text.get(row).includes(wanted);
      count += !row.hidden;
    }
    shown.textContent = wanted ? `${count} of ${rows.length} rows` : "";
  });
}
