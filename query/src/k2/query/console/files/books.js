// Order books of a stream: one for each connection, of which the best is shown. Rules as in k2.query.book.reconstruction.
const ENDED = 30e3; // a connection that sends nothing for so long, while another one does, has ended
const SEVERITY = { verified: 0, unverifiable: 1, suspect: 2 };

const worse = (one, other) => (SEVERITY[other] > SEVERITY[one] ? other : one);

/** Keep the books of one exchange and symbol. */
export function liveBooks() {
  const connections = new Map();

  /** Apply an event of `v1/stream?channel=book`. */
  function add(message) {
    let book = connections.get(message.connection);
    if (!book) connections.set(message.connection, book = { ordinal: 0, parts: [], bids: null, asks: null });
    if (message.ordinal < book.ordinal) return;
    book.ordinal = message.ordinal;
    if (message.kind === "snapshot") addPart(book, message);
    else addDelta(book, message);
  }

  /** Return the book with the best verdict, of these the newest, in the format of `v1/book`; null without any. */
  function best(depth) {
    const whole = [...connections].filter(([, book]) => book.bids);
    const newest = Math.max(...whole.map(([, book]) => book.at));
    for (const [name, book] of whole) if (book.at < newest - ENDED) connections.delete(name);
    const shown = whole.filter(([, book]) => book.at >= newest - ENDED)
      .map(([, book]) => ({ time: book.time, at: book.at, verdict: book.verdict, bids: sorted(book.bids, -1, depth), asks: sorted(book.asks, 1, depth) }));
    for (const book of shown) if (book.bids.length && book.asks.length && Number(book.bids[0].price) >= Number(book.asks[0].price)) book.verdict = "suspect";
    return shown.sort((a, b) => SEVERITY[a.verdict] - SEVERITY[b.verdict] || b.at - a.at)[0] ?? null;
  }

  return { add, best };
}

function addPart(book, message) {
  if (message.part !== book.parts.length + 1) {
    book.parts = [];
    book.verdict = "suspect";
  }
  if (message.part === book.parts.length + 1) book.parts.push(message);
  if (book.parts.length < message.parts) return;
  [book.bids, book.asks, book.verdict, book.at] = [new Map(), new Map(), "verified", 0];
  for (const part of book.parts) apply(book, part);
  book.parts = [];
}

function addDelta(book, message) {
  if (book.parts.length) {
    book.parts = [];
    book.verdict = "suspect";
  }
  if (!book.bids || stale(message, book.id)) return;
  if (!joins(message, book.id)) book.verdict = "suspect";
  apply(book, message);
}

function apply(book, message) {
  for (const side of ["bids", "asks"]) {
    for (const { price, quantity } of message[side]) {
      if (quantity === "0") book[side].delete(price);
      else book[side].set(price, quantity);
    }
  }
  book.verdict = worse(book.verdict, message.verdict);
  book.id = message.last_id;
  const time = message.timestamp ?? message.ingestion_timestamp;
  if (Date.parse(time) >= book.at) [book.time, book.at] = [time, Date.parse(time)];
}

const stale = (message, id) => id !== null && message.last_id !== null && message.previous_id !== id && message.last_id <= id;

const joins = (message, id) => id === null || (message.previous_id !== null ? message.previous_id === id : message.first_id === null || message.first_id <= id + 1);

function sorted(levels, way, depth) {
  return [...levels].map(([price, quantity]) => ({ price, quantity, number: Number(price) }))
    .sort((a, b) => way * (a.number - b.number)).slice(0, depth);
}

/** Return the spread in basis points, and the imbalance of the levels given, from -1 to 1; null if a side is empty. */
export function measures({ bids, asks }) {
  if (!bids.length || !asks.length) return null;
  const [bid, ask] = [Number(bids[0].price), Number(asks[0].price)];
  const [bought, sold] = [bids, asks].map((levels) => levels.reduce((sum, level) => sum + Number(level.quantity), 0));
  return { spread: (20_000 * (ask - bid)) / (ask + bid), imbalance: (bought - sold) / (bought + sold) };
}
