/** The replayed purchases: a bar per second, and the newest as they come. */
import { day, dollars, count } from '../format';
import { useChannel } from '../stream/hooks';
import type { Orders } from '../stream/models';
import { Metric } from './metric';

export const ORDERS = 'orders:all';

export function OrdersPanel({ model, note }: { model: Orders; note: string | undefined }) {
  useChannel(ORDERS);
  const [times, counts, usd] = model.columns();
  const perSecond = counts.at(-1);
  const newest = model.newest;
  return (
    <div className="orders">
      <Metric
        channel={ORDERS}
        title="Orders per second"
        lines={LINES}
        data={[times, counts]}
        format={count}
        olderCount={6_000}
        height={188}
        now={
          <>
            <span>
              <i className="key" style={{ background: 'var(--accent)' }} />
              orders <b>{perSecond === undefined ? '–' : count(perSecond)}</b>/s
            </span>
            <span>
              worth <b>{usd.length === 0 ? '–' : dollars(usd.at(-1)!)}</b>/s
            </span>
            {newest[0] ? <span>replaying {day(newest[0].order.day)}</span> : null}
          </>
        }
      />
      <section className="metric" aria-labelledby="title-newest">
        <header>
          <h3 id="title-newest">Newest orders</h3>
          <span className="age">{note}</span>
        </header>
        <table className="newest">
          <thead>
            <tr>
              <th scope="col">no.</th>
              <th scope="col">bought on</th>
              <th scope="col">customer</th>
              <th scope="col">CDs</th>
              <th scope="col">paid</th>
            </tr>
          </thead>
          <tbody>
            {newest.map(({ offset, order }) => (
              <tr key={offset}>
                <td>{count(order.n)}</td>
                <td>{day(order.day)}</td>
                <td>{order.customer}</td>
                <td>{order.cds}</td>
                <td>{dollars(order.usd)}</td>
              </tr>
            ))}
          </tbody>
        </table>
        {newest.length === 0 ? <p className="note">None yet.</p> : null}
      </section>
    </div>
  );
}

const LINES = [{ label: 'orders', color: '--accent', bars: true }];
