// Tables that are kept up rather than made anew: focus, selection and scrolling stay where they are.
// Whatever comes from the server gets into the page as text alone.

const number = new Intl.NumberFormat("en-GB", { maximumFractionDigits: 1 });

/** A reading as text, with the reason as a title where there is none. */
export function reading(value, unit = "") {
  if (value === null || value === undefined) return { text: "–", title: "not known", missing: true };
  if (typeof value === "object") return { text: "–", title: value.missing, missing: true };
  return { text: number.format(value) + unit, number: value };
}

/** Unix seconds, or an RFC 3339 time, as the clock of who looks on has it. */
export function clock(at) {
  if (at === null || at === undefined || at === "") return { text: "–", title: "not known", missing: true };
  const date = new Date(typeof at === "number" ? at * 1000 : at);
  const today = date.toDateString() === new Date().toDateString();
  const time = date.toLocaleTimeString("en-GB");
  return { text: today ? time : `${date.toLocaleDateString("en-CA")} ${time}`, title: date.toISOString() };
}

export function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function setClass(node, name) {
  if (node.className !== name) node.className = name;
}

/** Put a value into a cell: a string, or {text, title, missing, tone, href, under}. */
function fill(cell, value, base) {
  const given = typeof value === "string" ? { text: value } : value;
  let holder = cell.firstElementChild;
  const tag = given.href ? "A" : "SPAN";
  if (!holder || holder.tagName !== tag) {
    cell.replaceChildren(element(tag));
    holder = cell.firstElementChild;
  }
  setText(holder, given.text);
  if (given.href && holder.getAttribute("href") !== given.href) holder.setAttribute("href", given.href);
  const title = given.title ?? "";
  if (holder.title !== title) holder.title = title;
  if (given.missing) {
    holder.tabIndex = 0;
    const label = `missing: ${title}`;
    if (holder.getAttribute("aria-label") !== label) {
      holder.setAttribute("aria-label", label);
      holder.setAttribute("role", "img");
    }
  } else if (holder.hasAttribute("aria-label")) {
    for (const name of ["aria-label", "role", "tabindex"]) holder.removeAttribute(name);
  }
  setClass(holder, given.tone ? `tone ${given.tone}` : given.missing ? "missing" : "");
  let under = cell.querySelector("small");
  if (given.under) {
    if (!under) cell.append((under = element("small")));
    setText(under, given.under);
  } else if (under) under.remove();
  setClass(cell, base);
}

export class Table {
  /** columns: {name, label, cell(row), numeric, wide}; key(row) names a row. */
  constructor(place, { columns, key, caption, empty, onSort, rowClass }) {
    Object.assign(this, { columns, key, onSort, rowClass });
    this.rows = new Map();
    this.empty = element("p", "quiet empty", empty);
    this.table = element("table");
    this.table.append(element("caption", "unseen", caption));
    const head = this.table.createTHead().insertRow();
    this.heads = columns.map((column) => {
      const cell = element("th", column.numeric ? "numeric" : "");
      cell.scope = "col";
      if (onSort) {
        const button = element("button", "", column.label);
        button.type = "button";
        button.addEventListener("click", () => onSort(column.name));
        cell.append(button);
      } else cell.textContent = column.label;
      head.append(cell);
      return cell;
    });
    this.body = this.table.createTBody();
    const scroller = element("div", "scroller");
    scroller.append(this.table);
    place.replaceChildren(scroller, this.empty);
    this.scroller = scroller;
  }

  sorted(name, ascending) {
    this.columns.forEach((column, index) => {
      if (column.name === name) this.heads[index].setAttribute("aria-sort", ascending ? "ascending" : "descending");
      else this.heads[index].removeAttribute("aria-sort");
    });
  }

  show(rows, emptyText) {
    if (emptyText !== undefined) setText(this.empty, emptyText);
    this.empty.hidden = rows.length > 0;
    this.scroller.hidden = rows.length === 0;
    const kept = new Map();
    let before = this.body.firstElementChild;
    for (const row of rows) {
      const key = this.key(row);
      const line = this.rows.get(key) ?? this.line();
      this.update(line, row);
      kept.set(key, line);
      if (line === before) before = before.nextElementSibling;
      else this.body.insertBefore(line, before);
    }
    for (const [key, line] of this.rows) if (kept.get(key) !== line) line.remove();
    this.rows = kept;
  }

  line() {
    const line = element("tr");
    this.columns.forEach((column, index) => {
      const cell = element(index === 0 ? "th" : "td");
      if (index === 0) cell.scope = "row";
      cell.dataset.label = column.label;
      line.append(cell);
    });
    return line;
  }

  update(line, row) {
    setClass(line, this.rowClass ? this.rowClass(row) : "");
    this.columns.forEach((column, index) => {
      const base = [column.numeric && "numeric", column.wide && "wide"].filter(Boolean).join(" ");
      fill(line.children[index], column.cell(row), base);
    });
  }
}
