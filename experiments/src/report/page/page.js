"use strict";
// Sorting, filtering and copying; the page is whole without it.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
  const value = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.v === undefined ? null : Number(cell.dataset.v);
  };
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      heads.forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down === 1 ? "ascending" : "descending");
      const rows = [...body.rows];
      const numeric = rows.some(row => value(row, column) !== null);
      rows.sort((a, b) => {
        if (!numeric) return down * a.cells[column].textContent.localeCompare(b.cells[column].textContent, "en", { numeric: true });
        const [x, y] = [value(a, column), value(b, column)];
        // Rows without a number stay at the end.
        return x === null || y === null ? (x === null) - (y === null) : down * (x - y);
      });
      body.append(...rows);
    });
  });
  if (body.rows.length > 8) {
    const label = document.createElement("label"), input = document.createElement("input");
    label.className = "filter";
    input.type = "search";
    label.append("Filter arms", input);
    input.addEventListener("input", () => {
      const words = input.value.toLowerCase().split(/\s+/);
      for (const row of body.rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every(word => text.includes(word));
      }
    });
    table.parentElement.before(label);
  }
}
for (const details of document.querySelectorAll("details.csv")) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Copy as CSV";
  details.querySelector("summary").after(button);
  button.addEventListener("click", async () => {
    const quoted = text => /[",\r\n]/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text;
    const rows = [...details.querySelector("table").rows];
    const csv = rows.map(row => [...row.cells].map(cell => quoted(cell.textContent.trim())).join(",")).join("\r\n") + "\r\n";
    try {
      await navigator.clipboard.writeText(csv);
    } catch {
      // Pages from files may have no clipboard.
      const area = document.createElement("textarea");
      area.value = csv;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy as CSV"; }, 1500);
  });
}
