// Bars and their volume, drawn by Lightweight Charts.
import { places } from "./dom.js";

const { createChart, CandlestickSeries, HistogramSeries } = window.LightweightCharts;

/** A chart in an element. Times are seconds; bars of one start replace each other. */
export function chart(element) {
  // Their logo would want inline styles; the footer names them instead.
  const drawn = createChart(element, { autoSize: true, layout: { attributionLogo: false } });
  const candles = drawn.addSeries(CandlestickSeries);
  const volume = drawn.addSeries(HistogramSeries, { priceScaleId: "volume", priceFormat: { type: "volume" }, lastValueVisible: false, priceLineVisible: false });
  drawn.priceScale("volume").applyOptions({ scaleMargins: { top: 0.84, bottom: 0 } });
  drawn.priceScale("right").applyOptions({ scaleMargins: { top: 0.06, bottom: 0.2 } });
  let bars = new Map();
  let length = 60;
  let colours = {};
  let older = async () => {};
  let asked = false;

  drawn.timeScale().subscribeVisibleLogicalRangeChange(async (range) => {
    if (!range || range.from > 20 || asked || !bars.size) return;
    asked = true;
    await older();
    asked = false;
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

  function themed() {
    const style = getComputedStyle(element);
    const value = (name) => style.getPropertyValue(name).trim();
    colours = { up: value("--up"), down: value("--down"), upDim: value("--up-dim"), downDim: value("--down-dim") };
    drawn.applyOptions({
      layout: { background: { color: "transparent" }, textColor: value("--dim"), fontFamily: style.fontFamily, fontSize: 11 },
      grid: { vertLines: { color: value("--grid") }, horzLines: { color: value("--grid") } },
      crosshair: { mode: 0 },
      rightPriceScale: { borderColor: value("--line") },
      timeScale: { borderColor: value("--line"), timeVisible: true, secondsVisible: false, rightOffset: 4 },
    });
    candles.applyOptions({
      upColor: colours.up, downColor: colours.down, borderVisible: false, wickUpColor: colours.up, wickDownColor: colours.down,
    });
    redraw();
  }

  const high = (bar) => ({ time: bar.time, value: bar.volume, color: bar.close >= bar.open ? colours.upDim : colours.downDim });

  function redraw() {
    const found = [...bars.values()].sort((a, b) => a.time - b.time);
    candles.setData(found);
    volume.setData(found.map(high));
    element.dataset.bars = String(found.length);
  }

  function update(bar) {
    const newest = Math.max(...bars.keys());
    bars.set(bar.time, bar);
    if (bar.time < newest) redraw();
    else {
      candles.update(bar);
      volume.update(high(bar));
      element.dataset.bars = String(bars.size);
    }
  }

  themed();
  return {
    themed,
    update,
    onOlder(work) { older = work; },
    clear(seconds) {
      bars = new Map();
      length = seconds;
      redraw();
    },
    set(found) {
      bars = new Map(found.map((bar) => [bar.time, bar]));
      redraw();
      const digits = Math.max(2, ...found.slice(-100).map((bar) => places(bar.close.toFixed(8))));
      candles.applyOptions({ priceFormat: { type: "price", precision: digits, minMove: 10 ** -digits } });
      drawn.timeScale().setVisibleLogicalRange({ from: found.length - 180, to: found.length + 4 });
    },
    before(found) {
      for (const bar of found) bars.set(bar.time, bar);
      if (found.length) redraw();
    },
    /** A trade as part of its bar. Bars that were loaded are not exact any more after it, and are when loaded again. */
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
