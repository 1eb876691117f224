// Runs the bench in this process, or with --browser in Chromium, and saves what it finds. Options: see `usage`.
import { mkdirSync, writeFileSync } from 'node:fs';
import { loadavg } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { bench } from './bench.mjs';
import { nodeHost } from './lib/node.mjs';

const usage = `node run.mjs [options]
  --driver NAME       lavapipe or swiftshader; otherwise VK_DRIVER_FILES or the system's own
  --browser           in Chromium, on its SwiftShader, instead of Node + Dawn
  --rows REGEX        only rows whose name matches
  --columns REGEX     only columns whose name matches
  --small             only rows up to 0.2 GFLOP, one repeat: a smoke run
  --repeats N         measures per column, the median counts (5)
  --seconds N         stops repeating a column after so long in a row (20)
  --max-gflop N       leaves out larger rows (5 on software adapters and on the CPU, else no limit)
  --no-gpu, --no-cpu  leaves out one of the two tables
  --out FOLDER        where the JSON goes (results)`;

const { values: given } = parseArgs({
  options: {
    driver: { type: 'string' }, browser: { type: 'boolean', default: false }, rows: { type: 'string', default: '' },
    columns: { type: 'string', default: '' }, small: { type: 'boolean', default: false }, repeats: { type: 'string' },
    seconds: { type: 'string' }, 'max-gflop': { type: 'string' }, 'no-gpu': { type: 'boolean', default: false },
    'no-cpu': { type: 'boolean', default: false }, out: { type: 'string', default: join(import.meta.dirname, 'results') },
    help: { type: 'boolean', default: false },
  },
});
if (given.help) {
  console.log(usage);
  process.exit(0);
}
const number = (text) => (text === undefined ? undefined : Number(text));
const options = {
  rows: given.rows, columns: given.columns, small: given.small, gpu: !given['no-gpu'], cpu: !given['no-cpu'],
  repeats: number(given.repeats), seconds: number(given.seconds), maxGflop: number(given['max-gflop']),
  command: process.argv.slice(2).map((word) => (/[^\w.-]/.test(word) ? `'${word}'` : word)).join(' '),
};

// how busy the machine was: times taken on a busy one compare within the table only
const before = loadavg()[0];
let file;
function save(result) {
  file ??= join(given.out, `${nameOf(result)}-${result.date.slice(0, 10)}.json`);
  mkdirSync(given.out, { recursive: true });
  writeFileSync(file, `${JSON.stringify({ ...result, load: { before, after: loadavg()[0] } }, null, 1)}\n`);
}
function nameOf({ adapter }) {
  const { device, description, architecture, vendor } = adapter ?? { device: 'cpu' };
  const slug = (/llvmpipe/.test(device) ? 'lavapipe' : device || description || architecture || vendor).toLowerCase().replace(/[^a-z0-9]+/g, '-').replace(/^-|-$/g, '').slice(0, 40);
  return given.browser ? `${slug}-chromium` : slug;
}

const run = given.browser
  ? (await import('./browser/chromium.mjs')).inChromium(options, save)
  : bench(options, nodeHost(given), save);
const fine = await run;
console.log(`\n${file}`);
process.exit(fine ? 0 : 1); // Dawn never leaves by itself
