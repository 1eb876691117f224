/** Makes the built page open without a network: a service worker that keeps this version's files, each with its hash. */
import { createHash } from 'node:crypto';
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Plugin } from 'vite';

const WORKER = fileURLToPath(new URL('./offline-worker.js', import.meta.url));
/** The package keeps models itself; compressed siblings are the same files again; the worker cannot list itself. */
const LEFT_OUT = /^models\/|\.(br|gz)$|^sw\.js$/;

const sha256 = (bytes: Uint8Array | string): string => createHash('sha256').update(bytes).digest('hex');

/**
 * Writes `sw.js` beside the page, and the version into the page's head. The version is the hash of every file's
 * path and contents, so any change of the page or the engine makes another one. Must come after plugins that add files.
 */
export function offline(): Plugin {
  let outDir = '';
  return {
    name: 'tabreel-offline',
    // The dev server's files change while one looks at them.
    apply: 'build',
    configResolved(config) {
      outDir = resolve(config.root, config.build.outDir);
    },
    closeBundle: {
      order: 'post',
      handler() {
        const read = (path: string): Buffer => readFileSync(join(outDir, path));
        const paths = readdirSync(outDir, { recursive: true, withFileTypes: true })
          .filter((entry) => entry.isFile())
          .map((entry) =>
            join(entry.parentPath, entry.name)
              .slice(outDir.length + 1)
              .replaceAll('\\', '/'),
          )
          .filter((path) => !LEFT_OUT.test(path))
          .sort();
        // A change of the worker alone is another version too: it may keep the same files in another way.
        const worker = readFileSync(WORKER, 'utf8');
        const version = sha256([worker, ...paths.map((path) => `${path} ${sha256(read(path))}`)].join('\n')).slice(0, 16);

        const html = read('index.html').toString();
        const marked = html.replace('</head>', `  <meta name="tabreel-version" content="${version}" />\n  </head>`);
        if (marked === html) throw new Error('www/dist/index.html has no </head> to write the version before');
        writeFileSync(join(outDir, 'index.html'), marked);

        const files = Object.fromEntries(paths.map((path) => [path, sha256(read(path))]));
        const head = `const VERSION = ${JSON.stringify(version)};\nconst FILES = ${JSON.stringify(files, null, 1)};\n`;
        writeFileSync(join(outDir, 'sw.js'), head + worker);
      },
    },
  };
}
