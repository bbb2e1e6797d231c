/** What the demo's supervisor says about itself, and the button it listens to. */
import { isRecord } from './stream/envelope';

export const STATUS = 'demo:status';
export const STATS = 'demo:stats';
const BUTTON = 'demo:button';

export type Phase = 'starting' | 'running' | 'killed' | 'resuming';

/** The outcome of one kill: everything in it was counted. */
export interface Verdict {
  kill: number;
  /** Clients that came back and were given what they had missed, of those that were cut. */
  resumed: number;
  of: number;
  lost: number;
  doubled: number;
  gaps: number;
  /** Events the feeds were told are durable, and how the store's copy compares. */
  acknowledged: number;
  missing: number;
  stored_twice: number;
  /** From the kill until the port was open, and until the last client was back, in ms. */
  listening_ms: number;
  resumed_ms: number;
  /** False when not everybody was back in time. */
  finished: boolean;
}

export interface Status {
  phase: Phase;
  pid: number;
  clients: number;
  kills: number;
  resumed: number;
  of: number;
  verdicts: Verdict[];
  feeds: { system: string; orders: string };
}

export interface Peer {
  connected: boolean;
  queued_bytes: number;
  queued_events: number;
  dropped_events: number;
  behind: number;
  latency_ms: number | null;
  cuts: number;
}

export interface Stats {
  connections: number;
  connection_bytes: number | null;
  resident_bytes: number;
  deliveries_per_s: number;
  p50_ms: number | null;
  p99_ms: number | null;
  lost: number;
  doubled: number;
  engine: string;
  shards: number;
  outbox_bytes_max: number;
  slow_bytes_per_s: number;
  fast: Peer;
  slow: Peer;
}

export function asStatus(data: unknown): Status | undefined {
  return isRecord(data) && typeof data['phase'] === 'string' ? (data as unknown as Status) : undefined;
}

export function asStats(data: unknown): Stats | undefined {
  const known = isRecord(data) && typeof data['connections'] === 'number';
  return known && isRecord(data['fast']) && isRecord(data['slow'])
    ? (data as unknown as Stats)
    : undefined;
}

/**
 * Presses the button. It is an event like any other: the supervisor subscribes to its channel. So
 * the server's own rules decide who may press (loopback names and origins only), and no second
 * port has to be guarded.
 */
export async function pressKill(): Promise<void> {
  const answer = await fetch(`/v1/channels/${BUTTON}/events`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ id: pressId(), type: 'kill', data: { signal: 9 } }),
  });
  if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
}

function pressId(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => byte.toString(16)).join('');
}

/** The line that says it all. */
export function verdictLine(verdict: Verdict, count: (value: number) => string): string {
  const { resumed, of, lost, doubled, missing, stored_twice: twice } = verdict;
  const stored =
    missing === 0 && twice === 0
      ? 'acknowledged = stored'
      : `acknowledged ≠ stored (${count(missing)} missing, ${count(twice)} twice)`;
  return `resumed ${count(resumed)} of ${count(of)}, lost ${count(lost)}, doubled ${count(doubled)}, ${stored}`;
}

/** Nothing lost, nothing doubled, everybody back. */
export function isClean(verdict: Verdict): boolean {
  const { resumed, of, lost, doubled, missing, stored_twice: twice, finished } = verdict;
  return finished && resumed === of && lost + doubled + missing + twice === 0;
}
