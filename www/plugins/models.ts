/** Puts the default model beside the page: served from its folder in `dev`, copied by `build`. */
import { createHash } from 'node:crypto';
import { createReadStream, cpSync, existsSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join, normalize, sep } from 'node:path';
import type { Plugin } from 'vite';

/** Files that a model is loaded from; notes and reports about it stay behind. */
const NEEDED = /\.(json|safetensors|gguf)$/;

interface Card {
  files?: { path: string; bytes: number; sha256?: string }[];
}

export function models({ from, names }: { from: string; names: string[] }): Plugin {
  let outDir = '';
  return {
    name: 'tabreel-models',
    configResolved(config) {
      outDir = join(config.root, config.build.outDir);
    },
    configureServer(server) {
      server.middlewares.use((request, response, next) => {
        const path = decodeURIComponent(new URL(request.url ?? '/', 'http://page').pathname);
        if (!path.startsWith('/models/')) return next();
        const relative = normalize(path.slice('/models/'.length));
        const file = join(from, relative);
        if (relative.startsWith('..') || !existsSync(file) || !statSync(file).isFile()) {
          response.statusCode = 404;
          response.end(`no such file: models/${relative}`);
          return;
        }
        if (file.endsWith(`${sep}tabreel.json`)) {
          response.setHeader('content-type', 'application/json');
          response.end(JSON.stringify(cardWithFiles(join(file, '..'))));
          return;
        }
        response.setHeader('content-type', 'application/octet-stream');
        response.setHeader('content-length', statSync(file).size);
        createReadStream(file).pipe(response);
      });
    },
    closeBundle() {
      for (const name of names) {
        const source = join(from, name);
        if (!existsSync(join(source, 'tabreel.json'))) {
          this.warn(`models/${name}/tabreel.json is missing: the page is built without a model`);
          continue;
        }
        const card = cardWithFiles(source);
        const target = join(outDir, 'models', name);
        for (const { path } of card.files ?? []) cpSync(join(source, path), join(target, path));
        writeFileSync(join(target, 'tabreel.json'), JSON.stringify(card, null, 2));
      }
    },
  };
}

/** The card as written, with each file's true length and hash: what is served is what is promised. */
function cardWithFiles(folder: string): Card {
  const card = JSON.parse(readFileSync(join(folder, 'tabreel.json'), 'utf8')) as Card;
  const paths = card.files?.map(({ path }) => path) ?? listFiles(folder);
  const files = paths.map((path) => {
    const bytes = readFileSync(join(folder, path));
    return { path, bytes: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex') };
  });
  return { ...card, files };
}

function listFiles(folder: string, prefix = ''): string[] {
  return readdirSync(join(folder, prefix), { withFileTypes: true })
    .flatMap((entry) => {
      const path = prefix === '' ? entry.name : `${prefix}/${entry.name}`;
      return entry.isDirectory() ? listFiles(folder, path) : [path];
    })
    .filter((path) => NEEDED.test(path) && path !== 'tabreel.json')
    .sort();
}
