// Symbol list, and live bars and trades of one symbol.
import * as api from "./api.js";
import { clock, count, decimal, el, focus, places, rove } from "./dom.js";
import { chart } from "./chart.js";

const INTERVALS = ["1m", "5m", "15m", "1h"];
const SECONDS = { "1m": 60, "5m": 300, "15m": 900, "1h": 3600 };
const PAGE = 360; // bars
const TAPE = 80; // trades
const DAY = 86400e3;

const iso = (ms) => new Date(ms).toISOString();
const id = (row) => `${row.exchange}/${row.symbol}`;

export function market(view, page, rest) {
  const find = el("input", { type: "search", placeholder: "Find a symbol", "aria-label": "Find a symbol", oninput: filter });
  const list = el("ul", { role: "listbox", "aria-label": "Symbols", id: "symbols" });
  const title = el("h1", {});
  const price = el("output", { id: "price" });
  const change = el("span", { id: "change" });
  const intervals = el("div", { role: "group", "aria-label": "Interval", class: "choices" });
  const canvas = el("div", { id: "chart", role: "img", tabindex: 0, "aria-label": "Bars; arrow keys scroll, plus and minus zoom" });
  const tape = el("tbody", { id: "tape" });
  view.append(
    el("section", { class: "side" }, find, list),
    el("section", { class: "middle" },
      el("div", { class: "line" }, title, price, change, el("span", { class: "grow" }), intervals), canvas),
    el("section", { class: "trades" }, el("table", {},
      el("caption", {}, "Trades, newest first"),
      el("thead", {}, el("tr", {}, ["Time", "Price", "Quantity"].map((name, at) => el("th", { scope: "col", class: at ? "number" : "" }, name)))),
      tape)),
  );
  const drawn = chart(canvas);
  page.signal.addEventListener("abort", () => drawn.close());

  let symbols = [];
  let chosen = null;
  let interval = localStorage.getItem("k2-interval") ?? "1m";
  if (!INTERVALS.includes(interval)) interval = "1m";
  let loading = null; // aborts the load of the shown symbol and interval
  let oldest = Infinity;
  let waiting = [];
  let tail = [];

  intervals.append(...INTERVALS.map((name) => el("button", { type: "button", "data-interval": name, onclick: () => choose(chosen, name) }, name)));
  rove(list, "li:not([hidden])", (item) => choose(symbols.find((row) => id(row) === item.dataset.id)));
  find.addEventListener("keydown", (event) => {
    const first = list.querySelector("li:not([hidden])");
    if (!first || !["ArrowDown", "Enter"].includes(event.key)) return;
    event.preventDefault();
    focus([...list.children], first);
    if (event.key === "Enter") choose(symbols.find((row) => id(row) === first.dataset.id));
  });
  drawn.onOlder(() => page.run(older));

  page.every(() => (symbols.length ? 60 : 5), async () => { // poll often until the first trade
    const available = await api.rows("v1/symbols", {}, page.signal);
    symbols = available;
    fill();
    if (!chosen && available.length) {
      const busiest = available.reduce((most, row) => (row.trades > most.trades ? row : most));
      choose(available.find((row) => id(row) === rest.join("/")) ?? busiest);
    }
    if (!available.length) canvas.dataset.empty = "No trades yet.";
    else delete canvas.dataset.empty;
  });

  function fill() {
    const focused = document.activeElement?.dataset?.id;
    list.replaceChildren(...symbols.map((row, at) => el("li", {
      role: "option", "data-id": id(row), tabindex: (chosen ? id(row) === id(chosen) : !at) ? 0 : -1,
      "aria-selected": String(chosen !== null && id(row) === id(chosen)), onclick: () => choose(row),
    }, el("span", {}, row.symbol), el("small", {}, row.exchange), el("small", { class: "number", title: "trades in Gold" }, count(row.trades)))));
    filter();
    if (focused) list.querySelector(`[data-id="${CSS.escape(focused)}"]`)?.focus();
  }

  function filter() {
    const words = find.value.trim().toUpperCase().split(/\s+/);
    for (const item of list.children) {
      item.hidden = !words.every((word) => item.dataset.id.includes(word));
    }
  }

  function choose(row, newInterval = interval) {
    if (!row || (chosen && id(row) === id(chosen) && newInterval === interval && loading)) return;
    chosen = row;
    interval = newInterval;
    localStorage.setItem("k2-interval", interval);
    loading?.abort();
    loading = new AbortController();
    page.signal.addEventListener("abort", () => loading.abort(), { once: true });
    const address = `#market/${encodeURIComponent(row.exchange)}/${encodeURIComponent(row.symbol)}`;
    if (location.hash !== address) history.replaceState(null, "", address);
    document.title = `${row.symbol} · K2`;
    title.replaceChildren(row.symbol, " ", el("small", {}, row.exchange));
    price.textContent = "";
    delete price.dataset.value;
    change.textContent = "";
    tape.replaceChildren();
    [waiting, tail, oldest] = [[], [], Infinity];
    for (const item of list.children) item.setAttribute("aria-selected", String(item.dataset.id === id(row)));
    for (const button of intervals.children) button.setAttribute("aria-pressed", String(button.dataset.interval === interval));
    drawn.clear(SECONDS[interval]);
    page.run(() => loadWithRetry(loading.signal));
  }

  /** Load, and retry while the server is unreachable or busy. */
  async function loadWithRetry(signal) {
    for (let delay = 1000; ; delay = Math.min(delay * 2, 15000)) {
      try {
        await load(signal);
        return;
      } catch (error) {
        if (!(error instanceof api.Problem) || ![0, 429, 503].includes(error.status)) throw error;
        if (!signal.aborted) page.problem(error.message);
      }
      await new Promise((done) => setTimeout(done, delay));
      signal.throwIfAborted();
    }
  }

  async function load(signal) {
    const about = { symbol: chosen.symbol, exchange: chosen.exchange };
    const end = Math.max(Date.parse(chosen.last_trade) + 1, now(chosen));
    oldest = floor(end - PAGE * SECONDS[interval] * 1000);
    const range = { ...about, interval, start: iso(oldest), end: iso(end + 60e3) };
    const [bars, trades] = await Promise.all([
      newest("v1/ohlcv", range, signal),
      newest("v1/trades", { ...about, limit: TAPE }, signal),
    ]);
    drawn.set(bars.map(bar));
    draw(trades);
    page.run(() => yesterday(about, end, signal));
    follow(about, signal);
  }

  /** Include Kafka's trades, or read Gold only if Kafka is unavailable. */
  async function newest(path, query, signal) {
    try {
      return (await api.get(path, { ...query, hybrid: true }, signal)).data;
    } catch (error) {
      if (error.status !== 503) throw error;
      return api.rows(path, query, signal);
    }
  }

  async function older() {
    if (oldest <= Date.parse(chosen.first_trade)) return;
    const signal = loading.signal;
    const end = oldest;
    oldest = floor(end - PAGE * SECONDS[interval] * 1000);
    const query = { symbol: chosen.symbol, exchange: chosen.exchange, interval, start: iso(oldest), end: iso(end) };
    drawn.before((await api.rows("v1/ohlcv", query, signal)).map(bar));
  }

  async function yesterday(about, end, signal) {
    const [then] = await api.rows("v1/price", { ...about, at: iso(end - DAY) }, signal);
    if (!then) return;
    const shown = () => {
      const part = (100 * (Number(price.dataset.value) - Number(then.price))) / Number(then.price);
      change.textContent = `${part >= 0 ? "+" : ""}${part.toFixed(2)} % in 24 h`;
      change.dataset.way = part >= 0 ? "up" : "down";
    };
    if (price.dataset.value) shown();
  }

  function follow(about, signal) {
    const query = { symbols: about.symbol, exchange: about.exchange };
    let live = false;
    poll(about, signal, () => !live);
    api.stream(query, {
      event: "trade",
      record(row) {
        if (!waiting.length) requestAnimationFrame(() => { if (!signal.aborted) flush(); });
        waiting.push(row);
      },
      state(streamState, reason) {
        page.live(streamState, reason);
        live = streamState === "live";
      },
    }, signal);
  }

  /** Poll for new trades while the stream is down. */
  async function poll(about, signal, enabled) {
    while (!signal.aborted) {
      await new Promise((done) => setTimeout(done, 5000));
      if (signal.aborted || !enabled() || document.hidden) continue;
      await page.run(async () => {
        const start = iso(floor(Date.now() - 2 * SECONDS[interval] * 1000));
        const bars = await newest("v1/ohlcv", { ...about, interval, start }, signal);
        for (const row of bars.map(bar)) drawn.update(row);
        const since = tail.at(-1)?.timestamp;
        draw(await newest("v1/trades", { ...about, start: since, limit: since ? 1000 : TAPE }, signal));
      });
    }
  }

  function flush() {
    const trades = waiting;
    waiting = [];
    for (const row of trades) {
      drawn.trade(Date.parse(row.timestamp) / 1000, Number(row.price), Number(row.quantity));
    }
    draw(trades);
  }

  function draw(trades) {
    const ids = new Set(tail.map((row) => row.message_id));
    const fresh = trades.filter((row) => !ids.has(row.message_id));
    if (!fresh.length) return;
    tail = [...tail, ...fresh].sort((a, b) => (a.timestamp < b.timestamp ? -1 : a.timestamp > b.timestamp ? 1 : 0)).slice(-TAPE);
    const [prices, quantities] = ["price", "quantity"].map((name) => Math.max(2, ...tail.map((row) => places(row[name]))));
    tape.replaceChildren(...tail.toReversed().map((row) => el("tr", { "data-side": row.side, title: `${row.side} ${row.trade_id}` },
      el("td", {}, clock(row.timestamp)), el("td", { class: "number" }, decimal(row.price, prices)), el("td", { class: "number" }, decimal(row.quantity, quantities)))));
    const last = tail.at(-1);
    const before = Number(price.dataset.value ?? last.price);
    price.textContent = decimal(last.price);
    price.dataset.way = Number(last.price) > before ? "up" : Number(last.price) < before ? "down" : price.dataset.way ?? "";
    price.dataset.value = last.price;
  }

  const floor = (ms) => Math.floor(ms / (SECONDS[interval] * 1000)) * SECONDS[interval] * 1000;

  return {
    applyTheme: () => drawn.applyTheme(),
    find: () => find.focus(),
    interval: () => choose(chosen, INTERVALS[(INTERVALS.indexOf(interval) + 1) % INTERVALS.length]),
    close: () => { find.value = ""; filter(); },
    navigate: ([exchange, symbol]) => {
      const row = symbols.find((each) => id(each) === `${exchange}/${symbol}`);
      choose(row);
      return row !== undefined;
    },
  };
}

/** The end of the bars: now, or the last trade of a symbol that has not traded for hours. */
function now(row) {
  const last = Date.parse(row.last_trade);
  return Date.now() - last < 6 * 3600e3 ? Date.now() : last;
}

function bar(row) {
  return {
    time: Date.parse(row.open_time) / 1000, open: Number(row.open), high: Number(row.high), low: Number(row.low),
    close: Number(row.close), volume: Number(row.volume),
  };
}
