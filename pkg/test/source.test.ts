import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import { startFaultyServer, type FaultyServer } from '../../tests/faulty-server.mjs';
import { parseCard, type ModelCard } from '../src/card.js';
import { describeModel, findFolder, type ModelSource } from '../src/source/index.js';
import { deleteKept, keptModels, verifyKept } from '../src/source/kept-models.js';
import { blobSource } from '../src/source/memory.js';
import { Meter, type FetchProgress } from '../src/source/meter.js';
import { openFolder, type OpenOptions } from '../src/source/open.js';
import { PART_BYTES } from '../src/source/parts.js';
import { addressOf, remoteFolder } from '../src/source/remote.js';
import { ModelStore } from '../src/source/store.js';
import { Sha256, sha256 } from '../src/source/sha256.js';
import { caught, randomBytes } from './fakes.js';

const timing = { stallMs: 700, firstTries: 2, tries: 3, backoffMs: 1, longestWaitMs: 5 };
const config = new TextEncoder().encode('{"dim": 4}');
const weights = randomBytes(100_000);

let server: FaultyServer;
beforeAll(async () => void (server = await startFaultyServer()));
afterAll(() => server.close());
beforeEach(async () => {
  server.files.clear();
  server.fault = () => undefined;
  server.requests.length = 0;
  server.files.set('/m/config.json', config).set('/m/transformer/model.gguf', weights);
  writeCard({ sha256: await sha256(weights) });
});
afterEach(() => vi.unstubAllGlobals());

function writeCard(extra: object): void {
  const files = [
    { path: 'config.json', bytes: config.length },
    { path: 'transformer/model.gguf', bytes: weights.length, ...extra },
  ];
  server.files.set('/m/tabreel.json', JSON.stringify({ name: 'small', files }));
}

const base = (): string => `${server.url}m/`;

async function readAll(model: ModelSource = base(), options: OpenOptions = {}): Promise<Map<string, Uint8Array>> {
  const folder = findFolder(model);
  const card = await folder.card(options.signal);
  const open = await openFolder(folder.describe(card, true), { timing, ...options });
  const files = new Map<string, Uint8Array>();
  for (const file of open.files) files.set(file.label, await file.read(0, file.size));
  await open.finish();
  open.close();
  return files;
}

test('SHA-256 in pieces is what WebCrypto says', async () => {
  for (const length of [0, 1, 55, 56, 63, 64, 65, 119, 120, 1000, 70_001]) {
    const bytes = randomBytes(length);
    const hash = new Sha256();
    for (let at = 0, step = 1; at < length; at += step, step = (step * 7) % 193) hash.update(bytes.subarray(at, at + step));
    expect(hash.hex(), `${length} bytes`).toBe(await sha256(bytes));
  }
});

test('a folder on a server is read, counted over all its files, and without storage it is said that nothing is kept', async () => {
  const seen: FetchProgress[] = [];
  const warnings: string[] = [];
  const onWarning = (message: string): void => void warnings.push(message);
  const files = await readAll(base(), { onProgress: (progress) => seen.push(progress), onWarning });
  expect(files.get('config.json')).toEqual(new Uint8Array(config));
  expect(files.get('transformer/model.gguf')).toEqual(weights);
  const total = config.length + weights.length;
  expect(seen.at(-1)).toMatchObject({
    loaded: total,
    total,
    what: 'transformer/model.gguf',
    fileLoaded: weights.length,
    fromDevice: false,
  });
  expect(seen.map(({ loaded }) => loaded)).toEqual(seen.map(({ loaded }) => loaded).sort((a, b) => a - b));
  expect(warnings).toEqual(['the model is not kept on this device: this browser gives the page no storage']);
  expect([await keptModels(), await verifyKept(), await deleteKept()]).toEqual([[], [], undefined]);
});

test('a look at a header fetches one part of a long file, and reading on those ahead', async () => {
  const long = new Uint8Array(4 * PART_BYTES);
  server.files.set('/m/transformer/model.gguf', long);
  const files = [{ path: 'transformer/model.gguf', bytes: long.length }];
  server.files.set('/m/tabreel.json', JSON.stringify({ name: 'long', files }));
  const parts = async (headersOnly: boolean): Promise<number> => {
    const folder = findFolder(base());
    const open = await openFolder(folder.describe(await folder.card(), false), { timing, headersOnly });
    server.requests.length = 0;
    await open.files[0]!.read(0, 100);
    await open.files[0]!.read(100, 1000);
    // What is on its way would be seen by then.
    await new Promise((resolve) => setTimeout(resolve, 100));
    open.close();
    return server.requests.length;
  };
  expect([await parts(true), await parts(false)]).toEqual([1, 3]);
}, 30_000);

test('an aborted signal fetches nothing at all', async () => {
  expect(await caught(readAll(base(), { signal: AbortSignal.abort() }))).toMatchObject({ code: 'aborted' });
  expect(server.requests).toEqual([]);
});

test.each<[string, () => void, string, string]>([
  ['a missing file', () => server.files.delete('/m/config.json'), 'fetch', 'config.json could not be fetched: URLconfig.json answered 404'],
  [
    'a folder without card and index',
    () => server.files.delete('/m/tabreel.json'),
    'fetch',
    'tabreel.json could not be fetched: URLtabreel.json answered 404; model_index.json could not be fetched: URLmodel_index.json answered 404',
  ],
  ['a start page everywhere', () => (server.fault = () => ({ html: true })), 'fetch', 'URLtabreel.json answered with a web page'],
  [
    'a server that is down',
    () => (server.fault = () => ({ status: 503 })),
    'fetch',
    'tabreel.json could not be fetched: URLtabreel.json answered 503',
  ],
  ['a card that is no JSON', () => server.files.set('/m/tabreel.json', '<p>'), 'weights', 'is not JSON'],
  ['a card without files', () => server.files.set('/m/tabreel.json', '{"name":"x"}'), 'weights', 'must list "files"'],
])('%s is an error in words', async (_, breakIt, code, words) => {
  breakIt();
  const error = await caught(readAll());
  expect(error?.code).toBe(code);
  expect(error?.message).toContain(words.replaceAll('URL', base()));
});

test.each(['../x', 'a/../../x', '//other.site/x', 'http://other.site/x', '/x', '%2e%2e/x', 'a\\..\\x', 'a//b', './a', '', 'data:,x'])(
  'a card cannot name %j',
  (path) => {
    const text = JSON.stringify({ files: [{ path, bytes: 1 }] });
    expect(() => parseCard(text, 'card')).toThrow('must name files inside the folder');
  },
);

test.each([7, 'abc', {}])('a hash cannot be %j; null is none', (hash) => {
  const text = (sha256: unknown): string => JSON.stringify({ files: [{ path: 'a', bytes: 1, sha256 }] });
  expect(() => parseCard(text(hash), 'card')).toThrow('must be 64 hexadecimal digits');
  expect(parseCard(text(null), 'card').files).toEqual([{ path: 'a', bytes: 1 }]);
});

test.each<[string, () => void]>([
  ["a portal's words in place of a card", () => server.files.set('/m/tabreel.json', 'Please log in')],
  ['a card of nothing', () => server.files.set('/m/tabreel.json', '{}')],
  ['a start page everywhere', () => (server.fault = () => ({ html: true }))],
])('%s is not believed where a card is kept', async (_, breakIt) => {
  const kept = JSON.stringify({ name: 'kept', files: [{ path: 'config.json', bytes: config.length }] });
  vi.spyOn(ModelStore, 'open').mockResolvedValueOnce({ card: kept } as ModelStore);
  breakIt();
  expect((await describeModel(base())).name).toBe('kept');
});

test('names that look like parts of an address stay names', () => {
  const folder = remoteFolder('https://x.test/a?key=1');
  expect(addressOf(folder, 'b #?%/c.json')).toBe('https://x.test/a/b%20%23%3F%25/c.json?key=1');
});

test.each<[ModelSource, string]>([
  ['https://x.test/a', 'https://x.test/a/f.json'],
  [new URL('https://x.test/a/?k=v'), 'https://x.test/a/f.json?k=v'],
  ['owner/some-model.1', 'https://huggingface.co/owner/some-model.1/resolve/main/f.json'],
  ['https://huggingface.co/owner/name', 'https://huggingface.co/owner/name/resolve/main/f.json'],
  ['https://huggingface.co/owner/name/tree/v2', 'https://huggingface.co/owner/name/resolve/v2/f.json'],
  [{ url: 'owner/name', hub: 'https://mirror.test/' }, 'https://mirror.test/owner/name/resolve/main/f.json'],
  [{ url: 'https://x.test/get?file={path}&t=1' }, 'https://x.test/get?file=f.json&t=1'],
  [{ url: 'https://x.test/{path}/raw' }, 'https://x.test/f.json/raw'],
])('%o has its files at %s', (model, url) => {
  const { url: given, headers, hub } = typeof model === 'object' && 'url' in model ? model : { url: model as string };
  expect(addressOf(remoteFolder(given, headers, hub), 'f.json')).toBe(url);
});

test('a folder without a card is found out: shards by their index, else single files, with their lengths', async () => {
  server.files.clear();
  const put = (path: string, text: string): unknown => server.files.set(`/m/${path}`, text);
  put('model_index.json', '{}');
  put('scheduler/scheduler_config.json', '{"a":1}');
  put('tokenizer/spiece.model', 'words');
  put('text_encoder/config.json', '{}');
  put(
    'text_encoder/model.safetensors.index.json',
    '{"weight_map":{"a":"model-1.safetensors","b":"model-2.safetensors","c":"model-1.safetensors"}}',
  );
  put('text_encoder/model-1.safetensors', 'one');
  put('text_encoder/model-2.safetensors', 'second');
  put('transformer/config.json', '{}');
  put('transformer/diffusion_pytorch_model.safetensors', 'weights');
  put('transformer/model.safetensors', 'not this one');
  put('vae/config.json', '{}');
  put('vae/diffusion_pytorch_model.gguf', 'gguf');
  const headers = { authorization: 'Bearer t' };
  const card = await describeModel({ url: base(), headers });
  expect(card.name).toBe('m');
  expect(Object.fromEntries(card.files.map(({ path, bytes }) => [path, bytes]))).toEqual({
    'model_index.json': 2,
    'scheduler/scheduler_config.json': 7,
    'tokenizer/spiece.model': 5,
    'text_encoder/config.json': 2,
    'text_encoder/model.safetensors.index.json': 94,
    'text_encoder/model-1.safetensors': 3,
    'text_encoder/model-2.safetensors': 6,
    'transformer/config.json': 2,
    'transformer/diffusion_pytorch_model.safetensors': 7,
    'vae/config.json': 2,
    'vae/diffusion_pytorch_model.gguf': 4,
  });
  expect(server.requests.every((asked) => asked.headers['authorization'] === 'Bearer t')).toBe(true);
  // An image encoder is asked for where the index names one.
  expect(card.files.some(({ path }) => path.startsWith('image_encoder'))).toBe(false);
  put('model_index.json', '{"image_encoder":["transformers","CLIPVisionModel"]}');
  put('image_encoder/config.json', '{}');
  put('image_encoder/model.safetensors', 'clip');
  const looks = await describeModel({ url: base(), headers });
  expect(looks.files.filter(({ path }) => path.startsWith('image_encoder/'))).toEqual([
    { path: 'image_encoder/config.json', bytes: 2 },
    { path: 'image_encoder/model.safetensors', bytes: 4 },
  ]);
  put('model_index.json', '{"image_encoder":[null,null]}');
  expect((await describeModel({ url: base(), headers })).files).toHaveLength(card.files.length);
  server.files.delete('/m/text_encoder/model-2.safetensors');
  expect(await caught(describeModel(base()))).toMatchObject({
    code: 'weights',
    message: expect.stringContaining('names text_encoder/model-2.safetensors'),
  });
  server.files.delete('/m/vae/diffusion_pytorch_model.gguf');
  server.files.delete('/m/text_encoder/model.safetensors.index.json');
  expect(await caught(describeModel(base()))).toMatchObject({ code: 'weights', message: expect.stringContaining('no weights in') });
});

test('a folder whose index names no text encoder, as of a model of classes, needs none', async () => {
  server.files.clear();
  const put = (path: string, text: string): unknown => server.files.set(`/m/${path}`, text);
  put('model_index.json', '{"scheduler":["d","S"],"transformer":["d","T"],"vae":["d","V"]}');
  for (const part of ['transformer', 'vae']) put(`${part}/diffusion_pytorch_model.safetensors`, part);
  put('scheduler/scheduler_config.json', '{}');
  const { files } = await describeModel(base());
  expect(files.map(({ path }) => path)).toEqual([
    'model_index.json',
    'scheduler/scheduler_config.json',
    'transformer/diffusion_pytorch_model.safetensors',
    'vae/diffusion_pytorch_model.safetensors',
  ]);
});

test('a folder in hand needs no list and no network; only what a model needs is taken, one level deep', async () => {
  vi.stubGlobal('fetch', () => expect.unreachable('no network is needed'));
  const files = {
    'mine/model_index.json': new Blob(['{}']),
    'mine/vae/config.json': config.slice().buffer,
    'mine/vae/deep/x.safetensors': new Blob(['x']),
    'mine/samples.png': new Blob(['x']),
    'mine/safety_checker/model.safetensors': new Blob(['x']),
    'mine\\tokenizer\\spiece.model': new Blob(['words']),
    'other.json': new Blob(['x']),
  };
  expect((await describeModel({ files })).name).toBe('mine');
  const read = await readAll({ files });
  expect([...read.keys()]).toEqual(['model_index.json', 'vae/config.json', 'tokenizer/spiece.model']);
  expect(read.get('vae/config.json')).toEqual(new Uint8Array(config));
  const picked = Object.entries(files).map(([path, content]) =>
    Object.assign(new File([content], path.split('/').at(-1)!), { webkitRelativePath: path }),
  );
  expect([...(await readAll({ files: picked })).keys()]).toEqual([...read.keys()]);
});

test("of several sets of weights in a component one is taken: the listed shards, else the file of diffusers' own name", async () => {
  const part = 'transformer/diffusion_pytorch_model';
  const files: Record<string, Blob> = Object.fromEntries(
    ['model_index.json', 'vae/anything.safetensors', 'vae/other.safetensors', ...['', '.fp16'].map((mark) => `${part}${mark}.safetensors`)]
      .concat(
        'transformer/pytorch_lora_weights.safetensors',
        `${part}.gguf`,
        'transformer/stale-2.safetensors',
        'transformer/new-1.safetensors',
      )
      .map((path) => [path, new Blob(['{}'])]),
  );
  const kept = async (): Promise<string[]> =>
    [...(await readAll({ files })).keys()].filter((path) => path.startsWith('t') || path.startsWith('v'));
  expect(await kept()).toEqual(['vae/anything.safetensors', 'vae/other.safetensors', `${part}.safetensors`]);
  files[`${part}.safetensors.index.json`] = new Blob(['{"weight_map":{"w":"new-1.safetensors"}}']);
  expect(new Set(await kept())).toEqual(
    new Set([`${part}.safetensors.index.json`, 'transformer/new-1.safetensors', 'vae/anything.safetensors', 'vae/other.safetensors']),
  );
});

test('a folder without model_index.json is refused', () => {
  expect(() => findFolder({ files: { 'a.txt': new Blob([]) } })).toThrow('must hold model_index.json; got 1 files without one');
});

test.each([[7], [null], ['http://'], [{}], [{ url: '' }], [{ files: null }], ['ftp://x/y']])('%o is no model', (model) => {
  expect(() => findFolder(model as never)).toThrow(/^model must be the URL of a model folder/);
});

test('a file that was changed or deleted since it was picked is an error in words', async () => {
  const gone = new Blob(['12345']);
  gone.slice = () => ({ arrayBuffer: () => Promise.reject(new DOMException('gone', 'NotFoundError')) }) as unknown as Blob;
  expect(await caught(blobSource('a.gguf', gone).read(0, 5))).toMatchObject({
    code: 'fetch',
    message: 'a.gguf could not be read: it was changed, moved or deleted since it was picked',
  });
  const shrunk = new Blob(['12345']);
  shrunk.slice = () => new Blob(['12']);
  expect((await caught(blobSource('a.gguf', shrunk).read(0, 5)))?.message).toContain(
    'was changed while it was read: 5 bytes were due, 2 came',
  );
});

test('rate and time left are those of the last ten seconds of network', () => {
  const seen: FetchProgress[] = [];
  let now = 0;
  const meter = new Meter(
    [{ path: 'a', bytes: 1000 }],
    (progress) => seen.push(progress),
    () => now,
  );
  const file = meter.file('a')!;
  file.add(100, 'device');
  expect(seen.at(-1)).toMatchObject({ loaded: 100, fromDevice: true, bytesPerSecond: undefined });
  for (let i = 0; i < 4; i++, now += 1000) file.add(100, 'network');
  expect(seen.at(-1)).toMatchObject({ loaded: 500, fromDevice: false });
  expect(seen.at(-1)!.bytesPerSecond).toBeCloseTo(133.3, 0);
  expect(seen.at(-1)!.secondsLeft).toBeCloseTo(500 / 133.3, 1);
  meter.wait('another tab');
  expect(seen.at(-1)!.waiting).toBe('another tab');
  file.add(900, 'network');
  expect(seen.at(-1)).toMatchObject({ loaded: 1000, waiting: undefined });
});

test('the card tells sizes, defaults and examples in camelCase, and forgives nonsense', async () => {
  const source = JSON.stringify({
    name: 'small',
    license: 'MIT',
    trained_on: 'drawings',
    sizes: [[64, 64], [96, 64], ['x', 1], 7],
    num_frames: [1, 9, -4],
    default: { width: 64, num_steps: 12, guidance_scale: 4, fps: 'many' },
    examples: ['a ball', 5],
    files: [{ path: 'a', bytes: 1 }],
  });
  server.files.set('/m/tabreel.json', source);
  expect(await describeModel(base())).toEqual({
    name: 'small',
    license: 'MIT',
    trainedOn: 'drawings',
    sizes: [
      { width: 64, height: 64 },
      { width: 96, height: 64 },
    ],
    numFrames: [1, 9],
    defaults: { width: 64, numSteps: 12, guidanceScale: 4 },
    presets: {},
    examples: ['a ball'],
    vocabulary: undefined,
    files: [{ path: 'a', bytes: 1 }],
    source,
  } satisfies ModelCard);
});
