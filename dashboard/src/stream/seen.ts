/**
 * Which offsets of a channel have arrived, as disjoint runs. A healthy channel is one run, so this
 * costs a few numbers however long the page is open. It is what makes "lost" and "doubled" counts
 * instead of claims: an offset that is added twice was doubled, a hole between runs was lost.
 */
export class Seen {
  #runs: [first: number, last: number][] = [];
  /** Holes in what was forgotten. */
  #forgotten = 0;

  /** Adds an offset. False: it was there already. */
  add(offset: number): boolean {
    // Live events arrive at the end, so the search starts there.
    let at = this.#runs.length;
    while (at > 0 && this.#runs[at - 1]![0] > offset) at -= 1;
    const before = this.#runs[at - 1];
    const after = this.#runs[at];
    if (before && offset <= before[1]) return false;
    const joinsBefore = before !== undefined && before[1] === offset - 1;
    const joinsAfter = after !== undefined && after[0] === offset + 1;
    if (joinsBefore && joinsAfter) {
      before[1] = after[1];
      this.#runs.splice(at, 1);
    } else if (joinsBefore) {
      before[1] = offset;
    } else if (joinsAfter) {
      after[0] = offset;
    } else {
      this.#runs.splice(at, 0, [offset, offset]);
    }
    return true;
  }

  /** Offsets that are missing between the first and the last. */
  get holes(): number {
    let holes = this.#forgotten;
    for (let at = 1; at < this.#runs.length; at += 1) {
      holes += this.#runs[at]![0] - this.#runs[at - 1]![1] - 1;
    }
    return holes;
  }

  /** What is missing right before an offset that has arrived: the first and the last of it. */
  holeBefore(offset: number): [first: number, last: number] | undefined {
    const at = this.#runs.findIndex(([first, last]) => first <= offset && offset <= last);
    const before = this.#runs[at - 1];
    return before && [before[1] + 1, this.#runs[at]![0] - 1];
  }

  /** The lowest offset that has arrived. */
  get first(): number | undefined {
    return this.#runs[0]?.[0];
  }

  /** The highest offset that has arrived. */
  get last(): number | undefined {
    return this.#runs.at(-1)?.[1];
  }

  /** Forgets what is lower than an offset, but not what was missing there. It may be added again. */
  forget(below: number): void {
    const holes = this.holes;
    this.#runs = this.#runs
      .filter(([, last]) => last >= below)
      .map(([first, last]) => [Math.max(first, below), last]);
    this.#forgotten = 0;
    this.#forgotten = holes - this.holes;
  }

  /** Forgets everything: the channel was re-created and counts from 1 again. */
  clear(): void {
    this.#runs = [];
    this.#forgotten = 0;
  }
}
