"use strict";
(() => {
  // --- tables: sort by a click on a column's name, filter by typing ---

  // [header cell, column number] of the undermost header cells, whatever spans are above them
  function columns(table) {
    const rows = [...table.tHead.rows];
    const taken = rows.map(() => []);
    const found = [];
    rows.forEach((row, r) => {
      let column = 0;
      for (const cell of row.cells) {
        while (taken[r][column]) column += 1;
        for (let i = 0; i < cell.rowSpan && r + i < rows.length; i += 1) {
          for (let j = 0; j < cell.colSpan; j += 1) taken[r + i][column + j] = true;
        }
        if (r + cell.rowSpan >= rows.length && cell.colSpan === 1) found.push([cell, column]);
        column += cell.colSpan;
      }
    });
    return found;
  }

  const text = (row, column) => row.cells[column]?.textContent.trim() ?? "";
  const isEmpty = (value) => value === "" || value === "–";
  // the number a text starts with: "0.668 ± 0.013" is 0.668
  const number = (value) => parseFloat(value.replaceAll(",", "").replace("−", "-"));

  function sort(table, header, column) {
    const down = header.getAttribute("aria-sort") === "ascending";
    for (const other of table.querySelectorAll("[aria-sort]")) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", down ? "descending" : "ascending");
    const body = table.tBodies[0];
    const rows = [...body.rows];
    const values = rows.map((row) => text(row, column)).filter((value) => !isEmpty(value));
    const numeric = values.every((value) => !Number.isNaN(number(value)));
    rows.sort((one, two) => {
      const [a, b] = [text(one, column), text(two, column)];
      if (isEmpty(a) || isEmpty(b)) return isEmpty(a) - isEmpty(b); // always last
      const order = numeric ? number(a) - number(b) : a.localeCompare(b, "en", { numeric: true });
      return down ? -order : order;
    });
    body.append(...rows);
  }

  for (const table of document.querySelectorAll("table")) {
    if (!table.tHead || !table.tBodies.length) continue;
    for (const [header, column] of columns(table)) {
      if (header.textContent.trim() === "") continue;
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.append(...header.childNodes);
      header.append(button);
      button.addEventListener("click", () => sort(table, header, column));
    }
  }

  for (const box of document.querySelectorAll(".many")) {
    const field = document.createElement("input");
    field.type = "search";
    field.className = "filter";
    field.placeholder = "Filter rows";
    field.setAttribute("aria-label", "Filter rows");
    box.parentElement.before(field);
    field.addEventListener("input", () => {
      const words = field.value.toLowerCase().split(/\s+/);
      for (const row of box.querySelector("tbody").rows) {
        const content = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => content.includes(word));
      }
    });
  }

  // --- figures: a click enlarges to full resolution, another closes ---

  const dialog = document.getElementById("zoom");
  const enlarged = dialog.querySelector("img");
  for (const button of document.querySelectorAll("button.zoom")) {
    button.addEventListener("click", () => {
      const image = button.querySelector("img");
      enlarged.src = image.src;
      enlarged.alt = image.alt;
      dialog.showModal();
    });
  }
  dialog.addEventListener("click", () => dialog.close());
})();
