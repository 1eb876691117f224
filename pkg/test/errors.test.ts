import { expect, test } from 'vitest';
import { TabreelError, guessCode, throwIfAborted, toPlainError, toTabreelError } from '../src/errors.js';

test('an error of the engine keeps its code and words', () => {
  expect(toPlainError({ code: 'weights', message: 'blocks.0.weight must be [4, 4], got [4]' })).toEqual({
    code: 'weights',
    message: 'blocks.0.weight must be [4, 4], got [4]',
  });
});

test('an unknown code becomes internal', () => {
  expect(toPlainError({ code: 'E1234', message: 'odd' })).toEqual({ code: 'internal', message: 'odd' });
});

test.each([
  ['memory allocation of 1048576 bytes failed', 'out-of-memory'],
  ['RuntimeError: Out of memory', 'out-of-memory'],
  ['WebAssembly.Memory.grow(): Maximum memory size exceeded', 'out-of-memory'],
  ['the device was lost', 'device-lost'],
  ['Device hung', 'device-lost'],
  ['index out of bounds: the len is 3', 'internal'],
])('the panic "%s" means %s', (message, code) => {
  expect(guessCode(message)).toBe(code);
});

test('what is not an error still becomes one, with words', () => {
  for (const thrown of ['boom', 5, null, undefined, {}]) {
    const error = toTabreelError(thrown);
    expect(error).toBeInstanceOf(TabreelError);
    expect(error.code).toBe('internal');
    expect(error.message.length).toBeGreaterThan(0);
  }
});

test('a TabreelError passes through untouched', () => {
  const error = new TabreelError('fetch', 'gone');
  expect(toTabreelError(error)).toBe(error);
});

test('which backend it was on is added, and nothing else changed', () => {
  const error = new TabreelError('device-lost', 'gone');
  const known = toTabreelError(error, 'gpu');
  expect(known).toMatchObject({ code: 'device-lost', message: 'gone', device: 'gpu', cause: error });
  expect(toTabreelError(known, 'gpu')).toBe(known);
  expect(toTabreelError(known)).toBe(known);
});

test('the cause is kept for those who debug', () => {
  const cause = new RangeError('deep down');
  expect(toTabreelError(cause).cause).toBe(cause);
});

test('an abort is an abort, whoever threw it', () => {
  expect(toPlainError(new DOMException('The user aborted a request.', 'AbortError')).code).toBe('aborted');
  const controller = new AbortController();
  expect(() => throwIfAborted(controller.signal, 'loading')).not.toThrow();
  controller.abort();
  expect(() => throwIfAborted(controller.signal, 'loading')).toThrow('loading was stopped');
});
