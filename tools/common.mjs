// What the build and the tests share: where things are, running a command, finding or installing Rust's parts.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, readdirSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';

export const root = resolve(import.meta.dirname, '..');
/** Everything large or slow to make lives here, outside the checkout, so that a fresh clone starts warm. */
export const cache = process.env.TABREEL_CACHE ?? join(homedir(), '.cache/tabreel');

// What cargo compiles, the dependencies above all, is shared by all checkouts (the build folder); what it hands over,
// the program and the wasm, lies in each checkout (the target folder). A CARGO_TARGET_DIR of your own takes both.
const targets = process.env.CARGO_TARGET_DIR ?? join(root, 'target');
const builds = process.env.CARGO_BUILD_BUILD_DIR ?? process.env.CARGO_TARGET_DIR ?? join(cache, 'target');
/**
 * In a shared build folder cargo tells two checkouts apart by times only, and would take the other's build for ours.
 * The path of a wrapper around rustc goes into the names of what is built of our own crates, and of nothing else.
 * In CI each clone is newer than every build, and lives once: a name of its own would only fill the cache.
 */
const mark = process.env.CI ? {} : { RUSTC_WORKSPACE_WRAPPER: join(root, 'tools/rustc') };
const cargo = (suffix) => ({ ...mark, CARGO_TARGET_DIR: targets + suffix, CARGO_BUILD_BUILD_DIR: builds + suffix });
/** The environment of cargo: folders and mark. Native and wasm builds have folders apart, and do not wait for each other. */
export const native = cargo('');
export const wasm = cargo('-wasm');
/** The same mark for clippy and rustdoc, which do not run the wrapper: a flag that differs makes cargo look again. */
export const checkoutFlag = ['--cfg', `checkout=${JSON.stringify(root)}`];

/** Runs a command with its output on the terminal; throws when it fails. `env` adds to the environment. */
export function run(command, args, { env } = {}) {
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: 'inherit', env: { ...process.env, ...env } });
  if (error?.code === 'ENOENT') throw new Error(`${command} was not found. ${hints[command] ?? ''}`);
  if (status !== 0) throw new Error(`${command} ${args.join(' ')} failed (exit code ${status})`);
}

/** What a command prints, or undefined when it is missing or fails. */
export function output(command, args) {
  const { status, stdout } = spawnSync(command, args, { cwd: root, encoding: 'utf8' });
  return status === 0 ? stdout.trim() : undefined;
}

const hints = {
  cargo: 'Install Rust with rustup (https://rustup.rs) and try again.',
  rustup: 'Install Rust with rustup (https://rustup.rs) and try again.',
};

/** The newest modification time under some files and folders, in ms; 0 when none exists. */
export function newest(...paths) {
  let time = 0;
  for (const path of paths) {
    if (!existsSync(path)) continue;
    const stat = statSync(path);
    const inside = stat.isDirectory() ? newest(...readdirSync(path).map((name) => join(path, name))) : stat.mtimeMs;
    time = Math.max(time, inside);
  }
  return time;
}

/** Installs the packages of package-lock.json unless they are there already. */
export function ensurePackages() {
  const installed = join(root, 'node_modules/.package-lock.json');
  if (newest(installed) > 0 && newest(installed) >= newest(join(root, 'package-lock.json'))) return;
  run('npm', ['ci', '--no-audit', '--no-fund', '--prefer-offline']);
}

/** The wasm-bindgen command line of exactly the version that Cargo.lock names; installs it into the cache (5 min). */
export function ensureWasmBindgen() {
  const version = /name = "wasm-bindgen"\nversion = "(.+)"/.exec(readFileSync(join(root, 'Cargo.lock'), 'utf8'))?.[1];
  if (!version) throw new Error('Cargo.lock names no wasm-bindgen');
  const own = join(cache, 'tools/bin/wasm-bindgen');
  for (const candidate of [own, 'wasm-bindgen']) {
    if (output(candidate, ['--version']) === `wasm-bindgen ${version}`) return candidate;
  }
  console.log(`Installing wasm-bindgen-cli ${version} into ${join(cache, 'tools')} (about five minutes, once)`);
  // Without --locked: its lock file names a version that registries refuse. Its own target folder: not our profile.
  const env = { CARGO_TARGET_DIR: undefined, CARGO_BUILD_BUILD_DIR: undefined };
  run('cargo', ['install', 'wasm-bindgen-cli', '--version', version, '--root', join(cache, 'tools')], { env });
  return own;
}
