// The worker of store.test.mjs: loads a model folder through the package's own sources, into nothing.
import { openFolder } from '../../pkg/src/source/open.js';
import { findFolder } from '../../pkg/src/source/index.js';
import { verifyKept } from '../../pkg/src/source/kept-models.js';

interface Job {
  base: string;
  keep?: boolean;
  /** What to break in the browser first. */
  break?: 'directory' | 'journal' | 'handles' | 'silence' | 'locks' | 'quota';
  verify?: boolean;
}

const timing = { stallMs: 20_000, firstTries: 2, tries: 3, backoffMs: 10, longestWaitMs: 50 };

onmessage = async ({ data }: MessageEvent<Job>) => {
  try {
    if (data.verify) return postMessage({ verified: await verifyKept() });
    breakStorage(data.break);
    postMessage({ done: await load(data) });
  } catch (error) {
    const { code, message } = error as { code?: string; message: string };
    postMessage({ failed: { code, message } });
  }
};

async function load({ base, keep = true }: Job): Promise<object> {
  const warnings: string[] = [];
  const waits = new Set<string>();
  let fromDevice = true;
  const found = findFolder(base);
  const card = await found.card();
  const folder = await openFolder(found.describe(card, keep), {
    timing,
    onWarning: (message) => warnings.push(message),
    onProgress: (progress) => {
      if (progress.loaded > 0) fromDevice &&= progress.fromDevice;
      if (progress.waiting) waits.add(progress.waiting);
      postMessage({ progress });
    },
  });
  try {
    const hashes: Record<string, string> = {};
    for (const file of folder.files) {
      // As an engine does: a header, then tensor by tensor.
      const hash: Uint8Array[] = [];
      for (let at = 0; at < file.size; at += 5_000_000) hash.push(await file.read(at, Math.min(file.size, at + 5_000_000)));
      const digest = await crypto.subtle.digest('SHA-256', await new Blob(hash as BlobPart[]).arrayBuffer());
      hashes[file.label] = Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, '0')).join('');
    }
    await folder.finish();
    return { hashes, warnings, waits: [...waits], fromDevice };
  } finally {
    folder.close();
  }
}

/** Breaks what browsers break: each of these calls has been seen to fail. */
function breakStorage(what: Job['break']): void {
  const fail = (): never => {
    throw new DOMException('broken for the test', 'UnknownError');
  };
  if (what === 'quota') Object.defineProperty(navigator.storage, 'estimate', { value: async () => ({ quota: 30e6, usage: 10e6 }) });
  if (what === 'directory') Object.defineProperty(navigator.storage, 'getDirectory', { value: fail });
  if (what === 'journal') Object.defineProperty(FileSystemFileHandle.prototype, 'getFile', { value: fail });
  if (what === 'handles') Object.defineProperty(FileSystemFileHandle.prototype, 'createSyncAccessHandle', { value: fail });
  if (what === 'silence')
    Object.defineProperty(FileSystemFileHandle.prototype, 'createSyncAccessHandle', { value: () => new Promise(() => undefined) });
  if (what === 'locks') Object.defineProperty(navigator.locks, 'request', { value: fail });
}
