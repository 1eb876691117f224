// Timing several implementations of the same work fairly on a machine that may be busy.

export const median = (values) => {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
};

/** Milliseconds of one run when `count` runs are submitted one after the other and waited for together. */
export async function measure(prepared, count) {
  const start = performance.now();
  for (let i = 0; i < count; i++) await prepared.run();
  await prepared.done?.();
  return (performance.now() - start) / count;
}

/**
 * Medians of several prepared implementations. Repeats go around the columns, so that a busy moment of the machine
 * hits all of them; short work is run several times within one measure, so that waiting for the queue (a fixed cost)
 * does not hide the differences. A column that has taken `mostMs` is measured no more: on software adapters a single
 * run can take a minute.
 */
export async function interleave(prepared, { repeats, atLeastMs = 60, mostRuns = 64, mostMs = Infinity }) {
  const counts = [];
  for (const one of prepared) {
    const first = await measure(one, 1); // pipelines, caches, allocations
    const once = first > mostMs / 4 ? first : await measure(one, 1);
    counts.push(Math.max(1, Math.min(mostRuns, Math.round(atLeastMs / once))));
  }
  const times = prepared.map(() => []);
  const spent = prepared.map(() => 0);
  for (let r = 0; r < repeats; r++) {
    for (let i = 0; i < prepared.length; i++) {
      const at = (i + r) % prepared.length; // nobody always runs after the same neighbour
      if (spent[at] > mostMs) continue;
      const ms = await measure(prepared[at], counts[at]);
      times[at].push(ms);
      spent[at] += ms * counts[at];
    }
  }
  return times.map((all, i) => ({ ms: median(all), least: Math.min(...all), most: Math.max(...all), runs: counts[i], repeats: all.length }));
}
