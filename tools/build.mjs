// Builds what is served: the wasm, the npm package, the page. Work that is up to date is skipped.
//   node tools/build.mjs         everything (npm run build)
//   node tools/build.mjs wasm    crate → pkg/wasm only
//   node tools/build.mjs ship    everything, with thin LTO and wasm-opt: slow to build, quick to start
//   node tools/build.mjs serve   everything, and the command line with the page inside (npm run build:serve)
import { copyFileSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { ensurePackages, ensureWasmBindgen, native, newest, output, root, run, wasm } from './common.mjs';
import { QUICK, SMALLEST, compressFolder } from './compress.mjs';

const triple = 'wasm32-unknown-unknown';
const out = join(root, 'pkg/wasm');
const file = join(out, 'tabreel_bg.wasm');
/** Says that a part was built, and how; npm ci forgets them, which only costs a rebuild. */
const stamp = (part) => join(root, 'node_modules/.tabreel', part);
const mark = (part, text = '') => {
  mkdirSync(stamp('.'), { recursive: true });
  writeFileSync(stamp(part), text);
};

/** What runs once a prompt, a picture or a new kernel (Burn's own of these, ours stand in for them) is made small, not fast. */
const SMALL = [
  'tokenizers',
  'image',
  'pliron',
  'combine',
  'rustc_apfloat',
  'regex-automata',
  'regex-syntax',
  'aho-corasick',
  'fancy-regex',
  'cubek-matmul',
  'cubek-convolution',
  'cubek-attention',
];
/** Our own crate in one piece: what several pieces each have a copy of would make the wasm larger. */
const WHOLE = ['tabreel.codegen-units=1', ...SMALL.map((name) => `${name}.opt-level="s"`)].flatMap((setting) => [
  '--config',
  `profile.release.package.${setting}`,
]);

/** crate → pkg/wasm/tabreel.js, tabreel.d.ts, tabreel_bg.wasm. */
export function buildWasm(profile = 'release') {
  if (!output('rustup', ['target', 'list', '--installed'])?.includes(triple)) run('rustup', ['target', 'add', triple]);
  run('cargo', ['rustc', '-p', 'tabreel', '--lib', '--crate-type', 'cdylib', '--target', triple, '--profile', profile, ...WHOLE], {
    env: wasm,
  });
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

/** Of the page with its compressed siblings: www/dist. */
export const site = join(root, 'www/dist');

/**
 * The command line with the built page inside, for `tabreel serve`; returns where it lies. A copy: the next build without
 * the page replaces the program itself.
 */
export function buildServe() {
  run('cargo', ['build', '--release', '--package', 'tabreel', '--bin', 'tabreel'], { env: { ...native, TABREEL_PAGE: site } });
  const name = process.platform === 'win32' ? 'tabreel.exe' : 'tabreel';
  const at = join(native.CARGO_TARGET_DIR, 'serve', name);
  mkdirSync(join(at, '..'), { recursive: true });
  copyFileSync(join(native.CARGO_TARGET_DIR, 'release', name), `${at}.part`);
  renameSync(`${at}.part`, at);
  return at;
}

/** pkg/src → pkg/dist, www → www/dist, with compressed siblings of brotli's `quality` or better. */
export async function buildPages(quality = QUICK) {
  const pkg = ['src', 'package.json', 'tsconfig.json', 'tsconfig.build.json', 'rolldown.config.mjs', 'wasm'].map((name) =>
    join(root, 'pkg', name),
  );
  const build = (name, sources) => {
    if (existsSync(join(root, name, 'dist')) && newest(stamp(name)) > newest(...sources)) return;
    run('npm', ['run', 'build', '--workspace', name]);
    mark(name);
  };
  build('pkg', [...pkg, join(root, 'models/models.json')]);
  const www = ['src', 'public', 'plugins', 'index.html', 'sample.json', 'package.json', 'vite.config.ts', 'tsconfig.json'].map((name) =>
    join(root, 'www', name),
  );
  build('www', [...www, stamp('pkg'), file, join(root, 'models'), join(root, 'package-lock.json')]);
  if (quality === SMALLEST) console.log('Compressing the page. A new engine takes one core a minute or two.');
  await compressFolder(site, quality);
}

/** Everything, from a fresh clone too. */
export async function build(profile, quality = SMALLEST) {
  ensurePackages();
  buildWasm(profile);
  await buildPages(quality);
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const what = process.argv[2];
  try {
    if (what === 'wasm') buildWasm();
    else if (what === 'ship') await build('ship');
    else if (what === undefined) await build('release');
    else if (what === 'serve') {
      await build('release');
      console.log(`\n${buildServe()} serve --open`);
    } else throw new Error(`unknown part "${what}": wasm, ship, serve or nothing`);
  } catch (error) {
    console.error(`\n${error.message}`);
    process.exit(1);
  }
}
