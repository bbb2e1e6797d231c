import { beforeEach, describe, expect, it } from 'vitest';
import type { Envelope } from './envelope';
import { Series } from './models';
import { LiveStore, WINDOW_MS } from './store';
import type { Outside, Source } from './store';

const EPOCH = '0000000100000001';
const START = Date.parse('2030-01-01T00:00:00Z');

/** The browser, the clock and the server's history, played by the test. */
class World implements Outside {
  time = START;
  streams: Stream[] = [];
  history: Envelope[] = [];
  queries: URLSearchParams[] = [];
  historyIsDown = false;
  isHidden = false;
  #timers: { at: number; run: () => void }[] = [];

  open = (url: string): Source => {
    const stream = new Stream(url);
    this.streams.push(stream);
    return stream;
  };

  fetch = async (url: string) => {
    const query = new URLSearchParams(url.split('?')[1]);
    this.queries.push(query);
    if (this.historyIsDown) throw new TypeError('Failed to fetch');
    const from = query.get('from') ?? '';
    const to = Number(query.get('to') ?? Infinity);
    const events = this.history.filter((event) => {
      const isAfter = /^\d+$/.test(from) ? event.offset >= Number(from) : event.time >= from;
      return event.channel === query.get('channel') && isAfter && event.offset <= to;
    });
    return { ok: true, status: 200, json: async () => ({ events, position: null }) };
  };

  now = () => this.time;
  random = () => 0.5;
  hidden = () => this.isHidden;

  later = (run: () => void, ms: number) => {
    const timer = { at: this.time + ms, run };
    this.#timers.push(timer);
    return () => void (this.#timers = this.#timers.filter((other) => other !== timer));
  };

  /** Lets time pass, and everything that was waiting for it happen. */
  async pass(ms: number) {
    const end = this.time + ms;
    for (;;) {
      for (let turns = 0; turns < 10; turns += 1) await Promise.resolve();
      const next = this.#timers.toSorted((a, b) => a.at - b.at)[0];
      if (!next || next.at > end) break;
      this.#timers = this.#timers.filter((timer) => timer !== next);
      this.time = Math.max(this.time, next.at);
      next.run();
    }
    this.time = end;
  }
}

class Stream implements Source {
  readyState = 0;
  onopen: (() => void) | null = null;
  onerror: (() => void) | null = null;
  #listeners = new Map<string, (event: { data: string; lastEventId: string }) => void>();

  constructor(readonly url: string) {}

  addEventListener(type: string, listener: (event: { data: string; lastEventId: string }) => void) {
    this.#listeners.set(type, listener);
  }

  close() {
    this.readyState = 2;
  }

  connect() {
    this.readyState = 1;
    this.onopen?.();
  }

  /** `final`: the browser gives up instead of reconnecting by itself. */
  cut(final = false) {
    this.readyState = final ? 2 : 0;
    this.onerror?.();
  }

  say(data: unknown, lastEventId = '', type = 'message') {
    const text = typeof data === 'string' ? data : JSON.stringify(data);
    this.#listeners.get(type)?.({ data: text, lastEventId });
  }
}

function event(offset: number, at: number, extra: Partial<Envelope> = {}): Envelope {
  const time = new Date(at).toISOString();
  return { channel: 'a', epoch: EPOCH, offset, time, data: { t: at, v: offset }, ...extra };
}

describe('LiveStore', () => {
  let world: World;
  let series: Series;
  let store: LiveStore;
  const values = () => series.columns[0];

  beforeEach(() => {
    world = new World();
    series = new Series(1, ({ v }) => [typeof v === 'number' ? v : null]);
    store = new LiveStore({ a: series, b: undefined }, world);
  });

  it('joins live and history without a hole or a double', async () => {
    world.history = [1, 2, 3, 4].map((n) => event(n, START - 10_000 + n * 1_000));
    store.start();
    const stream = world.streams[0]!;
    expect(stream.url).toBe('/v1/sse?channel=a&channel=b');
    stream.connect();
    // Live is first; history overlaps with it.
    stream.say(event(4, START - 6_000));
    stream.say(event(5, START - 5_000));
    await world.pass(1_000);
    expect(values()).toEqual([1, 2, 3, 4, 5]);
    expect(store.channel('a')).toMatchObject({ lost: 0, repeats: 0, filling: false });
    expect(store.link()).toMatchObject({ state: 'live', cuts: 0, resumes: 0 });
  });

  it('reads history only when the stream stands, and what it ended before', async () => {
    const all = [1, 2, 3, 4, 5].map((n) => event(n, START - 10_000 + n * 1_000));
    store.start();
    await world.pass(1_000);
    expect(world.queries).toEqual([]);
    world.history = all.slice(0, 2);
    world.streams[0]!.connect();
    await world.pass(1_000);
    world.history = all;
    world.streams[0]!.say(event(5, START - 5_000));
    await world.pass(1_000);
    expect(values()).toEqual([1, 2, 3, 4, 5]);
    expect(String(world.queries.at(-1))).toBe('channel=a&from=3&limit=50000&to=4');
    // A hole after that is a loss, and shows.
    world.streams[0]!.say(event(7, START - 3_000));
    await world.pass(1_000);
    expect(store.channel('a')).toMatchObject({ lost: 1, repeats: 0 });
  });

  it('drops the repeats of a resume and counts what never came', async () => {
    store.start();
    const stream = world.streams[0]!;
    stream.connect();
    for (const offset of [1, 2, 3]) stream.say(event(offset, START + offset), `id${offset}`);
    stream.cut();
    await world.pass(500);
    expect(store.link()).toMatchObject({ state: 'lost', cuts: 1 });
    stream.connect();
    for (const offset of [2, 3, 4, 6]) stream.say(event(offset, START + offset));
    await world.pass(500);
    expect(values()).toEqual([1, 2, 3, 4, 6]);
    expect(store.link()).toMatchObject({ state: 'live', cuts: 1, resumes: 1 });
    expect(store.channel('a')).toMatchObject({ repeats: 2, lost: 1 });
    expect(world.streams).toHaveLength(1);
  });

  it('takes over with the last id when the browser gives up', async () => {
    store.start();
    world.streams[0]!.connect();
    world.streams[0]!.say(event(1, START), 'mabc,1:1,-');
    world.streams[0]!.cut(true);
    await world.pass(2_000);
    expect(world.streams).toHaveLength(2);
    expect(world.streams[1]!.url).toBe('/v1/sse?channel=a&channel=b&since=mabc%2C1%3A1%2C-');
    // Refused again, then let in.
    world.streams[1]!.cut(true);
    await world.pass(2_000);
    world.streams[2]!.connect();
    await world.pass(200);
    expect(store.link()).toMatchObject({ state: 'live', cuts: 1, resumes: 1 });
  });

  it('fills a gap that the server names from the store on disk', async () => {
    store.start();
    const stream = world.streams[0]!;
    stream.connect();
    stream.say(event(1, START));
    await world.pass(10);
    world.history = [1, 2, 3].map((n) => event(n, START + n));
    const gap = { shardcast: 'gap', channel: 'a', reason: 'expired' };
    stream.say(gap, '', 'shardcast.gap');
    stream.say(event(4, START + 4));
    await world.pass(200);
    expect(values()).toEqual([1, 2, 3, 4]);
    expect(store.channel('a')).toMatchObject({ gaps: 1, gapReason: 'expired', lost: 0 });
  });

  it('starts over when a channel was re-created, but not when only the lineage changed', async () => {
    store.start();
    const stream = world.streams[0]!;
    stream.connect();
    stream.say(event(7, START));
    stream.say(event(8, START + 1, { epoch: '0000000200000001' }));
    await world.pass(200);
    expect(values()).toEqual([7, 8]);
    stream.say(event(1, START + 2, { epoch: '0000000200000002' }));
    await world.pass(200);
    expect(values()).toEqual([1]);
    expect(store.channel('a')).toMatchObject({ lost: 0, repeats: 0 });
    expect(store.channel('a').latest?.offset).toBe(1);
  });

  it('survives what is not an event', async () => {
    store.start();
    const stream = world.streams[0]!;
    stream.connect();
    const bad = ['', '{', 'null', '[]', '{"channel":"a"}', '"text"', event(0, START), event(1.5, START)];
    for (const text of bad) stream.say(text);
    stream.say({ ...event(1, START), channel: 'unknown' });
    for (const text of bad) stream.say(text, '', 'shardcast.gap');
    await world.pass(200);
    expect(store.channel('a')).toMatchObject({ latest: undefined, lost: 0, gaps: 0 });
  });

  it('goes on live when history is away', async () => {
    world.historyIsDown = true;
    store.start();
    world.streams[0]!.connect();
    world.streams[0]!.say(event(9, START));
    await world.pass(200);
    expect(values()).toEqual([9]);
    expect(store.channel('a').filling).toBe(false);
  });

  it('keeps five minutes, and more on demand until told otherwise', async () => {
    world.history = Array.from({ length: 600 }, (_, n) => event(n + 1, START - (600 - n) * 1_000));
    store.start();
    world.streams[0]!.connect();
    await world.pass(200);
    expect(values()?.[0]).toBe(301);
    await store.older('a', 200);
    await world.pass(200);
    expect(values()?.[0]).toBe(101);
    expect(world.queries.at(-1)?.get('from')).toBe('101');
    expect(world.queries.at(-1)?.get('to')).toBe('300');
    await store.older('a', 200);
    await world.pass(200);
    expect(values()).toHaveLength(600);
    expect(store.channel('a').complete).toBe(true);
    store.recent('a');
    await world.pass(WINDOW_MS / 2);
    expect(values()?.[0]).toBe(302);
    world.streams[0]!.say(event(601, world.time));
    await world.pass(200);
    expect(values()?.[0]).toBe(446);
    expect(store.channel('a').lost).toBe(0);
  });

  it('gives back what left the window when it is asked for', async () => {
    world.history = Array.from({ length: 400 }, (_, n) => event(n + 1, START + n * 1_000));
    store.start();
    const stream = world.streams[0]!;
    stream.connect();
    await world.pass(100);
    await store.older('a', 300);
    expect(store.channel('a').complete || values()?.[0] === 1).toBe(true);
    for (const past of world.history) {
      world.time = Date.parse(past.time);
      stream.say(past);
    }
    await world.pass(200);
    expect(values()?.[0]).toBe(95);
    expect(store.channel('a').complete).toBe(false);
    await store.older('a', 300);
    await world.pass(200);
    expect(values()).toEqual(world.history.map(({ offset }) => offset));
    expect(store.channel('a')).toMatchObject({ complete: true, lost: 0 });
  });

  it('tells listeners in batches, with snapshots that stay the same in between', async () => {
    let told = 0;
    store.subscribe(() => void (told += 1));
    store.start();
    await world.pass(1_000);
    told = 0;
    const before = store.channel('a');
    world.streams[0]!.connect();
    for (let offset = 1; offset <= 50; offset += 1) world.streams[0]!.say(event(offset, world.time));
    expect(store.channel('a')).toBe(before);
    await world.pass(1_000);
    expect(told).toBe(1);
    expect(store.channel('a').latest?.offset).toBe(50);
    expect(store.channel('b')).toBe(store.channel('b'));
  });

  it('says nothing while the page is hidden, and everything when it is back', async () => {
    let told = 0;
    store.start();
    await world.pass(1_000);
    store.subscribe(() => void (told += 1));
    world.isHidden = true;
    world.streams[0]!.say(event(1, world.time));
    await world.pass(10_000);
    expect(told).toBe(0);
    world.isHidden = false;
    await world.pass(1_000);
    expect(told).toBe(1);
    expect(store.channel('a').latest?.offset).toBe(1);
  });

  it('measures age on its own clock, whatever the server’s clock says', async () => {
    store.start();
    world.streams[0]!.connect();
    const behind = 3_600_000;
    world.streams[0]!.say(event(1, world.time - behind));
    await world.pass(1_000);
    world.streams[0]!.say(event(2, world.time - behind - 200));
    await world.pass(500);
    // The second event took 200 ms longer than the first: that much of its age is real.
    expect(world.time - store.channel('a').madeAt!).toBe(700);
  });
});
