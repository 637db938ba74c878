// Candles and volume with lightweight-charts: the only module that knows the library, loaded when it is needed.
import {
  CandlestickSeries,
  ColorType,
  createChart,
  HistogramSeries,
  type IChartApi,
  type Time,
  type UTCTimestamp,
} from "lightweight-charts";
import { clock } from "../format";
import type { Candle } from "./chart";

export interface Drawing {
  show(candles: Candle[]): void;
  remove(): void;
}

const DARK = "(prefers-color-scheme: dark)";

/** Colours as the page has them now; a probe turns whatever a variable says into what the canvas understands. */
function colours(place: HTMLElement): (name: string, otherwise?: string) => string {
  return (name, otherwise = "ink") => {
    const probe = document.createElement("i");
    probe.style.color = `var(--${name}, var(--${otherwise}))`;
    place.append(probe);
    const found = getComputedStyle(probe).color;
    probe.remove();
    return found;
  };
}

export function draw(place: HTMLElement): Drawing {
  // The chart measures its place; a place of its own that cannot grow keeps the two from pushing each other.
  const inside = document.createElement("div");
  inside.className = "chart-inside";
  place.replaceChildren(inside);
  const label = (time: Time): string => clock((time as number) * 1000);
  const chart: IChartApi = createChart(inside, {
    autoSize: true,
    // Its logo would bring a style element, which the page's policy forbids; the link under the chart gives the credit.
    layout: { attributionLogo: false, fontFamily: getComputedStyle(place).fontFamily },
    localization: { timeFormatter: label },
    timeScale: { timeVisible: true, maxBarSpacing: 14, minBarSpacing: 1, rightOffset: 2, tickMarkFormatter: label, borderVisible: false },
    rightPriceScale: { borderVisible: false },
    handleScroll: { vertTouchDrag: false },
  });
  const candles = chart.addSeries(CandlestickSeries, { priceFormat: { type: "price", precision: 4, minMove: 0.0001 } });
  candles.priceScale().applyOptions({ scaleMargins: { top: 0.08, bottom: 0.25 } });
  const volume = chart.addSeries(HistogramSeries, { priceScaleId: "", priceFormat: { type: "volume" }, lastValueVisible: false, priceLineVisible: false });
  volume.priceScale().applyOptions({ scaleMargins: { top: 0.82, bottom: 0 } });

  const paint = (): void => {
    const colour = colours(place);
    chart.applyOptions({
      layout: { background: { type: ColorType.Solid, color: colour("surface") }, textColor: colour("muted") },
      grid: { vertLines: { color: colour("sunken") }, horzLines: { color: colour("sunken") } },
    });
    // Rising hollow, falling filled: the direction is readable without colour, which means opposite things in
    // different countries. Who wants colour as well chooses which in the profile.
    const [rise, fall] = [colour("rise"), colour("fall", "muted")];
    candles.applyOptions({
      upColor: colour("surface"),
      downColor: fall,
      borderUpColor: rise,
      borderDownColor: fall,
      wickUpColor: rise,
      wickDownColor: fall,
    });
    volume.applyOptions({ color: colour("sun") });
  };
  paint();
  const theme = matchMedia(DARK);
  theme.addEventListener("change", paint);
  const settings = new MutationObserver(paint); // a theme or colours of one's own are attributes of the page
  settings.observe(document.documentElement, { attributes: true, attributeFilter: ["class", "data-theme", "data-rise", "data-colours"] });

  let fitted = 0;
  return {
    show(rows) {
      const at = (row: Candle): UTCTimestamp => (Date.parse(row.start) / 1000) as UTCTimestamp;
      candles.setData(
        rows.map((row) => ({ time: at(row), open: Number(row.open), high: Number(row.high), low: Number(row.low), close: Number(row.close) })),
      );
      volume.setData(rows.map((row) => ({ time: at(row), value: row.volume_wh / 1000 })));
      if (rows.length !== fitted) chart.timeScale().fitContent();
      fitted = rows.length;
    },
    remove() {
      theme.removeEventListener("change", paint);
      settings.disconnect();
      chart.remove();
    },
  };
}
