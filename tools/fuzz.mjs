// npm run fuzz: libFuzzer on everything that reads a stranger's bytes (tests/fuzz), two targets at a time.
//   npm run fuzz                                   every target for an hour
//   npm run fuzz -- --seconds 60 gguf cards        these two for a minute
//   npm run fuzz -- --keep                         what reaches new code joins tests/fuzz/corpus
// An input that breaks something lies in tests/out/fuzz afterwards; `npm run fuzz -- --input FILE gguf` runs it again.
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { ensurePackages, native, root, run } from './common.mjs';

const folder = join(root, 'tests/fuzz');
/** The names of the targets, and how many bytes an input may have: what shows a fault is small. */
export const TARGETS = { safetensors: 8192, gguf: 16384, pytorch: 8192, tokenizer: 8192, cards: 4096, clips: 16384 };

/** Compiles the targets, our own crates with libFuzzer's counters; returns the folder of the programs. */
export function buildFuzz() {
  const env = { ...native, RUSTC_WORKSPACE_WRAPPER: join(folder, 'rustc') };
  run('cargo', ['build', '--release', '--package', 'tabreel-fuzz', '--bins'], { env });
  return join(native.CARGO_TARGET_DIR, 'release');
}

/** Runs a program of libFuzzer's; its exit code and what it said. */
function libFuzzer(program, args) {
  return new Promise((done, fail) => {
    // No PATH: a clip of another kind would be handed to ffmpeg.
    const child = spawn(program, args, { cwd: root, env: { RUST_BACKTRACE: '1', PATH: '' }, stdio: ['ignore', 'pipe', 'pipe'] });
    let said = '';
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding('utf8').on('data', (text) => (said = (said + text).slice(-20_000)));
    child.once('error', fail);
    child.once('close', (code) => done({ code, said }));
  });
}

/** Fuzzes one target for some seconds; new inputs go into `fresh`. */
async function fuzz(programs, name, { seconds, seed, fresh }) {
  const out = join(root, 'tests/out/fuzz');
  mkdirSync(out, { recursive: true });
  const args = [`-max_total_time=${seconds}`, `-seed=${seed}`, `-max_len=${TARGETS[name]}`, '-timeout=20', '-print_final_stats=1'];
  const { code, said } = await libFuzzer(join(programs, `fuzz_${name}`), [
    ...args,
    `-artifact_prefix=${join(out, `${name}-`)}`,
    fresh,
    join(folder, 'corpus', name),
  ]);
  const found = (pattern) => Number([...said.matchAll(pattern)].at(-1)?.[1] ?? NaN);
  return {
    name,
    ok: code === 0,
    runs: found(/stat::number_of_executed_units:\s+(\d+)/g),
    edges: found(/cov: (\d+)/g),
    peakMb: found(/stat::peak_rss_mb:\s+(\d+)/g),
    said,
  };
}

/** Fuzzes targets, as many at a time as there are cores; calls `each` with the result of each. */
export async function runFuzz(programs, names, { seconds, seed = 1, keep = false, each }) {
  const queue = [...names];
  const worker = async () => {
    for (let name = queue.shift(); name; name = queue.shift()) {
      const fresh = mkdtempSync(join(tmpdir(), `fuzz-${name}-`));
      try {
        each(await fuzz(programs, name, { seconds, seed, fresh }));
        // Into the first folder goes what reaches code that nothing in it does; nothing is taken out.
        if (keep) {
          const corpus = join(folder, 'corpus', name);
          await libFuzzer(join(programs, `fuzz_${name}`), ['-merge=1', `-max_len=${TARGETS[name]}`, corpus, fresh]);
        }
      } finally {
        rmSync(fresh, { recursive: true, force: true });
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(names.length, availableParallelism()) }, worker));
}

/** One result in words. */
export const told = ({ name, ok, runs, edges, peakMb }) =>
  `${name.padEnd(12)} ${ok ? 'nothing found' : 'BROKEN'}: ${runs} runs, ${edges} edges of code, ${peakMb} MB at most`;

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const { values, positionals } = parseArgs({
    options: {
      seconds: { type: 'string', default: '3600' },
      seed: { type: 'string', default: String(Math.floor(Date.now() / 1000) % 1_000_000) },
      keep: { type: 'boolean', default: false },
      input: { type: 'string' },
    },
    allowPositionals: true,
  });
  const names = positionals.length ? positionals : Object.keys(TARGETS);
  const unknown = names.filter((name) => !(name in TARGETS));
  if (unknown.length || !(Number(values.seconds) > 0)) {
    console.error(
      unknown.length ? `unknown target ${unknown.join(', ')}: ${Object.keys(TARGETS).join(', ')}` : '--seconds must be above 0',
    );
    process.exit(2);
  }
  ensurePackages();
  const programs = buildFuzz();
  if (values.input) {
    const { code, said } = await libFuzzer(join(programs, `fuzz_${names[0]}`), ['-timeout=20', values.input]);
    console.log(said);
    process.exit(code ?? 1);
  }
  console.log(`seed ${values.seed}`);
  const each = (result) => {
    console.log(result.ok ? told(result) : `${told(result)}\n${result.said}`);
    if (!result.ok) process.exitCode = 1;
  };
  await runFuzz(programs, names, { seconds: Number(values.seconds), seed: Number(values.seed), keep: values.keep, each });
  const left = readdirSync(join(root, 'tests/out/fuzz'));
  if (left.length) console.log(`tests/out/fuzz: ${left.join(', ')}`);
}
