// What the build and the tests share: where things are, running a command, finding or installing Rust's parts.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, readdirSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';

export const root = resolve(import.meta.dirname, '..');
/** Everything large or slow to make lives here, outside the checkout, so that a fresh clone starts warm. */
export const cache = process.env.TABREEL_CACHE ?? join(homedir(), '.cache/tabreel');
export const target = (process.env.CARGO_TARGET_DIR ??= join(cache, 'target'));
/** A folder of its own, so that native and wasm builds do not wait for each other. */
export const wasmTarget = `${target}-wasm`;

/**
 * Call before cargo builds into a folder. Two checkouts that share it look the same to cargo, which then compares
 * only times and may take the other one's build for ours: so when another one built last, ours is made newer.
 */
export function claim(folder) {
  const owner = join(folder, '.tabreel-checkout');
  const now = new Date();
  if (!existsSync(owner) || readFileSync(owner, 'utf8') !== root) {
    for (const part of ['crate/src/lib.rs', 'tests/src/lib.rs']) utimesSync(join(root, part), now, now);
  }
  mkdirSync(folder, { recursive: true });
  writeFileSync(owner, root);
}

/** Runs a command with its output on the terminal; throws when it fails. */
export function run(command, args, options = {}) {
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: 'inherit', ...options });
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
  const { CARGO_TARGET_DIR: _, ...env } = process.env;
  run('cargo', ['install', 'wasm-bindgen-cli', '--version', version, '--root', join(cache, 'tools')], { env });
  return own;
}
