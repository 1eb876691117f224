import { ERROR_CODES, type Backend, type PlainError, type TabreelErrorCode } from './contract.js';

export type { PlainError, TabreelErrorCode };

const CODES: ReadonlySet<string> = new Set(ERROR_CODES);

/** Every promise of this package that rejects, rejects with one of these. */
export class TabreelError extends Error {
  /** Always `TabreelError`. */
  override readonly name = 'TabreelError';
  /** What the caller can do about it. */
  readonly code: TabreelErrorCode;
  /** Which backend it was on, where it was on one. */
  readonly device: Backend | undefined;

  constructor(code: TabreelErrorCode, message: string, options: { cause?: unknown; device?: Backend | undefined } = {}) {
    super(message, 'cause' in options ? { cause: options.cause } : undefined);
    this.code = code;
    this.device = options.device;
  }
}

/** Turns anything thrown (by Rust, by the browser, by us) into a code and a sentence. */
export function toPlainError(thrown: unknown): PlainError {
  const message = messageOf(thrown);
  if (typeof thrown === 'object' && thrown !== null && 'code' in thrown) {
    const code = String((thrown as { code: unknown }).code);
    if (CODES.has(code)) return { code: code as TabreelErrorCode, message };
  }
  if (thrown instanceof Error && thrown.name === 'AbortError') return { code: 'aborted', message: 'stopped' };
  return { code: guessCode(message), message };
}

export function toTabreelError(thrown: unknown, device?: Backend): TabreelError {
  if (thrown instanceof TabreelError && (device === undefined || thrown.device === device)) return thrown;
  const { code, message } = toPlainError(thrown);
  return new TabreelError(code, message, { cause: thrown, device });
}

/**
 * A panic or a trap carries only words. Running out of memory and losing the device are the two that a
 * visitor can do something about, so they are recognised; all else is `internal`.
 */
export function guessCode(message: string): TabreelErrorCode {
  if (/out of memory|outofmemory|memory allocation of|allocation failed|cannot grow memory|memory size exceeded/i.test(message)) {
    return 'out-of-memory';
  }
  if (/device (was |is |has been )?lost|devicelost|device hung/i.test(message)) return 'device-lost';
  return 'internal';
}

function messageOf(thrown: unknown): string {
  if (typeof thrown === 'string') return thrown;
  if (typeof thrown === 'object' && thrown !== null && 'message' in thrown) {
    const { message } = thrown as { message: unknown };
    if (typeof message === 'string' && message !== '') return message;
  }
  return String(thrown);
}

/** Rejects in the package's own words when `signal` has fired. */
export function throwIfAborted(signal: AbortSignal | undefined, what: string): void {
  if (signal?.aborted) throw new TabreelError('aborted', `${what} was stopped`);
}
