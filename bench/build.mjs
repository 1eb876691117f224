// Builds bench/engine (our ops, for Node and the browser) and installs onnxruntime-web beside it.
import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { claim, ensurePackages, ensureWasmBindgen, newest, root, run, wasmTarget } from '../pkg/scripts/tools.mjs';

const triple = 'wasm32-unknown-unknown';
const out = join(root, 'bench/engine/wasm');

ensurePackages();
if (!existsSync(join(root, 'bench/node_modules/onnxruntime-web'))) run('npm', ['install', '--no-audit', '--no-fund', '--prefix', join(root, 'bench')]);
claim(wasmTarget);
run('cargo', ['rustc', '-p', 'tabreel-bench', '--lib', '--crate-type', 'cdylib', '--target', triple, '--release'], { env: { ...process.env, CARGO_TARGET_DIR: wasmTarget } });
const built = join(wasmTarget, triple, 'release', 'tabreel_bench.wasm');
if (newest(join(out, 'tabreel_bench_bg.wasm')) < newest(built)) {
  rmSync(out, { recursive: true, force: true });
  run(ensureWasmBindgen(), [built, '--target', 'web', '--out-dir', out, '--out-name', 'tabreel_bench', '--remove-name-section', '--remove-producers-section']);
}
