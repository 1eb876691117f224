// The page of store.test.mjs.
import { describeModel } from '../../pkg/src/source/index.js';
import { deleteKept, keptModels, verifyKept } from '../../pkg/src/source/kept-models.js';

interface Progress {
  loaded: number;
  waiting?: string;
}

/** Loads a model in a worker; `stopAt` ends the worker when so many bytes have come. */
function load(job: object, stopAt = Infinity): Promise<object> {
  const worker = new Worker(new URL('./store-worker.ts', import.meta.url), { type: 'module' });
  return new Promise<object>((resolve) => {
    worker.onmessage = ({ data }: MessageEvent<{ progress?: Progress }>) => {
      if (!data.progress) return resolve(data);
      if (data.progress.waiting) Object.assign(window, { waiting: data.progress.waiting });
      Object.assign(window, { loaded: data.progress.loaded });
      if (data.progress.loaded >= stopAt) resolve({ stopped: data.progress.loaded });
    };
    worker.onerror = (event) => resolve({ failed: { code: 'worker', message: event.message } });
    worker.postMessage(job);
  }).finally(() => worker.terminate());
}

/** Every file on this device, by name, with its length. */
async function listFiles(folder?: FileSystemDirectoryHandle, prefix = ''): Promise<Record<string, number>> {
  folder ??= await navigator.storage.getDirectory();
  const found: Record<string, number> = {};
  for await (const [name, handle] of (folder as unknown as { entries(): AsyncIterable<[string, FileSystemHandle]> }).entries()) {
    if (handle.kind === 'directory') Object.assign(found, await listFiles(handle as FileSystemDirectoryHandle, `${prefix}${name}/`));
    else found[prefix + name] = (await (handle as FileSystemFileHandle).getFile()).size;
  }
  return found;
}

async function handleOf(path: string): Promise<[FileSystemDirectoryHandle, string]> {
  const names = path.split('/');
  let folder = await navigator.storage.getDirectory();
  for (const name of names.slice(0, -1)) folder = await folder.getDirectoryHandle(name);
  return [folder, names.at(-1)!];
}

/** Changes bytes of a file on this device, or cuts it. */
async function damage(path: string, at: number, cut = false): Promise<void> {
  const [folder, name] = await handleOf(path);
  const stream = await (await folder.getFileHandle(name)).createWritable({ keepExistingData: true });
  if (cut) await stream.truncate(at);
  else await stream.write({ type: 'write', position: at, data: new Uint8Array([1, 2, 3, 4]) });
  await stream.close();
}

async function remove(path: string): Promise<void> {
  const [folder, name] = await handleOf(path);
  await folder.removeEntry(name, { recursive: true });
}

/** As a value, also when it is an error. */
const attempt = <T>(promise: Promise<T>): Promise<T | { code: string; message: string }> =>
  promise.catch(({ code, message }: { code: string; message: string }) => ({ code, message }));

Object.assign(window, {
  store: {
    load,
    listFiles,
    damage,
    remove,
    kept: () => attempt(keptModels()),
    verify: (url?: string) => attempt(verifyKept(url)),
    forget: (url?: string) => attempt(deleteKept(url)),
    describe: (url: string) => attempt(describeModel(url)),
  },
});
