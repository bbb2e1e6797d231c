import { describe, expect, it } from 'vitest';
import { Seen } from './seen';

function check(offsets: number[]) {
  const seen = new Seen();
  const doubled = offsets.filter((offset) => !seen.add(offset));
  return { doubled, holes: seen.holes, first: seen.first, last: seen.last };
}

describe('Seen', () => {
  it.each([
    ['in order', [5, 6, 7], { doubled: [], holes: 0, first: 5, last: 7 }],
    ['a hole', [5, 6, 9], { doubled: [], holes: 2, first: 5, last: 9 }],
    ['a hole that is filled later', [5, 9, 7, 6, 8], { doubled: [], holes: 0, first: 5, last: 9 }],
    ['repeats at either end and inside', [5, 6, 7, 5, 7, 6], { doubled: [5, 7, 6], holes: 0, first: 5, last: 7 }],
    ['a repeat inside an early run', [1, 2, 3, 10, 2], { doubled: [2], holes: 6, first: 1, last: 10 }],
    ['history after live', [10, 11, 7, 8, 9, 10], { doubled: [10], holes: 0, first: 7, last: 11 }],
    ['nothing', [], { doubled: [], holes: 0, first: undefined, last: undefined }],
  ])('%s', (_, offsets, expected) => {
    expect(check(offsets)).toEqual(expected);
  });

  it('remembers what was missing in what it forgot, and takes that again', () => {
    const seen = new Seen();
    for (const offset of [1, 2, 5, 6, 7, 9]) seen.add(offset);
    seen.forget(6);
    expect(seen).toMatchObject({ holes: 3, first: 6, last: 9 });
    expect([5, 4, 5].map((offset) => seen.add(offset))).toEqual([true, true, false]);
    seen.forget(100);
    expect(seen).toMatchObject({ holes: 3, first: undefined });
    seen.clear();
    expect(seen.holes).toBe(0);
  });

  it('agrees with a set on every order of arrival', () => {
    const offsets = [1, 2, 3, 4, 6, 7];
    for (const order of permutations(offsets)) {
      expect(check([...order, ...order])).toEqual({ doubled: order, holes: 1, first: 1, last: 7 });
    }
  });
});

function permutations(items: number[]): number[][] {
  if (items.length < 2) return [items];
  return items.flatMap((item, at) =>
    permutations(items.toSpliced(at, 1)).map((rest) => [item, ...rest]),
  );
}
