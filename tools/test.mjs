// npm test: every test there is, in one go. `npm test -- rust node` runs only those parts.
// Each part prints its own output; the last line is "N passed, N failed", summed over all of them.
import { spawn } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { buildPages, buildWasm } from './build.mjs';
import { checkoutFlag, ensurePackages, native, root, wasm } from './common.mjs';
import { TARGETS, buildFuzz, runFuzz, told } from './fuzz.mjs';
import { ensureJsLinters, ensureLinter } from './lint.mjs';
import { ensureChromium, ensureCxx, ensureFfmpeg, ensureFirefox, ensureVulkan, ensureWebKit } from './system.mjs';

/** All crates but the fuzz targets, which need a C++ compiler and are a part of their own. */
const OURS = ['--workspace', '--exclude', 'tabreel-fuzz'];

const parts = {
  /** Formatting, lints, documentation, licences and spelling: Rust's for the native build and for the one that ships. */
  async style() {
    await check('cargo', ['fmt', '--all', '--check']);
    const deny = ['--', '-D', 'warnings', ...checkoutFlag];
    await check('cargo', ['clippy', '--release', ...OURS, '--all-targets', ...deny], { env: native });
    await check(
      'cargo',
      ['clippy', '--release', '-p', 'tabreel', '-p', 'tabreel-bench', '--lib', '--target', 'wasm32-unknown-unknown', ...deny],
      { env: wasm },
    );
    const rustdocFlags = ['-D', 'warnings', ...checkoutFlag].join('\x1f');
    await check('cargo', ['doc', '--release', ...OURS, '--no-deps'], {
      env: { ...native, CARGO_ENCODED_RUSTDOCFLAGS: rustdocFlags },
    });
    await check(ensureLinter('cargo-deny'), ['check', 'licenses', 'bans', 'sources']);
    await check(ensureLinter('typos'), ['--color=never']);
    ensureJsLinters();
    const js = (name) => join(root, 'tools/node_modules/.bin', name);
    await check(js('eslint'), ['.']);
    await check(js('prettier'), ['--check', '--log-level=warn', '.']);
    await check(js('typedoc'), ['--options', 'pkg/typedoc.json', '--tsconfig', 'pkg/tsconfig.build.json', '--emit', 'none']);
  },
  /** Unit, property, floor and command-line tests, and parity with the reference on the CPU. */
  async rust() {
    ensureFfmpeg();
    await cargoTest(OURS);
  },
  /** The same parity cases through WebGPU with our kernels on, and each kernel beside its twin. */
  async webgpu() {
    const args = ['-p', 'tabreel-tests', '--features', 'gpu', '--test', 'parity', '--test', 'kernels'];
    await cargoTest(args, { ...ensureVulkan(), TABREEL_TEST_DEVICE: 'gpu' });
  },
  /** A minute of libFuzzer on each reader of a stranger's bytes; `npm run fuzz` is the long run. */
  async fuzz() {
    ensureCxx();
    await check('cargo', ['clippy', '--release', '-p', 'tabreel-fuzz', '--all-targets', '--', '-D', 'warnings', ...checkoutFlag], {
      env: native,
    });
    const each = (result) => {
      console.log(result.ok ? told(result) : `${told(result)}\n${result.said}`);
      if (result.ok) count(1, 0);
      else count(0, 1);
    };
    await runFuzz(buildFuzz(), Object.keys(TARGETS), { seconds: 60, each });
  },
  /** Types of the package and of the page, and the package's own tests. */
  async pkg() {
    buildWasm();
    await check(process.execPath, ['tools/size.mjs']);
    await buildPages();
    for (const name of ['pkg', 'www']) await check('npm', ['run', 'check', '--workspace', name]);
    const report = join(root, 'tests/out/vitest.json');
    await run('npx', ['vitest', 'run', '--reporter=default', '--reporter=json', `--outputFile.json=${report}`], { cwd: join(root, 'pkg') });
    const { numPassedTests, numFailedTests, numPendingTests, numTodoTests, success } = JSON.parse(readFileSync(report, 'utf8'));
    count(numPassedTests, numFailedTests, numPendingTests + numTodoTests);
    if (!success && numFailedTests === 0) count(0, 1); // a file that could not be loaded
  },
  /** The wasm itself, in Node on Dawn (the WebGPU of Chrome) and on its CPU backend. */
  async node() {
    buildWasm();
    await buildPages();
    await nodeTest('tests/node', ensureVulkan());
  },
  /** The page and the packed package in a real Chromium, the page in Firefox and WebKit, and the examples of tests/examples-web. */
  async browser() {
    const chromium = ensureChromium();
    ensureFfmpeg();
    for (const ensure of [ensureFirefox, ensureWebKit]) {
      try {
        ensure();
      } catch (error) {
        console.warn(`${error.message}; its tests fail`);
      }
    }
    buildWasm();
    await buildPages();
    await nodeTest('tests/browser', { CHROMIUM: chromium });
  },
};

const total = { passed: 0, failed: 0 };
const summary = [];
const notes = []; // what the part now running wants said in the summary
let child; // the command now running
/** Adds to the sum. A skipped test counts as failed: nothing is left out silently. */
function count(passed, failed, skipped = 0) {
  if (skipped) console.error(`${skipped} skipped: counted as failed`);
  total.passed += passed;
  total.failed += failed + skipped;
}

/** Runs a command, showing its output and returning it. */
function run(command, args, { env, cwd = root } = {}) {
  console.log(`\n> ${command} ${args.join(' ')}`);
  return new Promise((done, fail) => {
    child = spawn(command, args, { cwd, env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'inherit'] });
    let text = '';
    child.stdout.setEncoding('utf8').on('data', (chunk) => (process.stdout.write(chunk), (text += chunk)));
    child.once('error', fail);
    child.once('close', (status) => done({ ok: status === 0, text }));
  });
}

/** A command that is one test: it passes when it exits with 0. */
async function check(command, args, options) {
  const { ok } = await run(command, args, options);
  if (ok) count(1, 0);
  else count(0, 1);
}

async function cargoTest(args, env) {
  // Release: the same dependencies as the command line that tests/cli.rs builds, and Burn is unusably slow without.
  const { ok, text } = await run('cargo', ['test', '--release', ...args, '--no-fail-fast'], {
    env: { ...native, ...env },
  });
  const results = [...text.matchAll(/^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored/gm)].map((m) => m.slice(1).map(Number));
  for (const [passed, failed, ignored] of results) count(passed, failed, ignored);
  for (const [line] of text.matchAll(/^not yet supported: \d+: .+/gm)) notes.push(line);
  if (!ok && !results.some(([, failed]) => failed > 0)) count(0, 1); // it did not compile, or it crashed
}

async function nodeTest(folder, env) {
  const files = readdirSync(join(root, folder))
    .filter((name) => name.endsWith('.test.mjs'))
    .map((name) => join(folder, name));
  const args = ['--test', '--test-reporter=spec', '--test-concurrency=1', ...files];
  const { ok, text } = await run(process.execPath, args, { env });
  const number = (word) => Number(new RegExp(`^\\S+ ${word} (\\d+)$`, 'm').exec(text)?.[1] ?? NaN);
  const [passed, failed] = [number('pass'), number('fail') + number('cancelled')];
  if (Number.isNaN(passed + failed) || (!ok && failed === 0))
    count(0, 1); // the runner itself broke
  else count(passed, failed, number('skipped') + number('todo'));
}

const wanted = process.argv.slice(2);
const unknown = wanted.filter((name) => !(name in parts));
if (unknown.length) {
  console.error(`unknown part ${unknown.join(', ')}: the parts are ${Object.keys(parts).join(', ')}`);
  process.exit(2);
}
function finish() {
  console.log(`\n${summary.join('\n')}\n\n${total.passed} passed, ${total.failed} failed`);
  process.exit(total.failed ? 1 : 0);
}
if (process.env.TABREEL_TEST_MINUTES) {
  setTimeout(
    () => {
      summary.push(`stopped after ${process.env.TABREEL_TEST_MINUTES} minutes`);
      child?.kill();
      count(0, 1);
      finish();
    },
    Number(process.env.TABREEL_TEST_MINUTES) * 60_000,
  ).unref();
}
try {
  ensurePackages();
} catch (error) {
  console.error(error.message);
  process.exit(1);
}
for (const name of wanted.length ? wanted : Object.keys(parts)) {
  const [before, start] = [{ ...total }, Date.now()];
  try {
    await parts[name]();
  } catch (error) {
    console.error(error);
    count(0, 1);
  }
  const [passed, failed] = [total.passed - before.passed, total.failed - before.failed];
  summary.push(
    `${name.padEnd(8)} ${String(passed).padStart(4)} passed ${String(failed).padStart(3)} failed ${((Date.now() - start) / 1000).toFixed(0).padStart(5)} s`,
  );
  summary.push(...notes.splice(0).map((note) => `${''.padEnd(9)}${note}`));
}
finish();
