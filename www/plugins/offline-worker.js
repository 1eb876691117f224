// The page's service worker. The build (offline.ts) puts VERSION and FILES (path → SHA-256) in front of it.
//
// Each version has a cache of its own. The start page comes from the network when there is one, so that a server that
// was updated, or another project on the same port of localhost, is never hidden; all other files have the hash of their
// contents in their names or are checked against FILES, and come from the cache. A page of an older version finds its
// own worker script and wasm in its version's cache, which stays until no page of that version is open.

const PREFIX = 'tabreel-page ';
const CACHE = `${PREFIX}${VERSION}`;
/** Header of a kept file: its SHA-256. */
const HASH = 'x-tabreel-sha256';
/** How long a page waits for a network that does not answer, ms. */
const PATIENCE = 3000;
/** How long a page may take to say of which version it is, ms. A page in the background may be frozen. */
const ANSWER = 2000;

const scope = self.registration.scope;
const addressOf = (path) => new URL(path, scope).href;

self.addEventListener('install', (event) => event.waitUntil(keepAll()));
self.addEventListener('activate', (event) => event.waitUntil(self.clients.claim().then(tidy)));
self.addEventListener('message', (event) => {
  if (event.data?.type === 'version') event.ports[0]?.postMessage(VERSION);
  if (event.data?.type === 'take-over') event.waitUntil(self.skipWaiting());
  if (event.data?.type === 'opened') event.waitUntil(tidy());
});
self.addEventListener('fetch', (event) => {
  const { request } = event;
  const url = new URL(request.url);
  if (request.method !== 'GET' || !url.href.startsWith(scope)) return;
  const path = url.pathname.slice(new URL(scope).pathname.length);
  // A browser whose cache fails must not lose a page that the network has.
  if (path === '' || path === 'index.html') event.respondWith(startPage(request).catch(() => fetch(request)));
  // Models are the package's business; what no version lists is the server's.
  else if (!path.startsWith('models/')) event.respondWith(file(request, path).catch(() => fetch(request)));
});

/** All files of this version, or an error: the browser then keeps the old worker and tries again at a later visit. */
async function keepAll() {
  const cache = await caches.open(CACHE);
  try {
    for (const [path, hash] of Object.entries(FILES)) {
      const url = addressOf(path);
      const kept = await caches.match(url, { ignoreVary: true });
      // The engine rarely changes: take over what an older version, or a broken off install, has fetched.
      if (kept?.headers.get(HASH) === hash) await cache.put(url, kept);
      else await cache.put(url, await fetched(url, path, hash));
    }
  } catch (error) {
    // Without room for all, none helps; and the room is better left to models.
    if (error.name === 'QuotaExceededError') await caches.delete(CACHE);
    throw error;
  }
}

/** A file from the network, checked: in the middle of an update a server may hand out files of two versions. */
async function fetched(url, path, hash) {
  // A name with a hash in it may come from the browser's own cache: the page has just fetched it.
  const response = await fetch(url, { cache: path.startsWith('assets/') ? 'default' : 'no-cache' });
  if (!response.ok) throw new Error(`${path} could not be kept: ${url} answered ${response.status}`);
  const bytes = await response.arrayBuffer();
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  const found = Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
  if (found !== hash) throw new Error(`${path} could not be kept: its SHA-256 must be ${hash}, got ${found}`);
  // The body is no longer compressed, so the headers that described the transfer must not be kept.
  const type = response.headers.get('content-type') ?? 'application/octet-stream';
  return new Response(bytes, { headers: { 'content-type': type, 'content-length': String(bytes.byteLength), [HASH]: hash } });
}

async function startPage(request) {
  const kept = await ownFile('index.html');
  if (kept === undefined) return fetch(request);
  const network = fetch(request).then((response) => (response.status >= 500 ? kept : response));
  const patience = new Promise((done) => setTimeout(done, PATIENCE, kept));
  return Promise.race([network.catch(() => kept), patience]);
}

async function file(request, path) {
  const kept = (await ownFile(path)) ?? (await caches.match(addressOf(path), { ignoreVary: true }));
  if (kept === undefined) return fetch(request);
  const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.get('range') ?? '');
  return range ? part(kept, Number(range[1]), range[2]) : kept;
}

/** Players ask for videos in parts, and some refuse the whole. */
async function part(kept, start, last) {
  const body = await kept.blob();
  const end = last === '' ? body.size : Math.min(Number(last) + 1, body.size);
  if (start >= end) return new Response(null, { status: 416, headers: { 'content-range': `bytes */${body.size}` } });
  const headers = { 'content-type': body.type, 'content-range': `bytes ${start}-${end - 1}/${body.size}` };
  return new Response(body.slice(start, end, body.type), { status: 206, headers });
}

async function ownFile(path) {
  if (!(path in FILES)) return undefined;
  return (await caches.open(CACHE)).match(addressOf(path), { ignoreVary: true });
}

/** Deletes the caches of versions of which no page is open; none while a page does not answer, or one waits to start. */
async function tidy() {
  const pages = await self.clients.matchAll({ type: 'window', includeUncontrolled: true });
  const open = await Promise.all(pages.filter((page) => page.url.startsWith(scope)).map(versionOf));
  if (open.includes(undefined) || self.registration.waiting || self.registration.installing) return;
  const needed = new Set([CACHE, ...open.map((version) => `${PREFIX}${version}`)]);
  const names = (await caches.keys()).filter((name) => name.startsWith(PREFIX) && !needed.has(name));
  await Promise.all(names.map((name) => caches.delete(name)));
}

/** The version of an open page, or undefined if it does not say in time. */
function versionOf(page) {
  return new Promise((done) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = ({ data }) => done(data);
    setTimeout(done, ANSWER);
    page.postMessage({ type: 'version' }, [port2]);
  });
}
