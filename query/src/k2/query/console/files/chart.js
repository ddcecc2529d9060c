// Chart of bars and volume, drawn by Lightweight Charts.
import { places } from "./dom.js";

const { createChart, CandlestickSeries, HistogramSeries, LineSeries } = window.LightweightCharts;

// The library's logo needs inline styles, which the CSP forbids; the footer has the attribution.
const create = (element) => createChart(element, { autoSize: true, layout: { attributionLogo: false } });

/** Apply the page's colours, and return the function that reads one. */
function applyColours(drawn, element, timeScale) {
  const style = getComputedStyle(element);
  const value = (name) => style.getPropertyValue(name).trim();
  drawn.applyOptions({
    layout: { background: { color: "transparent" }, textColor: value("--dim"), fontFamily: style.fontFamily, fontSize: 11 },
    grid: { vertLines: { color: value("--grid") }, horzLines: { color: value("--grid") } },
    crosshair: { mode: 0 },
    rightPriceScale: { borderColor: value("--line") },
    timeScale: { borderColor: value("--line"), timeVisible: true, ...timeScale },
  });
  return value;
}

/** Create a chart in an element. Times are in seconds; a bar replaces an earlier one with the same start. */
export function chart(element) {
  const drawn = create(element);
  const candles = drawn.addSeries(CandlestickSeries);
  const volume = drawn.addSeries(HistogramSeries, { priceScaleId: "volume", priceFormat: { type: "volume" }, lastValueVisible: false, priceLineVisible: false });
  drawn.priceScale("volume").applyOptions({ scaleMargins: { top: 0.84, bottom: 0 } });
  drawn.priceScale("right").applyOptions({ scaleMargins: { top: 0.06, bottom: 0.2 } });
  let bars = new Map();
  let length = 60;
  let colours = {};
  let older = async () => {};
  let loadingOlder = false;

  drawn.timeScale().subscribeVisibleLogicalRangeChange(async (range) => {
    if (!range || range.from > 20 || loadingOlder || !bars.size) return;
    loadingOlder = true;
    await older();
    loadingOlder = false;
  });

  element.addEventListener("keydown", (event) => {
    const scale = drawn.timeScale();
    const range = scale.getVisibleLogicalRange();
    const [from, to] = {
      ArrowLeft: [-0.2, -0.2], ArrowRight: [0.2, 0.2], "+": [0.2, 0], "-": [-0.25, 0],
    }[event.key] ?? [0, 0];
    if (!range || (!from && !to)) return;
    event.preventDefault();
    const width = range.to - range.from;
    scale.setVisibleLogicalRange({ from: range.from + from * width, to: range.to + to * width });
  });

  function applyTheme() {
    const value = applyColours(drawn, element, { secondsVisible: false, rightOffset: 4 });
    colours = { up: value("--up"), down: value("--down"), upDim: value("--up-dim"), downDim: value("--down-dim") };
    candles.applyOptions({
      upColor: colours.up, downColor: colours.down, borderVisible: false, wickUpColor: colours.up, wickDownColor: colours.down,
    });
    redraw();
  }

  const volumeOf = (bar) => ({ time: bar.time, value: bar.volume, color: bar.close >= bar.open ? colours.upDim : colours.downDim });

  function redraw() {
    const sorted = [...bars.values()].sort((a, b) => a.time - b.time);
    candles.setData(sorted);
    volume.setData(sorted.map(volumeOf));
    element.dataset.bars = String(sorted.length);
  }

  function update(bar) {
    const newest = Math.max(...bars.keys());
    bars.set(bar.time, bar);
    if (bar.time < newest) redraw();
    else {
      candles.update(bar);
      volume.update(volumeOf(bar));
      element.dataset.bars = String(bars.size);
    }
  }

  applyTheme();
  return {
    applyTheme,
    update,
    onOlder(work) { older = work; },
    clear(seconds) {
      bars = new Map();
      length = seconds;
      redraw();
    },
    set(loaded) {
      bars = new Map(loaded.map((bar) => [bar.time, bar]));
      redraw();
      const digits = Math.max(2, ...loaded.slice(-100).map((bar) => places(bar.close.toFixed(8))));
      candles.applyOptions({ priceFormat: { type: "price", precision: digits, minMove: 10 ** -digits } });
      drawn.timeScale().setVisibleLogicalRange({ from: loaded.length - 180, to: loaded.length + 4 });
    },
    before(older) {
      for (const bar of older) bars.set(bar.time, bar);
      if (older.length) redraw();
    },
    /** Add a trade to its bar. Floating-point sums make the bar inexact until it is loaded again. */
    trade(time, price, quantity) {
      const start = Math.floor(time / length) * length;
      const old = bars.get(start);
      update(old
        ? { ...old, high: Math.max(old.high, price), low: Math.min(old.low, price), close: price, volume: old.volume + quantity }
        : { time: start, open: price, high: price, low: price, close: price, volume: quantity });
    },
    close() { drawn.remove(); },
  };
}

/** Draw lines over time, one below the other, in these colours of the page. A point has a time in seconds and a value for each; null is a gap. */
export function lines(element, colours) {
  const drawn = create(element);
  const series = colours.map((_, pane) => drawn.addSeries(LineSeries, { lineWidth: 1, priceLineVisible: false, priceFormat: { type: "price", precision: 3, minMove: 0.001 } }, pane));
  let newest = 0;

  const value = (point, at) => (point.values[at] === null ? { time: point.time } : { time: point.time, value: point.values[at] });

  function applyTheme() {
    const read = applyColours(drawn, element, { secondsVisible: true, rightOffset: 2 });
    series.forEach((each, at) => each.applyOptions({ color: read(colours[at]) }));
  }

  function set(points) {
    series.forEach((each, at) => each.setData(points.map((point) => value(point, at))));
    newest = points.at(-1)?.time ?? 0;
    element.dataset.points = String(points.length);
    drawn.timeScale().fitContent();
  }

  applyTheme();
  return {
    applyTheme,
    set,
    clear: () => set([]),
    /** Add a point after the others. */
    add(point) {
      if (point.time <= newest) return;
      newest = point.time;
      series.forEach((each, at) => each.update(value(point, at)));
      element.dataset.points = String(Number(element.dataset.points) + 1);
    },
    close() { drawn.remove(); },
  };
}
