import { STATS, STATUS, asStats, asStatus } from './demo';
import { age, bytes, count } from './format';
import { Figures } from './panels/figures';
import { Kill } from './panels/kill';
import { Metric } from './panels/metric';
import { ORDERS, OrdersPanel } from './panels/orders';
import { Peers } from './panels/peers';
import { useChannel, useLink, useNow } from './stream/hooks';
import { Orders, Series } from './stream/models';
import { LiveStore } from './stream/store';

const number = (value: unknown): number | null => (typeof value === 'number' ? value : null);

/** What is kept of each channel. */
const models = {
  cpu: new Series(1, ({ cores }) => (Array.isArray(cores) ? cores.map(number) : [])),
  memory: new Series(2, ({ used, cached }) => [number(used), number(cached)]),
  network: new Series(3, ({ rx, tx, loopback }) => [number(rx), number(tx), number(loopback)]),
  disk: new Series(2, ({ read, written }) => [number(read), number(written)]),
  stats: new Series(6, (data) => {
    const stats = asStats(data);
    return [
      number(stats?.connections),
      number(stats?.connection_bytes),
      number(stats?.deliveries_per_s),
      number(stats?.p99_ms),
      number(stats?.fast.queued_bytes),
      number(stats?.slow.queued_bytes),
    ];
  }),
  orders: new Orders(),
};

const channels = {
  'system:cpu': models.cpu,
  'system:memory': models.memory,
  'system:network': models.network,
  'system:disk': models.disk,
  [ORDERS]: models.orders,
  [STATS]: models.stats,
  [STATUS]: undefined,
};

export const createStore = () => new LiveStore(channels);

const FEEDS = ['system:cpu', 'system:memory', 'system:network', 'system:disk', ORDERS];

export function App() {
  const status = asStatus(useChannel(STATUS).latest?.data);
  return (
    <>
      <Head />
      <main>
        <Figures series={models.stats} clients={status?.clients} />
        <Kill channels={FEEDS} />
        <h2 className="divider">
          This machine <small>{status?.feeds.system ?? 'metrics from /proc, every second'}</small>
        </h2>
        <div className="grid">
          <Cpu />
          <Memory />
          <Network />
          <Disk />
        </div>
        <h2 className="divider">
          Orders <small>69,659 real purchases of a CD shop, 1997 and 1998, replayed</small>
        </h2>
        <OrdersPanel model={models.orders} note={status?.feeds.orders} />
        <h2 className="divider">Slowness</h2>
        <Peers series={models.stats} orders={!status?.feeds.orders.startsWith('not running')} />
      </main>
      <footer className="foot">
        <p>
          The same stream in a terminal:{' '}
          <code>curl -N '{location.origin}/v1/sse?channel=orders:all'</code>
        </p>
      </footer>
    </>
  );
}

function Head() {
  const link = useLink();
  const now = useNow();
  const stats = asStats(useChannel(STATS).latest?.data);
  const words = {
    connecting: 'connecting …',
    live: 'live',
    lost: `reconnecting, ${age(now - link.since)}`,
  }[link.state];
  return (
    <header className="head">
      <h1>
        <img src="/icon.svg" alt="" width="22" height="22" /> shardcast
      </h1>
      <p className="about">
        {stats
          ? `${stats.engine} · ${stats.shards} ${stats.shards === 1 ? 'shard' : 'shards'}`
          : 'real-time events, demo'}
      </p>
      <p className={`link ${link.state}`} role="status" data-link={link.state}>
        <i aria-hidden="true" /> {words}
      </p>
    </header>
  );
}

const percent = (value: number) => `${value.toFixed(0)} %`;
const perSecond = (value: number) => `${bytes(value)}/s`;

const CORE_COLORS = ['--accent', '--warm', '--cool', '--rose'];

function Cpu() {
  const view = useChannel('system:cpu');
  const cores = models.cpu.columns;
  // Many cores: the lines of the first ones stay readable, and the sum is in words.
  const lines = cores.slice(0, 16).map((_, core) => ({
    label: `core ${core}`,
    color: CORE_COLORS[core % CORE_COLORS.length]!,
  }));
  const total = (view.latest?.data as { total?: number } | undefined)?.total;
  const many = cores.length > CORE_COLORS.length;
  return (
    <Metric
      channel="system:cpu"
      title="CPU per core"
      lines={lines}
      data={[models.cpu.times, ...cores]}
      format={percent}
      range={[0, 100]}
      {...(many
        ? { now: <span>{count(cores.length)} cores, mean <b>{total === undefined ? '–' : percent(total)}</b></span> }
        : {})}
    />
  );
}

function Memory() {
  const view = useChannel('system:memory');
  const total = (view.latest?.data as { total?: number } | undefined)?.total;
  return (
    <Metric
      channel="system:memory"
      title={total ? `Memory of ${bytes(total)}` : 'Memory'}
      lines={[
        { label: 'used', color: '--accent', fill: true },
        { label: 'cached', color: '--cool' },
      ]}
      data={[models.memory.times, ...models.memory.columns]}
      format={bytes}
      binary
    />
  );
}

function Network() {
  useChannel('system:network');
  return (
    <Metric
      channel="system:network"
      title="Network"
      lines={[
        { label: 'in', color: '--accent' },
        { label: 'out', color: '--warm' },
        { label: 'loopback', color: '--cool', fill: true },
      ]}
      data={[models.network.times, ...models.network.columns]}
      format={perSecond}
      axisFormat={bytes}
      binary
    />
  );
}

function Disk() {
  useChannel('system:disk');
  return (
    <Metric
      channel="system:disk"
      title="Disk"
      lines={[
        { label: 'read', color: '--accent' },
        { label: 'written', color: '--warm', fill: true },
      ]}
      data={[models.disk.times, ...models.disk.columns]}
      format={perSecond}
      axisFormat={bytes}
      binary
    />
  );
}
