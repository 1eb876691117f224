// A web server that can be told to misbehave, request by request: what a download must survive or refuse in words.
import { createHash } from 'node:crypto';
import { createServer } from 'node:http';

const CHUNK = 256 * 1024;

const tags = new WeakMap();
/** By contents; hashed once. */
function tagOf(content) {
  if (typeof content === 'string') return `"${content.length}"`;
  if (!tags.has(content)) tags.set(content, `"${createHash('sha1').update(content).digest('hex')}"`);
  return tags.get(content);
}

/** Until a response takes more, or is gone. */
function flowing(response) {
  return new Promise((done) => {
    const end = () => (response.off('drain', end).off('close', end), done());
    response.on('drain', end).on('close', end);
  });
}

/**
 * Serves `files` (path → bytes) with ranges, ETags and CORS. `fault(asked)` may return, for one request:
 * `status`, `headers`, `ignoreRange` (200 with the whole), `cutAfter` (the connection breaks after so many bytes),
 * `endAfter` (the body ends in good order, without a length), `stallAfter` (then nothing more), `shift` (a range that
 * begins so many bytes later), `total` (another length in Content-Range), `version` (another ETag; null for none),
 * `body` (other bytes), `html`, `delay` (ms before the answer).
 */
export async function startFaultyServer() {
  const state = { files: new Map(), requests: [], fault: () => undefined };
  const counts = new Map();
  const server = createServer(async (request, response) => {
    const path = new URL(request.url, 'http://x').pathname;
    const given = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '');
    const nth = counts.get(path) ?? 0;
    counts.set(path, nth + 1);
    const range = given ? [Number(given[1]), Number(given[2]) + 1] : undefined;
    const asked = { path, method: request.method, range, headers: request.headers, nth };
    state.requests.push(asked);
    const fault = state.fault(asked) ?? {};
    const cors = {
      'access-control-allow-origin': '*',
      'access-control-allow-headers': '*',
      'access-control-expose-headers': 'ETag, Content-Range',
    };
    if (fault.delay) await new Promise((done) => setTimeout(done, fault.delay));
    if (fault.html) return void response.writeHead(200, { ...cors, 'content-type': 'text/html' }).end('<!doctype html>');
    const found = fault.body ?? state.files.get(path);
    if (request.method === 'OPTIONS') return void response.writeHead(204, cors).end();
    if (fault.status || found === undefined) return void response.writeHead(fault.status ?? 404, { ...cors, ...fault.headers }).end('no');
    const content = typeof found === 'string' ? Buffer.from(found) : found;
    const etag = fault.version === undefined ? tagOf(found) : fault.version;
    const headers = { ...cors, 'content-type': 'application/octet-stream', ...(etag && { etag }), ...fault.headers };
    let [start, end] = [0, content.length];
    let status = 200;
    if (range && !fault.ignoreRange) {
      start = range[0] + (fault.shift ?? 0);
      end = Math.min(content.length, range[1] + (fault.shift ?? 0));
      headers['content-range'] = `bytes ${start}-${end - 1}/${fault.total ?? content.length}`;
      status = 206;
      if (start >= content.length) return void response.writeHead(416, { ...cors, 'content-range': `bytes */${content.length}` }).end();
    }
    if (fault.endAfter === undefined) headers['content-length'] = end - start;
    response.writeHead(status, headers);
    if (request.method === 'HEAD') return void response.end();
    const stop = Math.min(end, start + (fault.cutAfter ?? fault.endAfter ?? fault.stallAfter ?? Infinity));
    for (let at = start; at < stop && !response.destroyed; at += CHUNK) {
      const more = response.write(content.subarray(at, Math.min(stop, at + CHUNK)));
      if (!more) await flowing(response);
    }
    if (fault.stallAfter !== undefined) return;
    if (fault.cutAfter !== undefined && stop < end) setTimeout(() => response.destroy(), 5);
    else response.end();
  });
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  const close = () => new Promise((done) => (server.close(done), server.closeAllConnections()));
  return Object.assign(state, { url: `http://127.0.0.1:${server.address().port}/`, close });
}
