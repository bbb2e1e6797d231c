/** Numbers and times for people. Fixed locale: tests, screenshots and the log agree. */

const whole = new Intl.NumberFormat('en-US', { maximumFractionDigits: 0 });

/** 5,000 */
export function count(value: number): string {
  return whole.format(value);
}

/** 812 B, 41.2 KiB, 1.7 GiB: three digits that mean something. */
export function bytes(value: number): string {
  let rest = Math.abs(value);
  let power = 0;
  while (rest >= 1_024 && power < UNITS.length - 1) {
    rest /= 1_024;
    power += 1;
  }
  const text = power === 0 || rest >= 100 ? rest.toFixed(0) : rest.toFixed(1);
  return `${value < 0 ? '-' : ''}${text} ${UNITS[power]}`;
}

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];

/** 0.4 ms, 12.3 ms, 1.24 s */
export function milliseconds(value: number): string {
  if (value >= 1_000) return `${(value / 1_000).toFixed(2)} s`;
  return `${value >= 100 ? value.toFixed(0) : value.toFixed(1)} ms`;
}

/** 0.4 s, 12 s, 3 min 20 s: how long ago. */
export function age(ms: number): string {
  const seconds = Math.max(0, ms) / 1_000;
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.floor(seconds % 60)} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

const cents = new Intl.NumberFormat('en-US', { style: 'currency', currency: 'USD' });

/** $1,042.96 */
export function dollars(value: number): string {
  return cents.format(value);
}

/** 26 Mar 1997, from 1997-03-26 */
export function day(text: string): string {
  const time = Date.parse(`${text}T00:00:00Z`);
  if (Number.isNaN(time)) return text;
  const parts = { day: 'numeric', month: 'short', year: 'numeric', timeZone: 'UTC' } as const;
  return new Intl.DateTimeFormat('en-GB', parts).format(time);
}

/** How old a metric is, as a word for styling and for screen readers. */
export type Freshness = 'none' | 'fresh' | 'late' | 'stale';

/** Feeds send once a second: one missing beat is jitter, three are not. */
export const LATE_MS = 3_000;
export const STALE_MS = 10_000;

export function freshness(ageMs: number | undefined): Freshness {
  if (ageMs === undefined) return 'none';
  if (ageMs >= STALE_MS) return 'stale';
  return ageMs >= LATE_MS ? 'late' : 'fresh';
}
