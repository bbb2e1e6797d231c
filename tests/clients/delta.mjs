// The `fossil-delta` package, whose `applyDelta` centrifuge-js carries. Reads a JSON array of
// [base, target, delta or null] from a file, applies each delta and compares; writes the package's
// own deltas as a JSON array of hexadecimal strings.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { applyDelta, applyStringDelta, createDelta } from "fossil-delta";

const pairs = JSON.parse(readFileSync(process.argv[2], "utf8"));
const bytes = (text) => new TextEncoder().encode(text);
const own = pairs.map(([base, target, delta]) => {
  if (delta !== null) {
    assert.equal(applyStringDelta(base, delta), target);
    assert.deepEqual(applyDelta(bytes(base), bytes(delta)), bytes(target));
  }
  return Buffer.from(createDelta(bytes(base), bytes(target))).toString("hex");
});
console.log(JSON.stringify(own));
