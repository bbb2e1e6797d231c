/** An event as the server wraps it for `format=envelope` and for streams of several channels. */
export interface Envelope {
  channel: string;
  /** Lineage of the data directory (8 hex digits), then the channel's incarnation (8). */
  epoch: string;
  offset: number;
  id?: string;
  type?: string;
  time: string;
  data: unknown;
}

/** What the server itself says inside a stream. */
export interface Control {
  shardcast: 'gap' | 'recovered' | 'notice' | 'subscribed';
  channel: string;
  reason?: string;
}

/** Parses an event. `undefined` for anything else: a page must survive whatever arrives. */
export function parseEnvelope(text: string): Envelope | undefined {
  return asEnvelope(parse(text));
}

/** Checks a value that should be an envelope. */
export function asEnvelope(value: unknown): Envelope | undefined {
  if (!isRecord(value)) return undefined;
  const { channel, epoch, offset, time } = value;
  if (typeof channel !== 'string' || typeof epoch !== 'string' || typeof time !== 'string') {
    return undefined;
  }
  if (typeof offset !== 'number' || !Number.isSafeInteger(offset) || offset < 1) return undefined;
  return value as unknown as Envelope;
}

/** Parses a control message. */
export function parseControl(text: string): Control | undefined {
  const value = parse(text);
  if (!isRecord(value) || typeof value['shardcast'] !== 'string') return undefined;
  return { channel: '', ...value } as Control;
}

/** The channel's incarnation: when it changes, offsets start again. */
export function incarnation(epoch: string): string {
  return epoch.slice(8);
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
