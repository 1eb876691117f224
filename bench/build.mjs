// Builds what the bench measures: bench/engine (our ops one at a time, for Node and the browser), the engine that ships,
// and onnxruntime-web beside them.
//   node bench/build.mjs           everything
//   node bench/build.mjs engine    bench/engine only
import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { buildWasm } from '../tools/build.mjs';
import { ensurePackages, ensureWasmBindgen, newest, root, run, wasm } from '../tools/common.mjs';

const triple = 'wasm32-unknown-unknown';
const out = join(root, 'bench/engine/wasm');

function buildEngine() {
  run('cargo', ['rustc', '-p', 'tabreel-bench', '--lib', '--crate-type', 'cdylib', '--target', triple, '--release'], { env: wasm });
  const built = join(wasm.CARGO_TARGET_DIR, triple, 'release', 'tabreel_bench.wasm');
  if (newest(join(out, 'tabreel_bench_bg.wasm')) >= newest(built)) return;
  rmSync(out, { recursive: true, force: true });
  run(ensureWasmBindgen(), [built, '--target', 'web', '--out-dir', out, '--out-name', 'tabreel_bench', '--remove-name-section', '--remove-producers-section']);
}

ensurePackages();
if (process.argv[2] !== 'engine') {
  buildWasm();
  run('npm', ['run', 'build', '--workspace', 'pkg']); // the account of GPU memory, which the clip's row needs
  if (!existsSync(join(root, 'bench/node_modules/onnxruntime-web'))) run('npm', ['install', '--no-audit', '--no-fund', '--prefix', join(root, 'bench')]);
}
buildEngine();
