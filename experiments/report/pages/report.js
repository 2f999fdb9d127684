// What a report page does with script: tables sort by a click on a head, the answers have filters,
// and the name of a cell leads to its answers. The page is complete without it.
(() => {
  // By number where every cell of the column starts with one, else by text; the order turns on the
  // second click.
  const key_of = (cell) => {
    const number = cell.querySelector("data");
    const text = number ? number.value : cell.textContent.trim();
    return [text === "–" ? -Infinity : Number(text.replaceAll(",", "")), text];
  };
  for (const table of document.querySelectorAll("table")) {
    const body = table.tBodies[0];
    if (!table.tHead || !body || body.rows.length < 2) continue;
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      head.classList.add("sorts");
      head.tabIndex = 0;
      const sort = () => {
        const down = head.getAttribute("aria-sort") !== "ascending";
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", down ? "ascending" : "descending");
        const rows = [...body.rows].map((row) => [key_of(row.cells[column]), row]);
        const numeric = rows.every(([[number]]) => !Number.isNaN(number));
        const sign = down ? 1 : -1;
        rows.sort(([[a, s]], [[b, t]]) => sign * (numeric ? (a > b) - (a < b) : s.localeCompare(t)));
        body.append(...rows.map(([, row]) => row));
      };
      head.addEventListener("click", sort);
      head.addEventListener("keydown", (event) => {
        if (event.key === "Enter" || event.key === " ") event.preventDefault(), sort();
      });
    });
  }

  const table = document.getElementById("samples");
  if (!table) return;
  const rows = [...table.tBodies[0].rows];
  const bar = document.createElement("div");
  bar.className = "filters";
  const pick = (label, key) => {
    const select = document.createElement("select");
    select.setAttribute("aria-label", label);
    select.append(new Option("every " + label, ""));
    for (const value of new Set(rows.map((row) => row.dataset[key])))
      select.append(new Option(value, value));
    select.addEventListener("change", show);
    bar.append(select);
    return select;
  };
  const cell = pick("cell", "cell"), arm = pick("arm", "arm"), answer = pick("answer", "answer");
  const count = document.createElement("span");
  bar.append(count);
  function show() {
    let shown = 0;
    for (const row of rows) {
      const match = (select, key) => !select.value || row.dataset[key] === select.value;
      row.hidden = !(match(cell, "cell") && match(arm, "arm") && match(answer, "answer"));
      shown += !row.hidden;
    }
    count.textContent = shown + " of " + rows.length + " shown";
  }
  table.closest(".scroll").before(bar);
  show();
  for (const link of document.querySelectorAll("a[href='#samples']"))
    link.addEventListener("click", () => {
      cell.value = link.textContent;
      show();
    });
})();
