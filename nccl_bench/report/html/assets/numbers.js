// The table of all numbers: sorted, filtered, copied and downloaded.

const ROWS_AT_FIRST = 100;

function fillNumbers(holder) {
  const { count, columns, left_out: leftOut } = data.numbers;
  const valueAt = (column, row) => ("same" in column ? column.same : column.values[row]);
  const textAt = (column, row) => {
    const value = valueAt(column, row);
    if (value == null) return "";
    return column.name === "size_bytes" || typeof value !== "number" || Number.isInteger(value) ? String(value) : numberText(value);
  };
  let order = Array.from({ length: count }, (_, row) => row);
  let [sortedBy, ascending, every, most, wanted] = [null, true, false, ROWS_AT_FIRST, ""];

  const search = make("input", { type: "search", placeholder: "for example graph", "aria-label": "Show only rows with this text" });
  const all = make("input", { type: "checkbox" });
  const more = make("button", { type: "button" });
  const status = make("span", { role: "status" });
  const table = make("table", { "aria-label": "All numbers" });
  const shown = () => columns.filter((column) => every || column.main);
  const matching = () => order.filter((row) => !wanted || columns.some((column) => textAt(column, row).toLowerCase().includes(wanted)));

  function fill() {
    const rows = matching();
    const head = shown().map((column) => {
      const button = make("button", { type: "button", title: column.help }, column.name);
      button.addEventListener("click", () => sortBy(column));
      const direction = sortedBy === column ? (ascending ? "ascending" : "descending") : "none";
      return make("th", { scope: "col", class: column.numeric ? "numeric" : null, "aria-sort": direction }, button);
    });
    const body = rows.slice(0, most).map((row) => make("tr", {}, ...shown().map((column) => make("td", { class: column.numeric ? "numeric" : null }, textAt(column, row)))));
    table.replaceChildren(make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...body));
    more.hidden = rows.length <= most;
    more.textContent = `Show all ${rows.length} rows`;
    status.textContent = `${Math.min(most, rows.length)} of ${count} rows`;
  }

  function sortBy(column) {
    ascending = sortedBy === column ? !ascending : true;
    sortedBy = column;
    const sign = ascending ? 1 : -1;
    order.sort((first, second) => {
      const [a, b] = [valueAt(column, first), valueAt(column, second)];
      if (a == null || b == null) return (a == null) - (b == null);
      return sign * (column.numeric ? a - b : String(a).localeCompare(String(b)));
    });
    fill();
    table.querySelectorAll("th button")[shown().indexOf(column)].focus();
  }

  const lines = (separator, chosen, quote) => [
    chosen.map((column) => column.name).join(separator),
    ...matching().map((row) => chosen.map((column) => quote(valueAt(column, row))).join(separator)),
  ].join("\n") + "\n";
  // A spreadsheet takes such a text as a formula; csv_cell in escaping.py does the same.
  const harmless = (value) => (typeof value === "string" ? value.replace(/((?:^|;)\s*)(?=[=+@\-\uff1d\uff0b\uff0d\uff20])/g, "$1'") : String(value ?? ""));
  const quoted = (value) => { const text = harmless(value); return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text; };
  const flat = (value) => harmless(value).replace(/[\t\n]/g, " ");

  const copy = make("button", { type: "button" }, "Copy the table");
  copy.addEventListener("click", () => copyText(lines("\t", shown(), flat), copy));
  const save = make("button", { type: "button" }, "Download as CSV");
  save.addEventListener("click", () => {
    const link = make("a", { href: URL.createObjectURL(new Blob([lines(",", columns, quoted)], { type: "text/csv" })), download: holder.dataset.file });
    link.click();
    URL.revokeObjectURL(link.href);
  });
  search.addEventListener("input", () => { wanted = search.value.toLowerCase(); fill(); });
  all.addEventListener("change", () => { every = all.checked; fill(); });
  more.addEventListener("click", () => { most = Infinity; fill(); });

  const same = columns.filter((column) => "same" in column && !column.main && count > 1).map((column) => `${column.name} ${column.same}`);
  holder.append(
    ...(leftOut ? [make("p", { class: "note" }, `${leftOut} more rows are not in this page. --format csv prints all rows.`)] : []),
    ...(same.length ? [make("p", { class: "note" }, `The same in all rows: ${same.join(", ")}.`)] : []),
    make("div", { class: "tools" }, make("label", {}, "Filter ", search), make("label", {}, all, " all columns"), copy, save, status),
    scrolling("All numbers", table), more,
  );
  fill();
}
