// The bench: rows × columns on one adapter in one process, in Node or in a browser's worker. Each output is checked
// against the plain twin before its column is timed. What differs between the two stands behind `host` (lib/node.mjs,
// browser/worker.mjs).
import { ceiling, shareOfPeak } from './ceiling.mjs';
import { clipReference } from './clip.mjs';
import { columns as engineColumns } from './engine.mjs';
import { makeInputs } from './inputs.mjs';
import { interleave } from './lib/time.mjs';
import { ortWasm, ortWebGpu } from './ort.mjs';
import { raw } from './raw.mjs';
import { compare, reference } from './reference.mjs';
import { isSmall, onCpu, rows } from './rows.mjs';
import { printRow, printSummary, printTitle } from './table.mjs';

/** Errors allowed: relative L2 norm; the largest single one may be ten times that of the outputs' RMS. */
const TOLERANCE = { f32: 1e-4, f16: 1e-2 };
/** A row larger than this is not asked of a processor, GFLOP, be it a software adapter or the CPU path. */
const MOST_ON_CPU = 5;

/**
 * @param options rows, columns: regular expressions; small, gpu, cpu: booleans; repeats, maxGflop, seconds: numbers
 * @param save called with the result after every row, so that an interrupted run leaves what it had
 * @returns true if no cell was wrong and none failed
 */
export async function bench(options, host, save) {
  const repeats = options.repeats ?? (options.small ? 1 : 5);
  const timing = { repeats, atLeastMs: options.small ? 1 : 60, mostMs: 1000 * (options.seconds ?? 20) };
  const gpu = options.gpu ? await host.openGpu() : undefined;
  const asked = rows.filter((row) => new RegExp(options.rows).test(row.name) && (!options.small || isSmall(row)));
  const wanted = (columns) => columns.filter(({ name }) => new RegExp(options.columns).test(name));
  const result = {
    adapter: gpu && { ...gpu.info, software: gpu.software, f16: gpu.hasF16 },
    cpu: host.cpu, cores: host.cores, date: new Date().toISOString(), command: options.command, versions: host.versions,
    repeats,
    tables: {},
  };
  if (gpu) {
    host.print(`adapter ${Object.values(gpu.info).filter(Boolean).join(' · ')}`);
    const peaks = await ceiling(gpu);
    const ort = host.ort ? [await ortWebGpu(host, gpu, 'f32'), await ortWebGpu(host, gpu, 'f16')] : [];
    const columns = wanted([...(await engineColumns(host, 'gpu', gpu)), raw(gpu), ...ort]);
    const most = options.maxGflop ?? (gpu.software ? MOST_ON_CPU : Infinity);
    await table('gpu', `WebGPU on ${gpu.info.description || gpu.info.device || gpu.info.architecture}`, asked, most, columns, peaks);
  }
  if (options.cpu) {
    const columns = wanted([...(await engineColumns(host, 'cpu')), ...(host.ort ? [await ortWasm(host)] : [])]);
    await table('cpu', 'CPU in wasm, one thread', asked.filter(onCpu), options.maxGflop ?? MOST_ON_CPU, columns);
  }
  return !Object.values(result.tables).some(({ rows }) => rows.some(({ cells }) => Object.values(cells).some(({ wrong, failed }) => wrong || failed)));

  /** Measures and prints a whole table. */
  async function table(key, title, list, most, columns, peaks) {
    // the clip stands for itself, whatever its size
    const fits = (row) => row.flops <= most * 1e9 || row.group === 'clip';
    const made = { title, peaks, most: Number.isFinite(most) ? most : null, columns: columns.map(({ name, type }) => ({ name, type })), rows: [], leftOut: [] };
    made.leftOut = list.filter((row) => !fits(row)).map(({ name, flops }) => ({ name, gflop: flops / 1e9 }));
    result.tables[key] = made;
    printTitle(host, made);
    for (const row of list.filter(fits)) {
      const measured = { name: row.name, group: row.group, gflop: row.flops / 1e9, megabytes: row.bytes(4) / 1e6, cells: await cellsOf(row, columns, peaks, { host, gpu, timing }) };
      made.rows.push(measured);
      printRow(host, made, measured);
      save(result);
    }
    printSummary(host, made);
    save(result);
  }
}

async function cellsOf(row, columns, peaks, { host, gpu, timing }) {
  const inputs = makeInputs(row);
  const expected = row.kind === 'clip' ? await clipReference(host, row) : reference(row, inputs);
  const cells = {};
  const ready = [];
  for (const { name, type, prepare } of columns) {
    const tolerance = row.tolerance ?? TOLERANCE[type];
    const right = (output) => {
      const { relative, largest } = compare(expected, output);
      // so written that NaN is wrong
      return { relative, largest, right: relative <= tolerance && largest <= 10 * tolerance, words: `relative error ${relative.toExponential(1)}, largest ${largest.toExponential(1)}` };
    };
    const before = gpu?.memory.now;
    const cell = (cells[name] = {});
    try {
      const prepared = await prepare(row, inputs, { right });
      if (prepared.tried) cell.tried = prepared.tried;
      if (prepared.skipped) {
        cell.skipped = prepared.skipped;
        continue;
      }
      gpu?.memory.mark();
      await prepared.run();
      const { words, ...verdict } = right(await prepared.read());
      Object.assign(cell, { note: prepared.note, error: verdict.relative });
      if (peaks) cell.gpuMegabytes = (gpu.memory.peak - before) / 1e6;
      const failed = gpu?.errors.splice(0) ?? [];
      if (verdict.right && !failed.length) ready.push({ cell, type, prepared });
      else {
        cell.wrong = failed[0] ?? words;
        await prepared.dispose();
      }
    } catch (error) {
      cell.failed = String(error?.message ?? error).slice(0, 500);
    }
    gpu?.errors.splice(0);
  }
  const times = await interleave(ready.map(({ prepared }) => prepared), timing);
  for (const [i, { cell, type, prepared }] of ready.entries()) {
    Object.assign(cell, times[i], { gflops: row.flops / times[i].ms / 1e6 }, prepared.facts?.());
    if (peaks) Object.assign(cell, shareOfPeak(row, times[i].ms, type, peaks));
    await prepared.dispose();
  }
  return cells;
}
