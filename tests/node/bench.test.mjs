// The bench runs and its columns are right, on a few small rows of every kind; how fast they are is not asked.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { root } from './fixtures.mjs';

const folder = mkdtempSync(join(tmpdir(), 'tabreel-bench-'));
after(() => rmSync(folder, { recursive: true, force: true }));

/** One row of each kind, the smallest. */
const ROWS = [
  'gemm 80×192→192 f32',
  'gemm 80×192→192 q8_0',
  'self 6×32 80→80',
  'conv 3×3×3 32→32 4×16×16 cache',
  'layernorm·modulate 80×192',
  'q/k rmsnorm·rope 80×6×32',
  'channelnorm·silu 32×4×16×16',
  'DiT block default model, 80 tokens',
  'VACE block default model, 80 tokens',
  'umT5 layer default model, 64 tokens',
  'VAE default model, first chunk, 16×16 px',
  'VAE default model, later chunk, 16×16 px',
];
/** Rows of the CPU table: no norms on their own, no quantized weights. */
const ON_CPU = ROWS.filter((name) => !/norm|q8_0/.test(name));

/** Where `npm run bench` has installed it. */
const ORT = existsSync(join(root, 'bench/node_modules/onnxruntime-web'));

let result;
before(async () => {
  await command(['bench/build.mjs', 'engine']);
  const rows = `^(${ROWS.map((name) => name.replace(/[.*+?]/g, '\\$&')).join('|')})$`;
  // compiled wasm would only take longer to come than it saves on such little work
  await command([
    '--no-wasm-dynamic-tiering',
    '--no-wasm-tier-up',
    'bench/run.mjs',
    '--small',
    '--rows',
    rows,
    '--columns',
    '^(ours|stock|ORT (f32|wasm))',
    '--out',
    folder,
  ]);
  const [file] = readdirSync(folder);
  result = JSON.parse(readFileSync(join(folder, file), 'utf8'));
});

const tables = [
  ['gpu', ROWS, ['ours f32', 'stock Burn'], 'ORT f32'],
  ['cpu', ON_CPU, ['ours', 'stock Burn'], 'ORT wasm'],
];
for (const [key, names, own, ort] of tables) {
  const columns = ORT ? [...own, ort] : own;
  test(`the ${key} table has every row and column, and every output is right`, () => {
    const { rows, columns: found } = result.tables[key];
    assert.deepEqual(
      found.map(({ name }) => name),
      columns,
    );
    assert.deepEqual(
      rows.map(({ name }) => name),
      names,
    );
    for (const { name, cells } of rows)
      for (const column of columns) {
        const { ms, error, wrong, failed, skipped } = cells[column];
        assert.equal(wrong ?? failed ?? skipped, undefined, `${name}, ${column}`);
        assert.ok(ms > 0 && error <= 1e-4, `${name}, ${column}: ${ms} ms, relative error ${error}`);
      }
  });
}

/** Runs Node on a script of the checkout; throws its output when it fails. */
function command(args) {
  const child = spawn(process.execPath, args, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] });
  let text = '';
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (chunk) => (text += chunk));
  return new Promise((done, fail) => {
    child.once('error', fail);
    child.once('close', (status) =>
      status === 0 ? done() : fail(new Error(`${args.join(' ')} ended with ${status}\n${text.slice(-4000)}`)),
    );
  });
}
