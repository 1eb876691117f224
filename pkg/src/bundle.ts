/**
 * The whole package in one file, for pages without a bundler (`dist/tabreel.bundle.js`). The same file is the worker's
 * script: it is started anew under a name by which it knows that it is the worker.
 */
export * from './index.js';
export * from './element.js';
import { spawnFrom, WORKER_NAME } from './spawn.js';

const scope = globalThis as { name?: string; document?: Document };
if (scope.name === WORKER_NAME && scope.document === undefined) await import('./worker.js');
else spawnFrom(import.meta.url);
