/** uPlot in React: made once, fed in place, coloured from the style sheet. */
import { useEffect, useRef, useState } from 'react';
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';

export interface Line {
  label: string;
  /** Name of a CSS custom property. */
  color: string;
  fill?: boolean;
  bars?: boolean;
}

interface Props {
  /** What the chart shows, for people who cannot see it. */
  label: string;
  lines: Line[];
  /** Times in seconds, then a column per line. */
  data: readonly (readonly (number | null)[])[];
  /** Changes when `data` did. */
  version: number;
  format: (value: number) => string;
  /** Ticks at powers of two: bytes. */
  binary?: boolean;
  /** Fixed ends of the y axis; without it zero and what the data needs. */
  range?: [number, number];
  /** The span of time at least, in seconds. */
  span?: number;
  height?: number;
}

export function Chart(props: Props) {
  const { label, lines, data, version, height = 132 } = props;
  const holder = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot>(undefined);
  const latest = useRef(props);
  latest.current = props;
  const scheme = useScheme();
  const shape = lines.map((line) => line.label + line.color).join();

  useEffect(() => {
    const parent = holder.current;
    if (!parent) return;
    const own = new uPlot(options(parent, latest), columns(latest.current), parent);
    plot.current = own;
    const watch = new ResizeObserver(() => own.setSize({ width: parent.clientWidth, height }));
    watch.observe(parent);
    return () => {
      watch.disconnect();
      own.destroy();
      plot.current = undefined;
    };
  }, [scheme, shape, height]);

  useEffect(() => {
    plot.current?.setData(columns(latest.current));
  }, [data, version]);

  return <div ref={holder} role="img" aria-label={label} className="chart" style={{ height }} />;
}

function columns({ data, lines }: Props): uPlot.AlignedData {
  const [times = [], ...rest] = data;
  // Copies: the model goes on changing its arrays while uPlot draws from these.
  const filled = lines.map((_, at) => (rest[at] ?? times.map(() => null)).slice());
  return [times.slice(), ...filled] as uPlot.AlignedData;
}

function options(parent: HTMLElement, latest: { current: Props }): uPlot.Options {
  const { lines, height = 132 } = latest.current;
  const style = getComputedStyle(parent);
  const color = (name: string) => style.getPropertyValue(name).trim();
  const axis: uPlot.Axis = {
    stroke: color('--faint'),
    grid: { stroke: color('--hairline'), width: 1 },
    ticks: { show: false },
    font: `11px ${color('--mono')}`,
  };
  return {
    width: parent.clientWidth || 300,
    height,
    padding: [8, 18, 0, 0],
    legend: { show: false },
    cursor: { show: false },
    scales: {
      x: { time: true, range: (_, min, max) => timeRange(min, max, latest.current.span ?? 300) },
      y: { range: (_, __, max) => latest.current.range ?? [0, niceTop(max, latest.current.binary)] },
    },
    axes: [
      { ...axis, size: 22, space: 56, incrs: TICKS_S, values: (_, times) => times.map(clock) },
      {
        ...axis,
        size: 62,
        space: 28,
        splits: (_, __, min, max) => [0, 1, 2].map((step) => min + ((max - min) * step) / 2),
        values: (_, values) => values.map((value) => latest.current.format(value)),
      },
    ],
    series: [{}, ...lines.map((line) => series(line, color))],
  };
}

function series(line: Line, color: (name: string) => string): uPlot.Series {
  const stroke = color(line.color);
  const bars = line.bars ? uPlot.paths.bars?.({ size: [0.8, 6], align: 1 }) : undefined;
  return {
    label: line.label,
    stroke,
    width: line.bars ? 0 : 1.5,
    points: { show: false },
    spanGaps: false,
    ...(line.fill || line.bars ? { fill: `${stroke}${line.bars ? 'b0' : '26'}` } : {}),
    ...(bars ? { paths: bars } : {}),
  };
}

/** Ends now, and spans at least `span` seconds, so that a young chart grows from the right. */
function timeRange(min: number | null, max: number | null, span: number): [number, number] {
  const end = Math.max(max ?? 0, Date.now() / 1_000 - 1);
  return [Math.min(min ?? end, end - span), end];
}

/** The top of an axis whose half is a round number, too. */
function niceTop(max: number | null, binary = false): number {
  if (max === null || max <= 0) return binary ? 1_024 : 2;
  const wanted = max * 1.05;
  if (!binary) {
    const unit = 10 ** Math.floor(Math.log10(wanted));
    return unit * ([1, 2, 3, 4, 5, 6, 8].find((step) => step * unit >= wanted) ?? 10);
  }
  const unit = 1_024 ** Math.floor(Math.log(wanted) / Math.log(1_024));
  const steps = [1, 2, 4, 6, 8, 10, 16, 20, 32, 40, 64, 100, 128, 200, 256, 400, 512, 800];
  return unit * (steps.find((step) => step * unit >= wanted) ?? 1_024);
}

/** Labels have minutes, so no tick is nearer. */
const TICKS_S = [60, 120, 300, 600, 1_200, 1_800, 3_600, 7_200, 14_400];

function clock(seconds: number): string {
  return new Date(seconds * 1_000).toTimeString().slice(0, 5);
}

const DARK = '(prefers-color-scheme: dark)';

/** Which colours apply; a chart is drawn anew when that changes. */
function useScheme(): boolean {
  const [dark, setDark] = useState(() => matchMedia(DARK).matches);
  useEffect(() => {
    const query = matchMedia(DARK);
    const listen = () => setDark(query.matches);
    query.addEventListener('change', listen);
    return () => query.removeEventListener('change', listen);
  }, []);
  return dark;
}
