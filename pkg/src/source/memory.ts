/** A file in hand: dropped, picked, or made by the caller. */
import { TabreelError, throwIfAborted } from '../errors.js';
import { checkRange, type ByteSource, type Bytes } from './source.js';

/** A source over a blob or a file; nothing is read before it is asked for. */
export function blobSource(label: string, blob: Blob, signal?: AbortSignal): ByteSource {
  const { size } = blob;
  const source = {
    label,
    size,
    async read(start: number, end: number): Promise<Bytes> {
      throwIfAborted(signal, 'loading');
      checkRange(source, start, end);
      let bytes: Bytes;
      try {
        bytes = new Uint8Array(await blob.slice(start, end).arrayBuffer());
      } catch (error) {
        throw unreadable(label, error as Error);
      }
      throwIfAborted(signal, 'loading');
      if (bytes.length === end - start) return bytes;
      throw new TabreelError('fetch', `${label} was changed while it was read: ${end - start} bytes were due, ${bytes.length} came`);
    },
  };
  return source;
}

/** A small file as text. @throws TabreelError `fetch` where it was changed, moved or deleted since it was picked */
export async function textOf(label: string, blob: Blob): Promise<string> {
  try {
    return await blob.text();
  } catch (error) {
    throw unreadable(label, error as Error);
  }
}

/** Browsers hand out a file as it was when it was picked: a later change or a deletion shows when it is read. */
function unreadable(label: string, error: Error): TabreelError {
  // An ArrayBuffer too large for this tab is a RangeError, or NotReadableError in Chromium with "could not be allocated".
  const code = error instanceof RangeError ? 'out-of-memory' : 'fetch';
  const why =
    error.name === 'NotFoundError' || error.name === 'NotReadableError' ? 'it was changed, moved or deleted since it was picked' : '';
  return new TabreelError(code, `${label} could not be read: ${why || error.message}`, { cause: error });
}
