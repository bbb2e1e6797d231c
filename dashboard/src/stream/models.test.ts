import { describe, expect, it } from 'vitest';
import { Orders, Series } from './models';

const wrap = (offset: number, data: unknown) => ({
  channel: 'a',
  epoch: '0000000100000001',
  offset,
  time: '2030-01-01T00:00:00Z',
  data,
});

describe('Series', () => {
  const make = () => new Series(1, ({ v }) => (Array.isArray(v) ? (v as (number | null)[]) : [null]));

  it('stays sorted whatever order events come in', () => {
    const series = make();
    for (const n of [3, 1, 2, 5, 4]) series.add(wrap(n, { v: [n * 10] }), n * 1_000);
    expect(series.times).toEqual([1, 2, 3, 4, 5]);
    expect(series.columns).toEqual([[10, 20, 30, 40, 50]]);
    series.trim(2_500);
    expect(series.times).toEqual([3, 4, 5]);
    expect(series.columns).toEqual([[30, 40, 50]]);
  });

  it('grows a line when a core appears, without moving the others', () => {
    const series = make();
    series.add(wrap(1, { v: [1] }), 1_000);
    series.add(wrap(2, { v: [2, 20] }), 2_000);
    series.add(wrap(3, { v: [3] }), 3_000);
    series.add(wrap(4, 'not an object'), 4_000);
    expect(series.columns).toEqual([
      [1, 2, 3],
      [null, 20, null],
    ]);
  });
});

describe('Orders', () => {
  const order = (n: number, usd: number) => ({ n, customer: 7, day: '1997-01-12', cds: 1, usd });

  it('sums per second and leaves out the second that runs', () => {
    const orders = new Orders();
    orders.add(wrap(2, order(2, 5)), 10_900);
    orders.add(wrap(3, order(3, 7)), 11_000);
    orders.add(wrap(1, order(1, 1)), 10_000);
    orders.add(wrap(4, order(4, 9)), 12_100);
    expect(orders.columns()).toEqual([
      [10, 11],
      [2, 1],
      [6, 7],
    ]);
    expect(orders.newest.map(({ offset }) => offset)).toEqual([4, 3, 2, 1]);
  });

  it('lists the newest few by offset and ignores what is not an order', () => {
    const orders = new Orders();
    for (let n = 1; n <= 20; n += 1) orders.add(wrap(n, order(n, 1)), n * 1_000);
    orders.add(wrap(21, { n: 'x' }), 21_000);
    orders.add(wrap(22, null), 22_000);
    expect(orders.newest.map(({ offset }) => offset)).toEqual([20, 19, 18, 17, 16, 15, 14, 13]);
  });
});
