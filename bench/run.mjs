// The bench: rows × columns on one adapter in one process. Each output is checked against the plain twin before its
// column is timed. Options: see `usage`.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus, loadavg } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { ceiling, shareOfPeak } from './ceiling.mjs';
import { makeInputs } from './inputs.mjs';
import { openGpu } from './lib/gpu.mjs';
import { interleave } from './lib/time.mjs';
import { ortVersion, ortWasm, ortWebGpu } from './ort.mjs';
import { raw } from './raw.mjs';
import { compare, reference } from './reference.mjs';
import { isSmall, onCpu, rows } from './rows.mjs';
import { printRow, printSummary, printTitle } from './table.mjs';

const usage = `node run.mjs [options]
  --driver NAME       lavapipe or swiftshader; otherwise VK_DRIVER_FILES or the system's own
  --rows REGEX        only rows whose name matches
  --columns REGEX     only columns whose name matches
  --small             only rows up to 0.2 GFLOP, one repeat: a smoke run
  --repeats N         measures per column, the median counts (5)
  --max-gflop N       leaves out larger rows (5 on software adapters, else no limit)
  --no-gpu, --no-cpu  leaves out one of the two tables
  --out FOLDER        where the JSON goes (results)`;

const { values: options } = parseArgs({
  options: {
    driver: { type: 'string' }, rows: { type: 'string', default: '' }, columns: { type: 'string', default: '' },
    small: { type: 'boolean', default: false }, repeats: { type: 'string' }, 'max-gflop': { type: 'string' },
    'no-gpu': { type: 'boolean', default: false }, 'no-cpu': { type: 'boolean', default: false },
    out: { type: 'string', default: join(import.meta.dirname, 'results') }, help: { type: 'boolean', default: false },
  },
});
if (options.help) {
  console.log(usage);
  process.exit(0);
}

/** Errors allowed: relative L2 norm; the largest single one may be ten times that of the outputs' RMS. */
const TOLERANCE = { f32: 1e-4, f16: 1e-2 };
const repeats = Number(options.repeats ?? (options.small ? 1 : 5));
const atLeastMs = options.small ? 1 : 60;

const gpu = await openGpu(options.driver);
const mostGflop = Number(options['max-gflop'] ?? (gpu.software ? 5 : Infinity));
const asked = rows.filter((row) => new RegExp(options.rows).test(row.name) && (!options.small || isSmall(row)));
const fits = (row) => row.flops <= mostGflop * 1e9;

const started = new Date();
const result = {
  adapter: { ...gpu.info, software: gpu.software, f16: gpu.hasF16 },
  cpu: cpus()[0]?.model, cores: cpus().length, date: started.toISOString(), command: process.argv.slice(2).join(' '),
  versions: { node: process.version, 'onnxruntime-web': ortVersion, webgpu: dawnVersion() },
  repeats, mostGflop: Number.isFinite(mostGflop) ? mostGflop : null,
  // how busy the machine was: times taken on a busy one compare within the table only
  load: { before: loadavg()[0] },
  tables: {},
};
const slug = (text) => text.toLowerCase().replace(/[^a-z0-9]+/g, '-').replace(/^-|-$/g, '').slice(0, 40);
const file = join(options.out, `${slug(/llvmpipe/.test(gpu.info.device) ? 'lavapipe' : gpu.info.device || gpu.info.description || gpu.info.vendor)}-${result.date.slice(0, 10)}.json`);
mkdirSync(options.out, { recursive: true });
const save = () => writeFileSync(file, `${JSON.stringify(result, null, 1)}\n`);

console.log(`adapter ${Object.values(gpu.info).filter(Boolean).join(' · ')}`);
// ours is attached here: engine.mjs exports `columns(gpu, 'gpu' | 'cpu')`
const engine = existsSync(join(import.meta.dirname, 'engine.mjs')) ? await import('./engine.mjs') : undefined;
const wanted = (columns) => columns.filter(({ name }) => new RegExp(options.columns).test(name));

if (!options['no-gpu']) {
  const peaks = await ceiling(gpu);
  const columns = wanted([...((await engine?.columns(gpu, 'gpu')) ?? []), raw(gpu), await ortWebGpu(gpu, 'f32'), await ortWebGpu(gpu, 'f16')]);
  await table('gpu', `WebGPU on ${gpu.info.description || gpu.info.device}`, asked, columns, peaks);
}
if (!options['no-cpu']) {
  const columns = wanted([...((await engine?.columns(gpu, 'cpu')) ?? []), await ortWasm()]);
  await table('cpu', 'CPU in wasm, one thread', asked.filter(onCpu), columns, undefined);
}
result.load.after = loadavg()[0];
save();
console.log(`\n${file}`);
process.exit(failures() ? 1 : 0); // Dawn never leaves by itself

/** Measures and prints a whole table; what is known so far is saved after each row. */
async function table(key, title, list, columns, peaks) {
  const made = { title, peaks, columns: columns.map(({ name, type }) => ({ name, type })), rows: [], leftOut: [] };
  result.tables[key] = made;
  made.leftOut = list.filter((row) => !fits(row)).map(({ name, flops }) => ({ name, gflop: flops / 1e9 }));
  printTitle(made);
  for (const row of list.filter(fits)) {
    const measured = { name: row.name, group: row.group, gflop: row.flops / 1e9, megabytes: row.bytes(4) / 1e6, cells: await cellsOf(row, columns, peaks) };
    made.rows.push(measured);
    printRow(made, measured);
    save();
  }
  printSummary(made);
  save();
}

async function cellsOf(row, columns, peaks) {
  const inputs = makeInputs(row);
  const expected = reference(row, inputs);
  const cells = {};
  const ready = [];
  for (const { name, type, prepare } of columns) {
    const right = (output) => {
      const { relative, largest } = compare(expected, output);
      // so written that NaN is wrong
      return { relative, largest, right: relative <= TOLERANCE[type] && largest <= 10 * TOLERANCE[type], words: `relative error ${relative.toExponential(1)}, largest ${largest.toExponential(1)}` };
    };
    const before = gpu.memory.now;
    const cell = (cells[name] = {});
    try {
      const prepared = await prepare(row, inputs, { right });
      if (prepared.tried) cell.tried = prepared.tried;
      if (prepared.skipped) {
        cell.skipped = prepared.skipped;
        continue;
      }
      gpu.memory.mark();
      await prepared.run();
      const { words, ...verdict } = right(await prepared.read());
      Object.assign(cell, { note: prepared.note, error: verdict.relative, gpuMegabytes: (gpu.memory.peak - before) / 1e6 });
      const failed = gpu.errors.splice(0);
      if (verdict.right && !failed.length) ready.push({ cell, type, prepared });
      else {
        cell.wrong = failed[0] ?? words;
        await prepared.dispose();
      }
    } catch (error) {
      cell.failed = String(error?.message ?? error).slice(0, 500);
    }
    gpu.errors.length = 0;
  }
  const times = await interleave(ready.map(({ prepared }) => prepared), { repeats, atLeastMs });
  for (const [i, { cell, type, prepared }] of ready.entries()) {
    Object.assign(cell, times[i], { gflops: row.flops / times[i].ms / 1e6 });
    if (peaks) Object.assign(cell, shareOfPeak(row, times[i].ms, type, peaks));
    await prepared.dispose();
  }
  return cells;
}

/** Wrong or crashed cells make the run fail; slow ones do not. */
function failures() {
  return Object.values(result.tables).some(({ rows }) => rows.some(({ cells }) => Object.values(cells).some(({ wrong, failed }) => wrong || failed)));
}

function dawnVersion() {
  const path = [join(import.meta.dirname, 'node_modules/webgpu/package.json'), join(import.meta.dirname, '../node_modules/webgpu/package.json')].find(existsSync);
  return path && JSON.parse(readFileSync(path, 'utf8')).version;
}
