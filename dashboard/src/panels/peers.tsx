/** A slow client beside a fast one: who pays for the slowness. */
import { Chart } from '../charts/chart';
import { STATS, asStats } from '../demo';
import type { Peer, Stats } from '../demo';
import { bytes, count, milliseconds } from '../format';
import { useChannel } from '../stream/hooks';
import type { Series } from '../stream/models';
import { Age } from './metric';

export function Peers({ series, orders }: { series: Series; orders: boolean }) {
  const view = useChannel(STATS);
  const stats = asStats(view.latest?.data);
  return (
    <section className="metric peers" aria-labelledby="title-peers">
      <header>
        <h3 id="title-peers">One slow client beside a fast one</h3>
        <Age channel={STATS} />
      </header>
      {stats ? <Rows stats={stats} /> : <p className="note">No figures yet.</p>}
      <Chart
        label="Bytes that wait on the server for the slow and for the fast client"
        lines={LINES}
        data={[series.times, series.columns[5] ?? [], series.columns[4] ?? []]}
        version={view.version}
        format={bytes}
        binary
        height={104}
      />
      <p className="note">
        {orders ? '' : 'Without orders there is too little to be slow about. '}
        Both follow {orders ? 'the orders' : 'the CPU'}. What waits for the slow one is bounded by its budget; there the oldest
        are dropped and it is told which, so that it sees recent orders and knows what it did not see.
        The fast one never notices.
      </p>
    </section>
  );
}

const LINES = [
  { label: 'slow', color: '--warm', fill: true },
  { label: 'fast', color: '--accent' },
];

function Rows({ stats }: { stats: Stats }) {
  return (
    <table>
      <thead>
        <tr>
          <td />
          <th scope="col">waits for it</th>
          <th scope="col">behind</th>
          <th scope="col">latency</th>
          <th scope="col">dropped, and told</th>
        </tr>
      </thead>
      <tbody>
        <Row name="fast" color="--accent" peer={stats.fast} budget={stats.outbox_bytes_max} />
        <Row name={`reads ${bytes(stats.slow_bytes_per_s)}/s`} color="--warm" peer={stats.slow} budget={stats.outbox_bytes_max} />
      </tbody>
    </table>
  );
}

function Row({ name, color, peer, budget }: { name: string; color: string; peer: Peer; budget: number }) {
  const share = Math.min(1, peer.queued_bytes / budget);
  return (
    <tr>
      <th scope="row">
        <i className="key" style={{ background: `var(${color})` }} /> {name}
      </th>
      <td>
        <span className="meter" aria-hidden="true">
          <span style={{ width: `${share * 100}%`, background: `var(${color})` }} />
        </span>
        {bytes(peer.queued_bytes)} <small>of {bytes(budget)}</small>
      </td>
      <td>{count(peer.behind)}</td>
      <td>{peer.latency_ms === null ? '–' : milliseconds(peer.latency_ms)}</td>
      <td>{count(peer.dropped_events)}</td>
    </tr>
  );
}
