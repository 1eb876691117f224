// Builds what is served: the wasm, the npm package, the page. Work that is up to date is skipped.
//   node tools/build.mjs         everything (npm run build)
//   node tools/build.mjs wasm    crate → pkg/wasm only
//   node tools/build.mjs ship    everything, with thin LTO and wasm-opt: slow to build, quick to start
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { ensurePackages, ensureWasmBindgen, native, newest, output, root, run, wasm } from './common.mjs';
import { compressFolder } from './compress.mjs';

const triple = 'wasm32-unknown-unknown';
const out = join(root, 'pkg/wasm');
const file = join(out, 'tabreel_bg.wasm');
/** Says that a part was built, and how; npm ci forgets them, which only costs a rebuild. */
const stamp = (part) => join(root, 'node_modules/.tabreel', part);
const mark = (part, text = '') => {
  mkdirSync(stamp('.'), { recursive: true });
  writeFileSync(stamp(part), text);
};

/** crate → pkg/wasm/tabreel.js, tabreel.d.ts, tabreel_bg.wasm. */
export function buildWasm(profile = 'release') {
  if (!output('rustup', ['target', 'list', '--installed'])?.includes(triple)) run('rustup', ['target', 'add', triple]);
  run('cargo', ['rustc', '-p', 'tabreel', '--lib', '--crate-type', 'cdylib', '--target', triple, '--profile', profile], { env: wasm });
  const built = join(wasm.CARGO_TARGET_DIR, triple, profile, 'tabreel.wasm');
  const upToDate = newest(file) > newest(built) && existsSync(stamp('wasm')) && readFileSync(stamp('wasm'), 'utf8') === profile;
  if (upToDate) return;

  // Without a call of __wasm_call_ctors the linker makes every export re-run all static constructors (50 × slower).
  if (readFileSync(built).includes('.command_export')) {
    throw new Error('the wasm re-runs its constructors on every call: web.rs must call __wasm_call_ctors at start');
  }
  rmSync(out, { recursive: true, force: true });
  mkdirSync(out, { recursive: true });
  run(ensureWasmBindgen(), [
    built,
    '--target',
    'web',
    '--out-dir',
    out,
    '--out-name',
    'tabreel',
    '--remove-name-section',
    '--remove-producers-section',
  ]);
  if (profile === 'ship') optimise();
  mark('wasm', profile);
}

/** 24 MB → 17 MB: quicker to compile in the browser, about the same to download. Takes four minutes. */
function optimise() {
  const features = ['simd', 'bulk-memory', 'nontrapping-float-to-int', 'sign-ext', 'mutable-globals', 'reference-types', 'multivalue'];
  run('npx', ['wasm-opt', '-O3', '--strip-debug', ...features.map((name) => `--enable-${name}`), file, '-o', `${file}.tmp`]);
  renameSync(`${file}.tmp`, file);
}

/** The command line; returns where it lies. Built as tests/src/lib.rs builds it, so that both share their work. */
export function buildCommand() {
  run('cargo', ['build', '--release', '--package', 'tabreel', '--bin', 'tabreel'], { env: native });
  return join(native.CARGO_TARGET_DIR, 'release/tabreel');
}

/** pkg/src → pkg/dist, www → www/dist, with compressed siblings. */
export function buildPages() {
  const pkg = ['src', 'package.json', 'tsconfig.json', 'tsconfig.build.json', 'rolldown.config.mjs', 'wasm'].map((name) =>
    join(root, 'pkg', name),
  );
  const build = (name, sources) => {
    if (existsSync(join(root, name, 'dist')) && newest(stamp(name)) > newest(...sources)) return;
    run('npm', ['run', 'build', '--workspace', name]);
    mark(name);
  };
  build('pkg', pkg);
  const www = ['src', 'public', 'plugins', 'index.html', 'sample.json', 'package.json', 'vite.config.ts', 'tsconfig.json'].map((name) =>
    join(root, 'www', name),
  );
  build('www', [...www, stamp('pkg'), file, join(root, 'models'), join(root, 'package-lock.json')]);
  compressFolder(join(root, 'www/dist'), stamp('compressed'));
}

/** Everything, from a fresh clone too. */
export function build(profile) {
  ensurePackages();
  buildWasm(profile);
  buildPages();
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const what = process.argv[2];
  try {
    if (what === 'wasm') buildWasm();
    else if (what === 'ship') build('ship');
    else if (what === undefined) build('release');
    else throw new Error(`unknown part "${what}": wasm, ship or nothing`);
  } catch (error) {
    console.error(`\n${error.message}`);
    process.exit(1);
  }
}
