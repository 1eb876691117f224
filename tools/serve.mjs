// A small static file server: what `npm start` serves and the browser tests load.
import { closeSync, createReadStream, existsSync, fstatSync, openSync, readFileSync, statSync } from 'node:fs';
import { createServer } from 'node:http';
import { extname, join, normalize, resolve, sep } from 'node:path';
import { pipeline } from 'node:stream';
import { root } from './common.mjs';
import { isFresh } from './compress.mjs';

/** The command line's server sends the same: `tabreel serve`. */
const { headers: everywhere, types } = JSON.parse(readFileSync(join(root, 'crate/src/cli/serve/served.json'), 'utf8'));
/** Codings a file may have a sibling of (compress.mjs), best first. */
const codings = { br: '.br', gzip: '.gz' };
/** Vite puts the hash of the contents into these names: what has the name never changes. */
const HASHED = /\/assets\/.+-[\w-]{8}\.\w+$/;

/**
 * Serves `folder` on localhost; port 0 picks a free one. Resolves to the address and a function that stops it.
 * `extra` are headers for every answer.
 */
export async function serve(folder, port = 0, extra = {}) {
  const base = resolve(folder);
  const server = createServer((request, response) => {
    const file = find(base, new URL(request.url ?? '/', 'http://localhost').pathname);
    if (!file || (request.method !== 'GET' && request.method !== 'HEAD')) {
      response.writeHead(file ? 405 : 404, { ...everywhere, 'content-type': 'text/plain' }).end(file ? 'GET only' : 'not found');
      return;
    }
    // A range is of the file as it is, so only the whole of it is sent compressed.
    const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '');
    const coding = range ? undefined : bestCoding(file, request.headers['accept-encoding'] ?? '');
    const sent = coding ? file + codings[coding] : file;
    // Opened now: a sibling may be replaced by a smaller one meanwhile (start.mjs).
    const fd = openSync(sent);
    const { size } = fstatSync(fd);
    const [start, end] = range ? [Number(range[1]), Math.min(Number(range[2] || size - 1), size - 1)] : [0, size - 1];
    const headers = {
      ...everywhere,
      ...extra,
      'content-type': types[extname(file).slice(1)] ?? 'application/octet-stream',
      'accept-ranges': 'bytes',
    };
    headers['cache-control'] = HASHED.test(file) ? 'public, max-age=31536000, immutable' : 'no-cache';
    if (hasSibling(file)) headers.vary = 'accept-encoding';
    if (coding) headers['content-encoding'] = coding;
    if (range && start > end) {
      closeSync(fd);
      response.writeHead(416, { 'content-range': `bytes */${size}` }).end();
      return;
    }
    if (range) headers['content-range'] = `bytes ${start}-${end}/${size}`;
    response.writeHead(range ? 206 : 200, { ...headers, 'content-length': end - start + 1 });
    if (request.method === 'HEAD' || size === 0) {
      closeSync(fd);
      response.end();
      return;
    }
    pipeline(createReadStream(sent, { fd, start, end }), response, () => undefined);
  });
  await new Promise((done, fail) => server.once('error', fail).listen(port, 'localhost', done));
  const close = () => new Promise((done) => (server.close(done), server.closeAllConnections()));
  return { url: `http://localhost:${server.address().port}/`, close };
}

const hasSibling = (file) => Object.values(codings).some((suffix) => isFresh(file + suffix, file));

/** The best coding that the client takes and the file has a sibling of, or undefined. `q=0` refuses one. */
function bestCoding(file, accepted) {
  const weights = accepted.split(',').map((part) =>
    part
      .trim()
      .toLowerCase()
      .split(/\s*;\s*q=/),
  );
  const takes = (name) => weights.some(([coding, weight = '1']) => coding === name && Number(weight) > 0);
  return Object.keys(codings).find((name) => takes(name) && isFresh(file + codings[name], file));
}

/** The file a path names, or undefined when it is missing or outside the folder. */
function find(base, pathname) {
  let path;
  try {
    path = join(base, normalize(decodeURIComponent(pathname)));
  } catch {
    return undefined;
  }
  if (path !== base && !path.startsWith(base + sep)) return undefined;
  if (existsSync(path) && statSync(path).isDirectory()) path = join(path, 'index.html');
  return existsSync(path) ? path : undefined;
}
