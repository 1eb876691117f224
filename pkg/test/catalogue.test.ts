import { describe, expect, test } from 'vitest';
import shippedJson from '../../models/models.json';
import smallWorld from '../../models/small-world/tabreel.json';
import { parseCard } from '../src/card.js';
import {
  addressIn,
  cardBytes,
  catalogue,
  entryBytes,
  filesOf,
  formatCatalogue,
  judgeEntry,
  judgePlan,
  memoryBudget,
  parseCatalogue,
  resolveOptions,
  type Backend,
  type CatalogueEntry,
  type Plan,
  type Support,
} from '../src/index.js';

const shipped = parseCatalogue(shippedJson);
const byId = (id: string): CatalogueEntry => shipped.models.find((entry) => entry.id === id)!;

const license = { spdx: 'MIT', link: 'https://example.org/license' };
const small = { id: 'mine', name: 'Mine', kind: 'text-to-video', license, files: [{ part: 'model', url: 'models/mine/', bytes: 7 }] };
const text = (...models: object[]): string => JSON.stringify({ tabreel: 1, hosts: { hub: 'https://hub.example' }, models });

test('the catalogue that ships is sound, and what it says of the default model is so', () => {
  expect(shipped.models.map(({ id }) => id)).toEqual(['small-world', 'wan2.1-t2v-1.3b', 'wan2.1-vace-1.3b', 'wan2.2-ti2v-5b']);
  const card = parseCard(JSON.stringify(smallWorld), 'card');
  expect(entryBytes(byId('small-world'))).toBe(cardBytes(card));
  expect(byId('small-world').license.spdx).toBe(card.license);
  for (const entry of shipped.models) {
    for (const name of Object.keys(entry.presets)) {
      const rules = { widthMultiple: 16, heightMultiple: 16, frameMultiple: 4, defaults: {}, presets: entry.presets, loras: 1 };
      expect(resolveOptions({ prompt: 'a', preset: name }, rules)).not.toHaveProperty('preset');
    }
  }
});

test('what is written is read again', () => {
  expect(parseCatalogue(formatCatalogue(shipped))).toEqual(shipped);
});

test.each([
  ['{', 'list.json is not JSON'],
  ['[]', 'list.json: the file must be an object, got []'],
  ['{ "models": [] }', 'list.json: tabreel must be 1, the form of catalogue that is known, got nothing'],
  [text({ ...small, id: 'My model' }), 'models[0].id must be small letters, digits, ".", "_" and "-", got "My model"'],
  [text(small, small), 'models must be a list of models with different ids, got "mine" twice'],
  [text({ ...small, licence: 'MIT' }), 'models[0].licence must be left out: known here are id, name,'],
  [text({ ...small, license: undefined }), 'models[0].license must be an object, got nothing'],
  [
    text({ ...small, license: { spdx: 'MIT', link: 'javascript:alert(1)' } }),
    'license.link must be an http(s) address, a path beside the page',
  ],
  [text({ ...small, files: [] }), 'models[0].files must be files with a "model" or a "transformer" among them, got []'],
  [
    text({ ...small, files: [{ part: 'model', url: 'm/', bytes: 1.5 }] }),
    'models[0].files[0].bytes must be a whole number, 1 or more, got 1.5',
  ],
  [text({ ...small, files: [{ part: 'model', url: 'm/', sha256: 'beef' }] }), 'files[0].sha256 must be 64 hexadecimal digits, got "beef"'],
  [
    text({ ...small, files: [{ part: 'model', url: '{moon}/m/' }] }),
    'files[0].url must be an address whose host stands in "hosts", got "{moon}/m/"',
  ],
  [text({ ...small, files: [{ part: 'model' }] }), 'files[0] must be a file with either "url" or "file"'],
  [text({ ...small, files: [{ part: 'unet', url: 'm/' }] }), 'files[0].part must be one of model, transformer, text_encoder,'],
  [text({ ...small, presets: { few: { sigmas: [0.5, 0.9] } } }), 'sigmas must fall from one to the next, got 0.5, 0.9'],
  [text({ ...small, presets: { few: { steps: 4 } } }), 'presets.few.steps must be a setting of that kind, got 4'],
  [text({ ...small, presets: { few: { num_steps: '4' } } }), 'presets.few.num_steps must be a setting of that kind, got "4"'],
  [text({ ...small, presets: { few: { lora: 'x' } } }), 'presets.few.lora must be the name of a "lora" among the files, got "x"'],
  [text({ ...small, memory: { kept_bytes: 1, streamed_bytes: 1, at: [1, 2] } }), 'memory.at must be width, height and frames, got [1,2]'],
])('%s is refused with file, field and rule', (json, words) => {
  expect(() => parseCatalogue(json, 'list.json')).toThrow(words);
});

const support = (change: Partial<Support> = {}, binding = 2 ** 30): Support => ({
  webgpu: true,
  secureContext: true,
  wasmSimd: true,
  features: { 'shader-f16': false, 'timestamp-query': false, subgroups: false },
  limits: { maxStorageBufferBindingSize: binding },
  memory: {},
  ok: true,
  recommended: 'gpu',
  reason: 'Clips are made on the GPU.',
  ...change,
});

test('an entry is judged by what the adapter allows, with the reason', () => {
  const entry = byId('wan2.1-vace-1.3b');
  const judged = (binding: number, change: Partial<Support> = {}): unknown => judgeEntry(entry, support(change, binding));
  expect(judged(2 ** 32)).toEqual({
    verdict: 'fits',
    runs: true,
    reason: 'needs 3.1 GB, the adapter allows 6.4 GB (a clip of 512×288×33)',
  });
  expect(judged(2 ** 30)).toMatchObject({ verdict: 'streams', runs: true });
  expect(judged(2 ** 27)).toEqual({ verdict: 'too-large', runs: false, reason: 'needs 2.1 GB, the adapter allows 1.1 GB' });
  expect(judged(2 ** 32, { memory: { storageFreeBytes: 2e9 } })).toMatchObject({
    reason: expect.stringContaining('its 5.1 GB of files cannot be kept on this device, where 2.0 GB are free'),
  });
  expect(judged(2 ** 32, { recommended: 'cpu' })).toEqual({
    verdict: 'unsupported',
    runs: false,
    reason: 'needs a GPU, and clips are made on the CPU here',
  });
  expect(judgeEntry(byId('wan2.1-t2v-1.3b'), support({ recommended: 'cpu' }))).toEqual({
    verdict: 'streams',
    runs: true,
    reason: 'needs 1.6 GB on the CPU, where 2.1 GB are allowed, layer by layer: a clip takes hours, a GPU is advised',
  });
  expect(judgeEntry(entry, support({ recommended: 'none', reason: 'This browser lacks WebAssembly SIMD.' }))).toMatchObject({
    verdict: 'unsupported',
    reason: 'this browser lacks WebAssembly SIMD',
  });
  expect(judgeEntry({ ...entry, memory: undefined }, support()).verdict).toBe('unknown');
  expect(memoryBudget(support(), 'cpu')).toBe(2 ** 31);
  // A buffer that cannot be made cannot be bound either.
  expect(memoryBudget({ limits: { maxStorageBufferBindingSize: 2 ** 31, maxBufferSize: 2 ** 30 } }, 'gpu')).toBe(2 ** 31);
});

describe('a plan from headers is judged', () => {
  const part = { bytes: 4e8, streamed: false, keptBytes: 4e8, passingBytes: 0 };
  const plan = (change: Partial<Plan> = {}): Plan => ({
    budget: 2 ** 31,
    textEncoder: part,
    transformer: part,
    vae: part,
    residentBytes: 12e8,
    loadBytes: 13e8,
    peakBytes: 25e8,
    ...change,
  });
  const judged = (change: Partial<Plan>, device: Backend = 'cpu', memory: Support['memory'] = {}): unknown =>
    judgePlan(plan(change), device, { memory });

  test('by what is allowed, in words', () => {
    expect(judged({})).toEqual({
      verdict: 'fits',
      runs: true,
      reason:
        'on the CPU it needs 1.2 GB for its weights, 1.3 GB while it loads, at least 2.5 GB for a clip of its own size; 2.1 GB are allowed for weights',
      caution: undefined,
    });
    expect(judged({ residentBytes: 3e9 }, 'gpu')).toMatchObject({
      verdict: 'too-large',
      runs: false,
      reason: expect.stringMatching(/^on the GPU it needs 3\.0 GB .* up to 2\.5 GB .*; 2\.1 GB are allowed/),
    });
    expect(judged({ transformer: { ...part, streamed: true } }, 'gpu')).toMatchObject({
      verdict: 'streams',
      runs: true,
      reason: expect.stringMatching(/layers are read again in each step$/),
    });
  });

  test('and by what the device reports', () => {
    const caution = (peakBytes: number, device: Backend, deviceGiB?: number): unknown =>
      (judged({ peakBytes }, device, deviceGiB === undefined ? {} : { deviceGiB }) as { caution?: string }).caution;
    expect(caution(25e8, 'cpu', 2)).toBe(
      'a clip of its own size needs 2.5 GB or more, and this device has 2.1 GB by what the browser says: choose a smaller size or fewer frames',
    );
    expect(caution(2 ** 31, 'cpu', 2)).toBeUndefined();
    expect(caution(25e8, 'cpu', 4)).toBeUndefined();
    // Main memory is not the GPU's.
    expect(caution(25e8, 'gpu', 2)).toBeUndefined();
    expect(caution(2 ** 32, 'cpu', 8)).toBeUndefined();
    expect(caution(2 ** 32 + 1, 'cpu')).toBe(
      'a clip of its own size needs 4.3 GB or more, a tab can have 4.3 GB: choose a smaller size or fewer frames',
    );
  });
});

function storage(kept: Record<string, string> = {}): {
  kept: Record<string, string>;
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
} {
  return {
    kept,
    getItem: (key) => kept[key] ?? null,
    setItem: (key, value) => void (kept[key] = value),
  };
}

test('own entries are added, kept, exported, imported and removed', () => {
  const store = storage();
  const models = catalogue({ builtIn: shipped, storage: store });
  const [entry] = models.import(text({ ...small, files: [{ part: 'model', url: '{hub}/me/mine/' }] }));
  expect(entry).toMatchObject({ id: 'mine', own: true, files: [{ url: 'https://hub.example/me/mine/' }] });
  expect(
    catalogue({ builtIn: shipped, storage: store })
      .list()
      .map(({ id }) => id),
  ).toEqual([...shipped.models.map(({ id }) => id), 'mine']);
  models.add({ ...entry!, name: 'Mine again' });
  expect(models.list().filter(({ id }) => id === 'mine')).toMatchObject([{ name: 'Mine again' }]);
  const other = catalogue({ builtIn: shipped, storage: storage() });
  other.import(models.export());
  expect(other.list()).toEqual(models.list());
  expect(parseCatalogue(models.export(['wan2.2-ti2v-5b'])).models[0]).toMatchObject({ id: 'wan2.2-ti2v-5b' });
  expect(() => models.import(text({ ...small, id: 'small-world' }))).toThrow('id must be another than the site\'s own "small-world"');
  expect(() => models.add({ ...entry!, id: 'UPPER' })).toThrow('the entry "Mine": models[0].id must be small letters');
  expect(models.remove('mine')).toBe(true);
  expect(models.remove('small-world')).toBe(false);
  expect(models.list()).toHaveLength(shipped.models.length);
});

test('a damaged store costs what is damaged, and even that is put aside', () => {
  const good = JSON.parse(text(small, { ...small, id: 'broken', kind: 'poem' })) as object;
  const store = storage({ 'tabreel.catalogue': JSON.stringify(good) });
  const models = catalogue({ storage: store });
  expect(models.list().map(({ id }) => id)).toEqual(['mine']);
  expect(models.problem).toContain('an own entry is left out: the kept entries: models[0].kind must be one of');
  models.remove('mine');
  expect(store.kept['tabreel.catalogue.damaged']).toContain('poem');
  expect(models.list()).toEqual([]);
  expect(models.problem).toBeUndefined();

  const early = storage({ 'tabreel.catalogue': text({ ...small, id: 'small-world' }) });
  expect(catalogue({ builtIn: shipped, storage: early }).list()).toEqual(shipped.models);

  const nonsense = catalogue({ storage: storage({ 'tabreel.catalogue': '{"models": 7' }) });
  expect(nonsense.list()).toEqual([]);
  expect(nonsense.problem).toContain('own entries cannot be read');

  const full = catalogue({
    storage: {
      getItem: () => null,
      setItem: () => {
        throw new Error('the quota is exceeded');
      },
    },
  });
  full.import(text(small));
  expect(full.list()).toHaveLength(1);
  expect(full.problem).toBe('own entries last only until this tab closes: the quota is exceeded');
});

test('an entry becomes what load() takes, with the LoRA that its preset needs and other hosts', () => {
  const entry = byId('wan2.1-t2v-1.3b');
  const models = catalogue({ builtIn: shipped, hosts: { hub: 'https://mirror.example/' }, storage: storage() });
  const plain = models.model(entry);
  expect(plain.transformer).toMatchObject({ url: expect.stringMatching(/^https:\/\/mirror\.example\/Comfy-Org\//) });
  expect(plain).not.toHaveProperty('loras');
  expect(models.model(entry, { preset: 'self-forcing' }).loras).toMatchObject([{ file: { url: expect.stringContaining('self_forcing') } }]);
  expect(filesOf(entry).map(({ part }) => part)).toEqual(['transformer', 'textEncoder', 'vae']);
  const bytes = new Uint8Array(8);
  expect(models.model(entry, { files: { vae: bytes } }).vae).toBe(bytes);
  expect(models.model(byId('small-world'))).toMatchObject({ model: 'models/small-world/' });
  expect(() => models.model(entry, { preset: 'fast' })).toThrow(
    'preset of Wan 2.1 T2V 1.3B must be one of full, self-forcing, rcm, got "fast"',
  );
  const [own] = models.import(text({ ...small, files: [{ part: 'transformer', file: 'a.gguf' }] }));
  expect(() => models.model(own!)).toThrow('Mine needs a file of yours, "a.gguf" (transformer): choose it again');
  expect(addressIn({}, { url: 'models/x/' })).toBe('models/x/');
});
