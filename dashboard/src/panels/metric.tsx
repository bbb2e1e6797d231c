/** A chart with its current values, its age, and older data on demand. */
import type { ReactNode } from 'react';
import { Chart } from '../charts/chart';
import type { Line } from '../charts/chart';
import { age, freshness } from '../format';
import { useChannel, useNow, useStore } from '../stream/hooks';
import { WINDOW_MS } from '../stream/store';

interface Props {
  channel: string;
  title: string;
  lines: Line[];
  data: readonly (readonly (number | null)[])[];
  format: (value: number) => string;
  /** For the axis, if it says less than the values do. */
  axisFormat?: (value: number) => string;
  binary?: boolean;
  height?: number;
  range?: [number, number];
  /** Values beside the title; by default the last of each line. */
  now?: ReactNode;
  /** Events to fetch for one more window of older data. */
  olderCount?: number;
}

export function Metric(props: Props) {
  const { channel, title, lines, data, format, range, now, olderCount = 300 } = props;
  const view = useChannel(channel);
  const store = useStore();
  const oldest = data[0]?.[0];
  const newest = data[0]?.at(-1);
  const minutes = Math.round(((newest ?? 0) - (oldest ?? 0)) / 60);
  const extended = minutes * 60_000 > WINDOW_MS + 60_000;
  const values = lines.map((line, at) => ({ line, value: data[at + 1]?.at(-1) ?? null }));
  const spoken = values.map(({ line, value }) => `${line.label} ${value === null ? 'unknown' : format(value)}`);
  return (
    <section className="metric" aria-labelledby={`title-${channel}`}>
      <header>
        <h3 id={`title-${channel}`}>{title}</h3>
        <Age channel={channel} />
      </header>
      <p className="now">
        {now ??
          values.map(({ line, value }) => (
            <span key={line.label}>
              <i className="key" style={{ background: `var(${line.color})` }} />
              {line.label} <b>{value === null ? '–' : format(value)}</b>
            </span>
          ))}
      </p>
      <Chart
        label={`${title}: ${spoken.join(', ')}`}
        lines={lines}
        data={data}
        version={view.version}
        format={props.axisFormat ?? format}
        binary={props.binary ?? false}
        height={props.height ?? 132}
        {...(range ? { range } : {})}
      />
      <footer>
        <button
          type="button"
          className="quiet"
          disabled={view.filling || view.complete || oldest === undefined}
          onClick={() => void store.older(channel, olderCount)}
          aria-label={`Load older data of ${title}`}
        >
          {view.filling ? 'loading …' : view.complete ? 'that is all there is' : '← older'}
        </button>
        {extended ? (
          <button type="button" className="quiet" onClick={() => store.recent(channel)}>
            {minutes} min · back to 5
          </button>
        ) : null}
      </footer>
    </section>
  );
}

/** How long ago the newest event was made; turns amber, then red, in words too. */
export function Age({ channel }: { channel: string }) {
  const { madeAt } = useChannel(channel);
  const now = useNow();
  const ms = madeAt === undefined ? undefined : Math.max(0, now - madeAt);
  const state = freshness(ms);
  const words = { none: 'no data yet', fresh: '', late: 'late', stale: 'stale' }[state];
  return (
    <span className={`age ${state}`} data-freshness={state}>
      {words}
      {ms === undefined ? '' : ` ${age(ms)} ago`}
    </span>
  );
}
