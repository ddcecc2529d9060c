// Ladder of one symbol's order book, live, with spread and imbalance over time.
import * as api from "./api.js";
import { liveBooks, measures } from "./books.js";
import { lines } from "./chart.js";
import { age, decimal, el, places } from "./dom.js";

const DEPTH = 12; // levels of each side, also of the imbalance
const MINUTES = 30; // of the lines
const STEP = 10; // seconds between their points
const KINDS = { verified: "good", unverifiable: "warn", suspect: "bad" };

const iso = (ms) => new Date(ms).toISOString();
const name = (row) => `${row.exchange}/${row.symbol}`;

export function ladder(view, page, rest) {
  const select = el("select", { id: "book-symbol", "aria-label": "Symbol", onchange: () => { page.go(`#book/${select.value}`); } });
  const verdict = el("span", { id: "verdict", class: "badge" });
  const about = el("span", { id: "book-about" });
  const rows = el("tbody", { id: "ladder" });
  const canvas = el("div", { id: "lines", role: "img", "aria-label": "Spread in basis points, and imbalance from -1 to 1" });
  view.append(
    el("section", { class: "ladder" },
      el("div", { class: "line" }, el("h1", {}, "Book"), select, verdict, el("span", { class: "grow" }), about),
      el("table", {},
        el("caption", {}, "Asks above bids; total: of all levels up to this one"),
        el("thead", {}, el("tr", {}, ["Price", "Quantity", "Total", ""].map((title, at) => el("th", { scope: "col", class: at < 3 ? "number" : "bar" }, title)))),
        rows)),
    el("section", { class: "over-time" }, el("h2", {}, `Spread (basis points) and imbalance of ${DEPTH} levels`), canvas),
  );
  const drawn = lines(canvas, ["--accent", "--repaired"]);
  page.signal.addEventListener("abort", () => drawn.close());

  let chosen = rest.join("/");
  let loading = null;
  let shown = null; // the book on the screen

  page.every(() => 60, async () => {
    const [traded, audited] = await Promise.all([
      api.rows("v1/symbols", {}, page.signal), api.rows("v1/completeness", { channel: "book" }, page.signal),
    ]);
    const available = [...new Set([...audited, ...traded].map(name))].sort();
    if (chosen && !available.includes(chosen)) available.unshift(chosen);
    select.replaceChildren(...available.map((each) => el("option", { value: each }, each.split("/").reverse().join(" "))));
    choose(chosen || (audited.length ? name(audited[0]) : available[0]));
    if (!available.length) note("No symbols yet.");
  });

  function choose(wanted) {
    if (!wanted || (wanted === chosen && loading)) return;
    chosen = select.value = wanted;
    loading?.abort();
    loading = new AbortController();
    page.signal.addEventListener("abort", () => loading.abort(), { once: true });
    const [exchange, symbol] = wanted.split("/");
    history.replaceState(null, "", `#book/${encodeURIComponent(exchange)}/${encodeURIComponent(symbol)}`);
    document.title = `${symbol} book · K2`;
    shown = null;
    note("Loading.");
    drawn.clear();
    const signal = loading.signal;
    page.run(() => follow({ symbol, exchange }, signal));
    page.run(() => overTime({ symbol, exchange }, signal));
  }

  /** Show the stream; while there is none, poll. */
  async function follow(about, signal) {
    const books = liveBooks();
    let [live, changed] = [false, false];
    api.stream({ channel: "book", symbols: about.symbol, exchange: about.exchange }, {
      event: "book",
      record(message) { books.add(message); changed = true; },
      state(streamState, reason) {
        page.live(streamState, reason);
        live = streamState === "live";
      },
    }, signal);
    for (let tick = 0; !signal.aborted; tick++) {
      if (live && changed) {
        changed = false;
        const best = books.best(DEPTH);
        if (best) draw(best);
      } else if (!live && tick % 10 === 0 && !document.hidden) {
        await page.run(async () => draw((await newest({ ...about, depth: DEPTH }, signal))[0] ?? null));
      }
      if (shown) describe();
      await new Promise((done) => setTimeout(done, 500));
    }
  }

  /** Include Kafka's messages, or read Gold only if Kafka is unavailable. */
  async function newest(query, signal) {
    try {
      return (await api.get("v1/book", { ...query, hybrid: true }, signal)).data;
    } catch (error) {
      if (error.status !== 503) throw error;
      return api.rows("v1/book", query, signal);
    }
  }

  async function overTime(about, signal) {
    const end = Math.floor(Date.now() / (1000 * STEP)) * 1000 * STEP;
    const range = { start: iso(end - MINUTES * 60e3), end: iso(end), interval: `${STEP}s`, depth: DEPTH };
    const past = await newest({ ...about, ...range }, signal);
    if (signal.aborted) return;
    drawn.set(past.map((book) => point(Date.parse(book.at), book)));
    for (;;) {
      await new Promise((done) => setTimeout(done, 1000));
      if (signal.aborted) return; // the chart may be gone
      if (shown && Date.now() - Date.parse(shown.time) < MINUTES * 60e3) drawn.add(point(Date.now(), shown));
    }
  }

  function point(ms, book) {
    const measured = measures(book);
    return { time: Math.floor(ms / 1000), values: measured ? [measured.spread, measured.imbalance] : [null, null] };
  }

  function note(text) {
    rows.replaceChildren(el("tr", {}, el("td", { colspan: 4, class: "empty" }, text)));
    verdict.textContent = about.textContent = "";
  }

  function draw(book) {
    if (!book) return;
    shown = book;
    const levels = [...book.asks, ...book.bids];
    const [price, quantity] = ["price", "quantity"].map((field) => Math.max(0, ...levels.map((level) => places(level[field]))));
    const sides = [[book.asks, "SELL"], [book.bids, "BUY"]].map(([side, kind]) => {
      let total = 0;
      return side.map((level) => ({ ...level, kind, total: (total += Number(level.quantity)) }));
    });
    const most = Math.max(...sides.flat().map((level) => level.total));
    const line = (level) => el("tr", { "data-side": level.kind },
      el("td", { class: "number" }, decimal(level.price, price)),
      el("td", { class: "number" }, decimal(level.quantity, quantity)),
      el("td", { class: "number" }, decimal(level.total.toFixed(Math.min(quantity, 8)), Math.min(quantity, 8))),
      el("td", { class: "bar" }, el("meter", { max: most, value: level.total, "aria-hidden": "true" })));
    const between = el("tr", { class: "spread" }, el("td", { colspan: 4, id: "spread" }, spread(book, price)));
    rows.replaceChildren(...sides[0].toReversed().map(line), between, ...sides[1].map(line));
    describe();
  }

  function spread({ bids, asks }, digits) {
    const measured = measures({ bids, asks });
    if (!measured) return "one side is empty";
    const width = Number(asks[0].price) - Number(bids[0].price);
    return `spread ${decimal(width.toFixed(digits), digits)} · ${measured.spread.toFixed(2)} bp · imbalance ${(100 * measured.imbalance).toFixed(0)} %`;
  }

  function describe() {
    verdict.textContent = shown.verdict;
    verdict.className = `badge ${KINDS[shown.verdict] ?? ""}`;
    about.textContent = `${age((Date.now() - Date.parse(shown.time)) / 1000)} old`;
  }

  return {
    applyTheme: () => drawn.applyTheme(),
    find: () => select.focus(),
    navigate: (address) => { choose(address.join("/")); return address.length === 2; },
  };
}
