import { describe, expect, it } from 'vitest';
import { isClean, verdictLine } from './demo';
import type { Verdict } from './demo';
import { age, bytes, count, day, dollars, freshness, milliseconds } from './format';

describe('numbers for people', () => {
  it.each([
    [bytes(0), '0 B'],
    [bytes(812), '812 B'],
    [bytes(1_023), '1023 B'],
    [bytes(1_024), '1.0 KiB'],
    [bytes(42_189), '41.2 KiB'],
    [bytes(500 * 1_024), '500 KiB'],
    [bytes(1.7 * 2 ** 30), '1.7 GiB'],
    [bytes(-2_048), '-2.0 KiB'],
    [count(5_000), '5,000'],
    [count(0.4), '0'],
    [milliseconds(0.44), '0.4 ms'],
    [milliseconds(123.4), '123 ms'],
    [milliseconds(1_240), '1.24 s'],
    [age(-50), '0.0 s'],
    [age(4_200), '4.2 s'],
    [age(9_960), '9 s'],
    [age(59_999), '59 s'],
    [age(200_000), '3 min 20 s'],
    [age(3_900_000), '1 h 5 min'],
    [day('1997-03-26'), '26 Mar 1997'],
    [day('nonsense'), 'nonsense'],
    [dollars(42.9), '$42.90'],
    [dollars(1_071.714), '$1,071.71'],
  ])('%s', (text, expected) => {
    expect(text).toBe(expected);
  });
});

describe('freshness', () => {
  it.each([
    [undefined, 'none'],
    [0, 'fresh'],
    [2_999, 'fresh'],
    [3_000, 'late'],
    [9_999, 'late'],
    [10_000, 'stale'],
  ])('%s ms is %s', (ms, expected) => {
    expect(freshness(ms)).toBe(expected);
  });
});

describe('the verdict', () => {
  const clean: Verdict = {
    kill: 1, resumed: 5_000, of: 5_000, lost: 0, doubled: 0, gaps: 0, acknowledged: 1_284, missing: 0,
    stored_twice: 0, listening_ms: 400, resumed_ms: 3_100, finished: true,
  };

  it('is said in one line', () => {
    const line = 'resumed 5,000 of 5,000, lost 0, doubled 0, acknowledged = stored';
    expect(verdictLine(clean, count)).toBe(line);
    expect(isClean(clean)).toBe(true);
  });

  it.each([
    [{ resumed: 4_999 }, 'resumed 4,999 of 5,000, lost 0, doubled 0, acknowledged = stored'],
    [{ lost: 3 }, 'resumed 5,000 of 5,000, lost 3, doubled 0, acknowledged = stored'],
    [{ doubled: 1 }, 'resumed 5,000 of 5,000, lost 0, doubled 1, acknowledged = stored'],
    [{ missing: 2 }, 'resumed 5,000 of 5,000, lost 0, doubled 0, acknowledged ≠ stored (2 missing, 0 twice)'],
    [{ stored_twice: 1 }, 'resumed 5,000 of 5,000, lost 0, doubled 0, acknowledged ≠ stored (0 missing, 1 twice)'],
    [{ finished: false }, 'resumed 5,000 of 5,000, lost 0, doubled 0, acknowledged = stored'],
  ])('never hides %o', (change, line) => {
    const verdict = { ...clean, ...change };
    expect(verdictLine(verdict, count)).toBe(line);
    expect(isClean(verdict)).toBe(false);
  });
});
