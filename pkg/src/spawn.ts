/** Starts the engine's worker wherever a bundler, a development server or another site has put its script. */
import type { WorkerLike } from './link.js';

/** The name of the worker; `tabreel.bundle.js`, which is both page and worker, knows by it which it is. */
export const WORKER_NAME = 'tabreel-engine';

interface Script {
  url: URL;
  options: WorkerOptions;
}

let own: Script | undefined;

/** Takes the worker's script from `url` instead of from beside this file. */
export function spawnFrom(url: string): void {
  own = { url: new URL(url), options: { type: 'module', name: WORKER_NAME } };
}

// The one expression by which bundlers find the worker; it must stand as it is.
const make = (): Worker => new Worker(new URL('./worker.js', import.meta.url), { type: 'module', name: 'tabreel-engine' });

/** A started worker, and where its script lies, for messages; `where` is missing where only the bundler knows. */
export function spawnWorker(): { worker: WorkerLike; where?: string | undefined } {
  const script = own ?? askBundler();
  if (script instanceof Worker) return { worker: script as WorkerLike };
  const url = besideDependencies(script.url);
  const hint = url === script.url ? '' : "; if it is not there, give Vite `optimizeDeps: { exclude: ['tabreel'] }`";
  const local = url.origin === globalThis.origin || !url.protocol.startsWith('http');
  const worker = new Worker(trusted(local ? url.href : shim(url, script.options)), script.options) as WorkerLike;
  return { worker, where: url.href + hint };
}

/**
 * Where the bundler has put the script. Bundlers write their own address and options into `make`, and nothing else
 * knows them; so while it runs, the constructor is one that only listens. A worker, where that cannot be done.
 */
function askBundler(): Script | Worker {
  const scope: { Worker: unknown } = globalThis;
  const constructor = scope.Worker;
  let heard: Script | undefined;
  try {
    scope.Worker = class {
      constructor(url: string | URL, options: WorkerOptions = {}) {
        heard = { url: new URL(url, globalThis.document?.baseURI ?? globalThis.location.href), options };
      }
    };
  } catch {
    return make(); // a page that froze its globals
  }
  let made: Worker;
  try {
    made = make();
  } finally {
    scope.Worker = constructor;
  }
  return heard ?? made;
}

/**
 * Vite up to 7 moves a package's code into a folder of its own while it serves for development, and leaves worker and wasm
 * behind (vitejs/vite#21056). The package itself lies beside that folder.
 */
export function besideDependencies(url: URL): URL {
  const moved = /^(.*\/node_modules\/)\.[^?]*\/deps\w*\/worker\.js$/.exec(url.pathname);
  return moved ? new URL(`${moved[1]}tabreel/dist/worker.js`, url) : url;
}

interface TrustedTypes {
  createPolicy(name: string, rules: { createScriptURL(url: string): string }): { createScriptURL(url: string): string };
}
let policy: ReturnType<TrustedTypes['createPolicy']> | undefined;

/** Pages that ask for Trusted Types start workers from nothing else; theirs must allow the policy `tabreel`. */
function trusted(url: string): string {
  const { trustedTypes } = globalThis as { trustedTypes?: TrustedTypes };
  policy ??= trustedTypes?.createPolicy('tabreel', { createScriptURL: (given) => given });
  return policy?.createScriptURL(url) ?? url;
}

const shims = new Map<string, string>();

/**
 * A script of this origin that runs one of another: browsers start workers from no other origin. What arrives before
 * the real script does is held back.
 */
function shim(url: URL, { type }: WorkerOptions): string {
  const address = JSON.stringify(url.href);
  const text =
    type === 'module'
      ? `let refused = '';
addEventListener('securitypolicyviolation', (e) => { refused = '; the Content-Security-Policy refuses it: allow it in ' + e.effectiveDirective; });
const early = [];
onmessage = (e) => early.push(e);
import(${address}).then(
  () => early.splice(0).forEach((e) => onmessage(e)),
  (e) => setTimeout(() => postMessage({ type: 'dead', error: { code: 'fetch', message: 'the worker could not be loaded from ' + ${address} + ': ' + e.message + refused } })),
);`
      : `importScripts(${address});`;
  let made = shims.get(text);
  if (made === undefined) {
    // Never revoked: it is a few hundred bytes, and a worker may start from it later.
    made = URL.createObjectURL(new Blob([text], { type: 'text/javascript' }));
    shims.set(text, made);
  }
  return made;
}
