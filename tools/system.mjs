// What the tests need from the system beyond Rust and Node: a Vulkan driver that runs on the CPU, Chromium, ffmpeg.
// On Debian and as root, missing ones are installed; elsewhere the message says what to install.
import { existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { output, run } from './common.mjs';

const onDebian = existsSync('/usr/bin/apt-get') && process.getuid?.() === 0;

/** Chromium's path; `CHROMIUM` names another one. */
export function ensureChromium() {
  const find = () => process.env.CHROMIUM ?? ['chromium', 'chromium-browser', 'google-chrome'].map(which).find(Boolean);
  return find() ?? (install('chromium'), find()) ?? missing('Chromium', 'or name one in the environment variable CHROMIUM');
}

/** ffprobe and ffmpeg, which read the saved clips back. */
export function ensureFfmpeg() {
  const find = () => which('ffprobe') && which('ffmpeg');
  return find() ?? (install('ffmpeg'), find()) ?? missing('ffmpeg');
}

/**
 * The environment in which wgpu and Dawn find lavapipe (Mesa's Vulkan on the CPU), the adapter of the WebGPU tests.
 * `VK_DRIVER_FILES` names another driver; without apt and lavapipe, whatever adapter there is.
 */
export function ensureVulkan() {
  const env = { XDG_RUNTIME_DIR: process.env.XDG_RUNTIME_DIR ?? '/tmp' };
  if (process.env.VK_DRIVER_FILES) return { ...env, VK_DRIVER_FILES: process.env.VK_DRIVER_FILES };
  if (onDebian && !(mesa() >= 23)) {
    install('libvulkan1', 'mesa-vulkan-drivers');
    if (!(mesa() >= 23)) install('-t', addBackports(), 'mesa-vulkan-drivers'); // Dawn refuses Debian 12's Mesa 22.3
  }
  const folder = '/usr/share/vulkan/icd.d';
  const file = existsSync(folder) ? readdirSync(folder).find((name) => /^lvp_icd.*\.json$/.test(name)) : undefined;
  if (!file) console.warn('lavapipe was not found: the WebGPU tests run on whatever adapter there is');
  return file ? { ...env, VK_DRIVER_FILES: join(folder, file) } : env;
}

const which = (name) => output('sh', ['-c', `command -v ${name}`]);

/** Mesa's major version, or NaN. */
const mesa = () => Number.parseInt(output('dpkg-query', ['-W', '-f=${Version}', 'mesa-vulkan-drivers']) ?? '', 10);

let updated = false;
function install(...packages) {
  if (!onDebian) return;
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  if (!updated) run('apt-get', ['update', '-q'], { env });
  updated = true;
  run('apt-get', ['install', '-q', '-y', '--no-install-recommends', ...packages], { env });
}

function missing(what, or = '') {
  throw new Error(`${what} was not found: install it (on Debian as root this happens by itself) ${or}`.trim());
}

/** Adds the backports suite beside the release's own one (same mirror, same key) and returns the suite's name. */
function addBackports() {
  const release = /VERSION_CODENAME=(\w+)/.exec(readFileSync('/etc/os-release', 'utf8'))?.[1];
  const suite = `${release}-backports`;
  const folder = '/etc/apt/sources.list.d';
  const stanzas = readdirSync(folder).filter((name) => name.endsWith('.sources'))
    .flatMap((name) => readFileSync(join(folder, name), 'utf8').split(/\n\s*\n/));
  const own = stanzas.find((stanza) => new RegExp(`^Suites:.*\\b${release}(\\s|$)`, 'm').test(stanza)) ?? '';
  const field = (name, otherwise) => new RegExp(`^${name}: *(.+)$`, 'm').exec(own)?.[1] ?? otherwise;
  const uris = field('URIs', 'http://deb.debian.org/debian');
  const key = field('Signed-By', '/usr/share/keyrings/debian-archive-keyring.gpg');
  writeFileSync(join(folder, 'tabreel-backports.sources'),
    `Types: deb\nURIs: ${uris}\nSuites: ${suite}\nComponents: main\nSigned-By: ${key}\n`);
  updated = false;
  return suite;
}
