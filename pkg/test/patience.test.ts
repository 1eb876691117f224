/** Browsers that never answer: each kind of question to one ends, in the answer that costs least. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { keepKernelReport, keptKernelReport, deleteKernelReports } from '../src/kernel-report.js';
import { inTime, isLate } from '../src/patience.js';
import { readClip } from '../src/read-clip.js';
import { readPicture } from '../src/read-picture.js';
import { deleteKept, keptModels } from '../src/source/kept-models.js';
import { openSync } from '../src/source/opfs.js';
import { ModelStore, lockModel, noRoomFor } from '../src/source/store.js';
import { StoredFile } from '../src/source/stored-file.js';
import { probe } from '../src/support.js';
import { encodableCodecs } from '../src/video.js';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

const never = (): Promise<never> => new Promise(() => undefined);

/** What it settles to within `secs`; fails where it stays open. */
async function settled<T>(promise: Promise<T>, secs = 90): Promise<T | Error> {
  let result: { value: T | Error } | undefined;
  promise.then(
    (value) => (result = { value }),
    (error: Error) => (result = { value: error }),
  );
  await vi.advanceTimersByTimeAsync(secs * 1000);
  if (result === undefined) throw new Error(`still open after ${secs} s`);
  return result.value;
}

/** OPFS whose folders hold what `files` says; `undefined` never comes. */
function storage(folder: () => Promise<unknown>): object {
  return { storage: { getDirectory: async () => ({ getDirectoryHandle: folder }) } };
}

test('what comes in time is given, what fails is told, and what comes late is let go of', async () => {
  expect(await inTime(Promise.resolve(7), 'it')).toBe(7);
  await expect(inTime(Promise.reject(new Error('no')), 'it')).rejects.toThrow('no');
  const late = vi.fn();
  const slow = new Promise<number>((resolve) => setTimeout(resolve, 8000, 9));
  const error = await settled(inTime(slow, 'the cache', 5000, late), 6);
  expect((error as Error).message).toBe('no answer from the cache within 5 s');
  expect([isLate(error), late.mock.calls]).toEqual([true, []]);
  await vi.advanceTimersByTimeAsync(3000);
  expect(late).toHaveBeenCalledExactlyOnceWith(9);
});

test('VideoEncoder: what is not answered cannot be encoded', async () => {
  const isConfigSupported = vi.fn(never);
  vi.stubGlobal('VideoEncoder', { isConfigSupported });
  expect(await settled(encodableCodecs('webm', 70, 70))).toEqual([]);
  expect(isConfigSupported).toHaveBeenCalled();
});

test('WebGPU and storage: the CPU, and nothing about room', async () => {
  vi.stubGlobal('navigator', { gpu: { requestAdapter: never }, storage: { estimate: never } });
  const support = await settled(probe());
  expect(support).toMatchObject({ recommended: 'cpu', memory: {}, adapterError: 'no answer from WebGPU within 10 s' });
});

test('the cache: as if it were empty', async () => {
  const adapter = { vendor: 'acme', architecture: 'one', description: '', isFallback: false };
  for (const caches of [
    { open: never, delete: never },
    { open: async () => ({ match: never, put: never }), delete: never },
  ]) {
    vi.stubGlobal('caches', caches);
    expect(await settled(keptKernelReport(adapter))).toBeUndefined();
    expect(await settled(keepKernelReport(adapter, { revision: '00', findings: [] }))).toBeUndefined();
    expect(await settled(deleteKernelReports())).toBeUndefined();
  }
});

test.each([
  ['the root', { storage: { getDirectory: never } }],
  ['the folder', storage(never)],
  ['the list', storage(async () => ({ keys: () => ({ [Symbol.asyncIterator]: () => ({ next: never }) }) }))],
  [
    'a model',
    storage(async () => ({
      getDirectoryHandle: never,
      keys: async function* () {
        yield 'm';
      },
    })),
  ],
])('the file store (%s): nothing is kept', async (_, navigator) => {
  vi.stubGlobal('navigator', navigator);
  expect(await settled(keptModels())).toEqual([]);
  expect(await settled(ModelStore.open('https://host/m/'))).toBeUndefined();
  expect(await settled(deleteKept('https://host/m/'))).toBeUndefined();
});

test('a kept part that is not given is fetched anew; a file that does not open is tried again, then refused', async () => {
  const lines = [
    { path: 'a.bin', version: '1', bytes: 4, partBytes: 8 << 20 },
    { part: 0, sha256: '00' },
  ];
  const text = lines.map((line) => `${JSON.stringify(line)}\n`).join('');
  const folder = {
    getFileHandle: (name: string) => (name.endsWith('.log') ? { getFile: async () => new Blob([text]) } : never()),
  } as unknown as FileSystemDirectoryHandle;
  const file = await StoredFile.open(folder, 'x');
  expect(file?.has(0)).toBe(true);
  expect(await settled(file!.read(0))).toBeUndefined();
  const createSyncAccessHandle = vi.fn(never);
  const error = await settled(openSync({ createSyncAccessHandle } as unknown as FileSystemFileHandle));
  expect([isLate(error), createSyncAccessHandle.mock.calls.length]).toEqual([true, 3]);
});

test('parts that a damaged journal names beyond the end of the file are none', async () => {
  const journal = (...lines: object[]): FileSystemDirectoryHandle => {
    const text = lines.map((line) => `${JSON.stringify(line)}\n`).join('');
    return { getFileHandle: async () => ({ getFile: async () => new Blob([text]) }) } as unknown as FileSystemDirectoryHandle;
  };
  const head = { path: 'a.bin', version: '1', bytes: 9 << 20, partBytes: 8 << 20 };
  const parts = [0, 2, -1, 0.5, 1e9].map((part) => ({ part, sha256: '00' }));
  const file = await StoredFile.open(journal(head, ...parts), 'x');
  expect([file?.parts, file?.whole, file?.landed]).toEqual([[0], false, 8 << 20]);
  expect(await StoredFile.open(journal({ ...head, bytes: -1 }), 'x')).toBeUndefined();
});

test('an estimate does not hold a download up', async () => {
  vi.stubGlobal('navigator', { storage: { estimate: async () => ({ quota: 10e6, usage: 4e6 }) } });
  expect(await settled(noRoomFor(20e6))).toBe('it takes 20 MB and the browser allows this site 6 MB more');
  vi.stubGlobal('navigator', { storage: { estimate: never } });
  expect(await settled(noRoomFor(20e6))).toBeUndefined();
});

test('locks: goes on without, and gives back one that comes late', async () => {
  let give = (_: object): Promise<void> | undefined => undefined;
  const request = (_: string, __: object, held: typeof give): Promise<void> => ((give = held), never());
  vi.stubGlobal('navigator', { locks: { request } });
  expect(await settled(lockModel('https://host/m/'))).toBeTypeOf('function');
  expect(await settled(give({})!.then(() => 'given back'))).toBe('given back');
});

test('decoders: in words', async () => {
  vi.stubGlobal('createImageBitmap', never);
  vi.stubGlobal('OffscreenCanvas', class {});
  const png = new Blob([new Uint8Array([137, 80, 78, 71, 13, 10, 26, 10])], { type: 'image/png' });
  expect(await settled(readPicture(png, 'image'))).toMatchObject({
    code: 'unsupported-device',
    message: 'image could not be decoded: no answer from the picture decoder within 60 s',
  });
  const gif = new Blob([new TextEncoder().encode('GIF89a')], { type: 'image/gif' });
  const close = vi.fn();
  for (const tracks of [{ ready: never() }, { ready: Promise.resolve(), selectedTrack: { frameCount: 2 } }]) {
    vi.stubGlobal(
      'ImageDecoder',
      class {
        tracks = tracks;
        completed = Promise.resolve();
        decode = never;
        close = close;
      },
    );
    expect(await settled(readClip(gif))).toMatchObject({ code: 'unsupported-device', message: expect.stringContaining('ImageDecoder') });
  }
  expect(close).toHaveBeenCalledTimes(2);
});
