/** The forms in which events are kept: columns sorted by time, as uPlot takes them. */
import { isRecord } from './envelope';
import type { Envelope } from './envelope';
import type { Model } from './store';

/** A value per line and event. Times in seconds. */
export class Series implements Model {
  #times: number[] = [];
  #columns: (number | null)[][];
  #read: (data: Record<string, unknown>) => (number | null)[];

  /** `read` takes the values of all lines out of an event's data. */
  constructor(lines: number, read: (data: Record<string, unknown>) => (number | null)[]) {
    this.#columns = Array.from({ length: lines }, () => []);
    this.#read = read;
  }

  add(event: Envelope, time: number): void {
    if (!isRecord(event.data)) return;
    const values = this.#read(event.data);
    // A feed may have more lines than were expected (cores): they start where they first appear.
    while (this.#columns.length < values.length) this.#columns.push(this.#times.map(() => null));
    const at = place(this.#times, time / 1_000);
    this.#times.splice(at, 0, time / 1_000);
    this.#columns.forEach((column, line) => column.splice(at, 0, values[line] ?? null));
  }

  trim(before: number): void {
    const count = older(this.#times, before / 1_000);
    if (count === 0) return;
    this.#times.splice(0, count);
    for (const column of this.#columns) column.splice(0, count);
  }

  clear(): void {
    this.#times = [];
    this.#columns = this.#columns.map(() => []);
  }

  get times(): readonly number[] {
    return this.#times;
  }

  get columns(): readonly (readonly (number | null)[])[] {
    return this.#columns;
  }
}

/** A purchase of the replayed stream. */
export interface Order {
  n: number;
  customer: number;
  day: string;
  cds: number;
  usd: number;
}

/** Purchases, summed per second, and the newest ones as they are. */
export class Orders implements Model {
  #seconds: number[] = [];
  #counts: number[] = [];
  #usd: number[] = [];
  #newest: { offset: number; order: Order }[] = [];
  static readonly NEWEST_MAX = 8;

  add(event: Envelope, time: number): void {
    const order = asOrder(event.data);
    if (!order) return;
    const second = Math.floor(time / 1_000);
    const after = place(this.#seconds, second);
    const at = this.#seconds[after - 1] === second ? after - 1 : after;
    if (at === after) {
      this.#seconds.splice(at, 0, second);
      this.#counts.splice(at, 0, 0);
      this.#usd.splice(at, 0, 0);
    }
    this.#counts[at]! += 1;
    this.#usd[at]! += order.usd;
    const newest = this.#newest.findIndex((other) => other.offset < event.offset);
    const rank = newest === -1 ? this.#newest.length : newest;
    if (rank >= Orders.NEWEST_MAX) return;
    this.#newest = this.#newest.toSpliced(rank, 0, { offset: event.offset, order });
    this.#newest.length = Math.min(this.#newest.length, Orders.NEWEST_MAX);
  }

  trim(before: number): void {
    const count = older(this.#seconds, before / 1_000);
    for (const column of [this.#seconds, this.#counts, this.#usd]) column.splice(0, count);
  }

  clear(): void {
    this.#seconds = [];
    this.#counts = [];
    this.#usd = [];
    this.#newest = [];
  }

  /** The second that runs is left out: its bar would always be too short. */
  columns(): [times: number[], counts: number[], usd: number[]] {
    const end = Math.max(0, this.#seconds.length - 1);
    return [this.#seconds.slice(0, end), this.#counts.slice(0, end), this.#usd.slice(0, end)];
  }

  get newest(): readonly { offset: number; order: Order }[] {
    return this.#newest;
  }
}

function asOrder(data: unknown): Order | undefined {
  if (!isRecord(data)) return undefined;
  const numbers = ['n', 'customer', 'cds', 'usd'].every((name) => typeof data[name] === 'number');
  return numbers && typeof data['day'] === 'string' ? (data as unknown as Order) : undefined;
}

/** How many times are before a time. */
function older(times: readonly number[], time: number): number {
  const kept = times.findIndex((other) => other >= time);
  return kept === -1 ? times.length : kept;
}

/** The index after the last time that is not later, found from the end: most events are new. */
function place(times: readonly number[], time: number): number {
  const last = times.at(-1);
  if (last === undefined || last <= time) return times.length;
  let low = 0;
  let high = times.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (times[middle]! <= time) low = middle + 1;
    else high = middle;
  }
  return low;
}
