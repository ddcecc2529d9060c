// DOM elements and formatting. Text from the API is never parsed as markup.

/** Create an element; `on...` attributes are listeners, null and false ones are omitted. */
export function el(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "class") element.className = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** Create a table with a caption for screen readers; `columns`: [heading, row => cell, class]. */
export function table(caption, columns, rows, { pick = null, empty = "Nothing." } = {}) {
  const head = el("tr", {}, columns.map(([name, , kind]) => el("th", { scope: "col", class: kind }, name)));
  const body = el("tbody", {}, rows.map((row, at) => {
    const cells = columns.map(([, cell, kind]) => el("td", { class: kind }, cell(row) ?? ""));
    if (!pick) return el("tr", {}, cells);
    return el("tr", { tabindex: at ? -1 : 0, "aria-selected": "false", onclick: () => pick(row) }, cells);
  }));
  if (!rows.length) body.append(el("tr", {}, el("td", { colspan: columns.length, class: "empty" }, empty)));
  if (pick) rove(body, "tr", (tr) => pick(rows[[...body.children].indexOf(tr)]));
  return el("table", {}, el("caption", {}, caption), el("thead", {}, head), body);
}

/** Roving tabindex: arrow keys, Home and End move among the items of a list; Enter picks one. */
export function rove(list, selector, pick) {
  list.addEventListener("keydown", (event) => {
    const items = [...list.querySelectorAll(selector)].filter((item) => item.tabIndex >= -1 && item.hasAttribute("tabindex"));
    const at = items.indexOf(document.activeElement);
    if (at < 0) return;
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: items.length - 1 }[event.key];
    if (to !== undefined && items[to]) {
      event.preventDefault();
      focus(items, items[to]);
    } else if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      pick(items[at]);
    }
  });
}

/** Make one of several items the tab stop, and focus it. */
export function focus(items, item) {
  for (const each of items) each.tabIndex = each === item ? 0 : -1;
  item.focus({ preventScroll: false });
}

const whole = new Intl.NumberFormat("en-GB", { maximumFractionDigits: 0 });

/** Format a count with thousands separators. */
export const count = (value) => (value === null || value === undefined ? "" : whole.format(value));

/** Format an exact decimal without insignificant zeros: 64123.5 is 64,123.50. */
export function decimal(text, places = 2) {
  const [units, part = ""] = String(text).split(".");
  const shown = part.replace(/0+$/, "").padEnd(places, "0");
  return units.replace(/\B(?=(\d{3})+(?!\d))/g, ",") + (shown ? `.${shown}` : "");
}

/** Count the significant decimal places: 2 of 64123.45. */
export function places(text) {
  return (String(text).split(".")[1] ?? "").replace(/0+$/, "").length;
}

/** Format an age in one or two units. */
export function age(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 120) return `${s} s`;
  if (s < 7200) return `${Math.floor(s / 60)} min`;
  if (s < 172800) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d`;
}

/** Format a time as 2026-01-31 14:00:05. */
export const moment = (text) => (text ? `${text.slice(0, 10)} ${text.slice(11, 19)}` : "");

/** The time of the day, with milliseconds. */
export const clock = (text) => text.slice(11, 19) + (text.slice(19).match(/^\.\d{3}/)?.[0] ?? ".000");
