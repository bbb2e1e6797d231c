/**
 * One EventSource over several channels, as an external store for React.
 *
 * The browser reconnects and resumes by itself (Last-Event-ID). What is added here: events are
 * counted by offset, so that repeats are dropped and holes are known; history is merged into the
 * same order without a hole, because the stream is opened before history is read; and when the
 * browser gives up, the stream is opened again from the last id. Listeners are told at most a few
 * times per second, and not at all while the page is hidden.
 *
 * Deliberately absent: React (see `hooks.ts`) and what events mean (see `models.ts`).
 */
import { asEnvelope, incarnation, isRecord, parseControl, parseEnvelope } from './envelope';
import type { Control, Envelope } from './envelope';
import { Seen } from './seen';

/** The part of EventSource that is used; tests bring their own. */
export interface Source {
  readonly readyState: number;
  onopen: (() => void) | null;
  onerror: (() => void) | null;
  addEventListener(type: string, listener: (event: { data: string; lastEventId: string }) => void): void;
  close(): void;
}

/** The world around the store. */
export interface Outside {
  open(url: string): Source;
  fetch(url: string): Promise<{ ok: boolean; status: number; json(): Promise<unknown> }>;
  now(): number;
  /** Runs something later and returns what undoes that. */
  later(run: () => void, ms: number): () => void;
  random(): number;
  hidden(): boolean;
}

/** What keeps a channel's events in the form that is drawn. */
export interface Model {
  /** Takes an event; older ones may come after newer ones. */
  add(event: Envelope, time: number): void;
  /** Forgets what is older than a time, in ms. */
  trim(before: number): void;
  /** Forgets everything. */
  clear(): void;
}

/** The connection, immutable. */
export interface Link {
  state: 'connecting' | 'live' | 'lost';
  /** When the state began. */
  since: number;
  /** Times the stream was cut. */
  cuts: number;
  /** Times it came back. */
  resumes: number;
}

/** A channel, immutable; replaced when something arrived. */
export interface Channel {
  version: number;
  latest: Envelope | undefined;
  /** When the latest event was made, on this browser's clock. */
  madeAt: number | undefined;
  /** Offsets that never arrived. */
  lost: number;
  /** Events that arrived again and were dropped. */
  repeats: number;
  /** Gaps the server named, with the last reason. */
  gaps: number;
  gapReason: string | undefined;
  /** History is being fetched. */
  filling: boolean;
  /** There is no older history. */
  complete: boolean;
}

/** How long events are kept when nobody asked for more. */
export const WINDOW_MS = 5 * 60_000;
const NOTIFY_MS = 120;
const RETRY_MS = 1_000;
const HISTORY_LIMIT = 50_000;
const CLOSED = 2;

const NO_EVENTS: Channel = {
  version: 0,
  latest: undefined,
  madeAt: undefined,
  lost: 0,
  repeats: 0,
  gaps: 0,
  gapReason: undefined,
  filling: false,
  complete: false,
};

interface Track {
  /** What is known now. */
  view: Channel;
  /** What listeners were last told of: what React renders, stable between two notifications. */
  told: Channel;
  model: Model | undefined;
  seen: Seen;
  /** Offset and time of what the model holds, in the order of offsets. */
  held: { offset: number; time: number }[];
  incarnation: string | undefined;
  /** Server clock to this browser's: the smallest difference seen, so that latency is left out. */
  skew: number;
  latestTime: number;
  window: number;
  /** The first live event, until history has been joined to it. */
  joinedAt: number | 'not yet' | 'joined';
}

export class LiveStore {
  #outside: Outside;
  #tracks = new Map<string, Track>();
  #listeners = new Set<() => void>();
  #link: Link;
  #toldLink: Link;
  #source: Source | undefined;
  #lastEventId = '';
  #cancelRetry: (() => void) | undefined;
  #notifying = false;

  constructor(channels: Record<string, Model | undefined>, outside: Outside = browser()) {
    this.#outside = outside;
    this.#link = { state: 'connecting', since: outside.now(), cuts: 0, resumes: 0 };
    this.#toldLink = this.#link;
    for (const [name, model] of Object.entries(channels)) {
      this.#tracks.set(name, {
        view: NO_EVENTS,
        told: NO_EVENTS,
        model,
        seen: new Seen(),
        held: [],
        incarnation: undefined,
        skew: Infinity,
        latestTime: -Infinity,
        joinedAt: 'not yet',
        window: WINDOW_MS,
      });
    }
  }

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  readonly link = (): Link => this.#toldLink;

  /** The snapshot of a channel: the same object until something changes. */
  channel(name: string): Channel {
    return this.#tracks.get(name)?.told ?? NO_EVENTS;
  }

  /** Opens the stream; the window behind it is filled once it stands, or what happens in between
   * would be in neither. */
  start(): void {
    this.#connect();
  }

  stop(): void {
    this.#cancelRetry?.();
    this.#source?.close();
    this.#source = undefined;
  }

  /** Fetches so many events before the oldest one that is here. */
  async older(name: string, count: number): Promise<void> {
    const track = this.#tracks.get(name);
    if (!track || track.view.filling || track.view.complete) return;
    const first = track.seen.first;
    if (first === undefined || first <= 1) return this.#update(track, { complete: true });
    // By offset, not by time: the server may have been off for an hour.
    const from = Math.max(1, first - count);
    track.window = Infinity;
    const oldest = await this.#fetchHistory(name, track, String(from), String(first - 1));
    track.window = this.#outside.now() - (oldest ?? 0);
    if (oldest === undefined || from === 1) this.#update(track, { complete: true });
  }

  /** Back to the window that is kept without asking. */
  recent(name: string): void {
    const track = this.#tracks.get(name);
    if (!track) return;
    track.window = WINDOW_MS;
    // What is dropped from the model is asked for again when it is wanted again.
    forgetAll(track);
    this.#update(track, { complete: false });
    void this.#fillWindow(name);
  }

  #connect(): void {
    const query = [...this.#tracks.keys()].map((name) => `channel=${encodeURIComponent(name)}`);
    if (this.#lastEventId !== '') query.push(`since=${encodeURIComponent(this.#lastEventId)}`);
    const source = this.#outside.open(`/v1/sse?${query.join('&')}`);
    this.#source = source;
    source.onopen = () => this.#opened();
    source.onerror = () => this.#cut(source);
    source.addEventListener('message', (event) => this.#message(event));
    for (const kind of ['gap', 'recovered', 'notice']) {
      source.addEventListener(`shardcast.${kind}`, (event) => this.#control(parseControl(event.data)));
    }
  }

  #opened(): void {
    if (this.#link.state === 'connecting') {
      for (const name of this.#tracks.keys()) void this.#fillWindow(name);
    }
    const resumes = this.#link.cuts > 0 ? this.#link.resumes + 1 : 0;
    this.#link = { ...this.#link, state: 'live', since: this.#outside.now(), resumes };
    this.#notify();
  }

  #cut(source: Source): void {
    if (this.#link.state === 'live') {
      const cuts = this.#link.cuts + 1;
      this.#link = { ...this.#link, state: 'lost', since: this.#outside.now(), cuts };
      this.#notify();
    }
    // CONNECTING: the browser is at it. CLOSED: it gave up (after an HTTP error), so we take over.
    if (source.readyState !== CLOSED || this.#source !== source) return;
    source.close();
    this.#cancelRetry?.();
    const delay = RETRY_MS * (0.5 + this.#outside.random());
    this.#cancelRetry = this.#outside.later(() => this.#connect(), delay);
  }

  #message(message: { data: string; lastEventId: string }): void {
    if (message.lastEventId !== '') this.#lastEventId = message.lastEventId;
    const event = parseEnvelope(message.data);
    const track = event && this.#tracks.get(event.channel);
    if (!track) return;
    const isNew = this.#take(track, event, true);
    const { view } = track;
    const repeats = view.repeats + (isNew ? 0 : 1);
    this.#update(track, { repeats });
    if (track.joinedAt === 'not yet') {
      track.joinedAt = event.offset;
      if (!view.filling) void this.#join(event.channel, track);
    }
  }

  /** Counts an event and gives it to the model. False: it was there already. */
  #take(track: Track, event: Envelope, live: boolean): boolean {
    const own = incarnation(event.epoch);
    if (track.incarnation !== own) {
      if (track.incarnation !== undefined) {
        forgetAll(track);
        track.latestTime = -Infinity;
      }
      track.incarnation = own;
    }
    if (!track.seen.add(event.offset)) return false;
    const time = madeAt(event);
    if (live) track.skew = Math.min(track.skew, this.#outside.now() - time);
    hold(track, event.offset, time);
    track.model?.add(event, time);
    if (time >= track.latestTime) {
      track.latestTime = time;
      track.view = { ...track.view, latest: event };
    }
    return true;
  }

  #control(control: Control | undefined): void {
    if (control?.shardcast !== 'gap') return;
    const track = this.#tracks.get(control.channel);
    if (!track) return;
    this.#update(track, { gaps: track.view.gaps + 1, gapReason: control.reason });
    // What the stream cannot give any more, the store on disk may still have.
    void this.#fillWindow(control.channel);
  }

  async #fillWindow(name: string): Promise<void> {
    const track = this.#tracks.get(name);
    if (!track) return;
    const from = new Date(this.#outside.now() - Math.min(track.window, WINDOW_MS));
    await this.#fetchHistory(name, track, from.toISOString(), undefined);
    await this.#join(name, track);
  }

  /** History is read from disk and may end before the first live event begins. */
  async #join(name: string, track: Track): Promise<void> {
    if (typeof track.joinedAt !== 'number' || track.view.filling) return;
    const hole = track.seen.holeBefore(track.joinedAt);
    track.joinedAt = 'joined';
    if (hole) await this.#fetchHistory(name, track, String(hole[0]), String(hole[1]));
  }

  /** Merges a range of the store on disk; gives the time of the oldest event in it. */
  async #fetchHistory(
    name: string,
    track: Track,
    from: string,
    to: string | undefined,
  ): Promise<number | undefined> {
    this.#update(track, { filling: true });
    let oldest: number | undefined;
    try {
      const query = new URLSearchParams({ channel: name, from, limit: String(HISTORY_LIMIT) });
      if (to !== undefined) query.set('to', to);
      const answer = await this.#outside.fetch(`/v1/history?${query}`);
      const body = answer.ok ? await answer.json() : undefined;
      const events = isRecord(body) && Array.isArray(body['events']) ? body['events'] : [];
      for (const value of events) {
        const event = asEnvelope(value);
        if (event?.channel !== name) continue;
        this.#take(track, event, false);
        oldest = Math.min(oldest ?? Infinity, madeAt(event));
      }
    } catch {
      // The server is away or keeps no store. The stream goes on filling the window by itself.
    }
    this.#update(track, { filling: false });
    return oldest;
  }

  #update(track: Track, change: Partial<Channel>): void {
    // By whole seconds: what is summed per second leaves with all of its events.
    const before = Math.floor((this.#outside.now() - track.window) / 1_000 - 5) * 1_000;
    if (trim(track, before)) change = { complete: false, ...change };
    const skew = Number.isFinite(track.skew) ? track.skew : 0;
    track.view = {
      ...track.view,
      madeAt: Number.isFinite(track.latestTime) ? track.latestTime + skew : undefined,
      lost: track.seen.holes,
      ...change,
      version: track.view.version + 1,
    };
    this.#notify();
  }

  #notify(): void {
    if (this.#notifying) return;
    this.#notifying = true;
    const run = () => {
      if (this.#outside.hidden()) {
        this.#outside.later(run, 1_000);
        return;
      }
      this.#notifying = false;
      for (const track of this.#tracks.values()) track.told = track.view;
      this.#toldLink = this.#link;
      for (const listener of this.#listeners) listener();
    };
    this.#outside.later(run, NOTIFY_MS);
  }
}

function hold(track: Track, offset: number, time: number): void {
  let [low, high] = [0, track.held.length];
  if (high > 0 && track.held[high - 1]!.offset < offset) low = high;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (track.held[middle]!.offset < offset) low = middle + 1;
    else high = middle;
  }
  track.held.splice(low, 0, { offset, time });
}

/** Forgets what is older than a time, so that it can be asked for again. True if there was any. */
function trim(track: Track, before: number): boolean {
  const kept = track.held.findIndex(({ time }) => time >= before);
  const count = kept === -1 ? track.held.length : kept;
  if (count === 0) return false;
  track.held.splice(0, count);
  track.model?.trim(before);
  const first = track.held[0]?.offset;
  if (first !== undefined) track.seen.forget(first);
  return true;
}

function forgetAll(track: Track): void {
  track.seen.clear();
  track.held = [];
  track.model?.clear();
}

/** When an event was made: `t` of our feeds (ms), otherwise when the server took it. */
export function madeAt(event: Envelope): number {
  const t = isRecord(event.data) ? event.data['t'] : undefined;
  return typeof t === 'number' ? t : Date.parse(event.time);
}

function browser(): Outside {
  return {
    open: (url) => new EventSource(url) as unknown as Source,
    fetch: (url) => fetch(url, { cache: 'no-store' }),
    now: () => Date.now(),
    later: (run, ms) => {
      const timer = setTimeout(run, ms);
      return () => clearTimeout(timer);
    },
    random: () => Math.random(),
    hidden: () => document.hidden,
  };
}
