/** Where bytes are: one way to read a range of a file, whatever holds it. */
import { TabreelError } from '../errors.js';

/** A file that is read by range. */
export interface ByteSource {
  /** Its path in the model's folder, for messages. */
  readonly label: string;
  /** Length, bytes. */
  readonly size: number;
  /**
   * The bytes from `start` up to, not including, `end`: all of them, or an error.
   *
   * @throws TabreelError `fetch`, `weights`, `aborted`, `out-of-memory`
   */
  read(start: number, end: number): Promise<Bytes>;
  /** Lets go of connections and file handles. */
  close?(): void;
}

/** Bytes of their own, so that they can be handed on without a copy. */
export type Bytes = Uint8Array<ArrayBuffer>;

/**
 * Room for `length` bytes of a file.
 *
 * @throws TabreelError `out-of-memory`
 */
export function allocate(length: number, label: string): Bytes {
  try {
    return new Uint8Array(length);
  } catch (error) {
    throw new TabreelError('out-of-memory', `no room for ${length} bytes of ${label} in this tab's memory`, { cause: error });
  }
}

/**
 * Refuses a range that is not inside the file.
 *
 * @throws TabreelError `weights`: ranges come from what a file says of itself
 */
export function checkRange({ label, size }: { label: string; size: number }, start: number, end: number): void {
  if (Number.isSafeInteger(start) && Number.isSafeInteger(end) && start >= 0 && start <= end && end <= size) return;
  throw new TabreelError('weights', `bytes ${start} to ${end} of ${label} were asked for, which has ${size} bytes`);
}
