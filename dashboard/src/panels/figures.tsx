/** The four numbers that matter, with the minutes behind them. */
import { STATS, asStats } from '../demo';
import { bytes, count, milliseconds } from '../format';
import { useChannel } from '../stream/hooks';
import type { Series } from '../stream/models';
import { Age } from './metric';

export function Figures({ series, clients }: { series: Series; clients: number | undefined }) {
  const stats = asStats(useChannel(STATS).latest?.data);
  const number = (value: number | null | undefined, format: (value: number) => string) =>
    value === null || value === undefined ? '–' : format(value);
  return (
    <section className="figures" aria-label="Now">
      <Figure
        name="connections held"
        value={number(stats?.connections, count)}
        note={clients ? `${count(clients)} WebSockets, this page and the feeds` : 'on this server'}
        line={series.columns[0]}
      />
      <Figure
        name="bytes per connection"
        value={number(stats?.connection_bytes, bytes)}
        note={stats ? `by the ledger; ${bytes(stats.resident_bytes)} resident in all` : 'by the server’s ledger'}
        line={series.columns[1]}
      />
      <Figure
        name="deliveries per second"
        value={number(stats?.deliveries_per_s, count)}
        note="received and checked by the clients"
        line={series.columns[2]}
      />
      <Figure
        name="p99, made to received"
        value={number(stats?.p99_ms, milliseconds)}
        note={`disk sync included; median ${number(stats?.p50_ms, milliseconds)}`}
        line={series.columns[3]}
      />
      <p className="figures-age">
        measured <Age channel={STATS} />
      </p>
    </section>
  );
}

interface FigureProps {
  name: string;
  value: string;
  note: string;
  line: readonly (number | null)[] | undefined;
}

function Figure({ name, value, note, line }: FigureProps) {
  return (
    <div className="figure">
      <h2>{name}</h2>
      <p className="value">{value}</p>
      <Spark values={line ?? []} />
      <p className="note">{note}</p>
    </div>
  );
}

/** The last minutes as one stroke; the number above it is what is read. */
function Spark({ values }: { values: readonly (number | null)[] }) {
  const top = Math.max(1e-9, ...values.map((value) => value ?? 0));
  const step = 100 / Math.max(1, values.length - 1);
  let pen = 'M';
  const path = values.map((value, at) => {
    if (value === null) {
      pen = 'M';
      return '';
    }
    const point = `${pen}${(at * step).toFixed(1)} ${(19 - (value / top) * 18).toFixed(1)}`;
    pen = 'L';
    return point;
  });
  return (
    <svg className="spark" viewBox="0 0 100 20" preserveAspectRatio="none" aria-hidden="true">
      <path d={path.join('')} />
    </svg>
  );
}
