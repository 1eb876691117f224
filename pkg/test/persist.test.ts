import { afterEach, expect, test, vi } from 'vitest';
import type { FolderDescription } from '../src/source/open.js';
import { askToStay } from '../src/source/persist.js';

const remote = (keep: boolean): FolderDescription => ({ kind: 'remote', keep }) as FolderDescription;

afterEach(() => vi.unstubAllGlobals());

test('a large model that is kept asks to stay, and nothing else does', () => {
  const persist = vi.fn(() => new Promise<boolean>(() => undefined)); // a visitor who answers nothing
  vi.stubGlobal('navigator', { storage: { persist } });
  askToStay(remote(true), 2e9);
  expect(persist).toHaveBeenCalledTimes(1);
  askToStay({ kind: 'set', base: remote(true), files: [] } as unknown as FolderDescription, 2e9);
  expect(persist).toHaveBeenCalledTimes(2);
  askToStay(remote(false), 2e9);
  askToStay(remote(true), 12e6);
  askToStay({ kind: 'local', files: {} }, 2e9);
  expect(persist).toHaveBeenCalledTimes(2);
});

test('a browser that refuses the question, or knows none, changes nothing', () => {
  vi.stubGlobal('navigator', {
    storage: {
      persist: () => {
        throw new TypeError('not here');
      },
    },
  });
  askToStay(remote(true), 2e9);
  vi.stubGlobal('navigator', { storage: { persist: () => Promise.reject(new Error('no')) } });
  askToStay(remote(true), 2e9);
  vi.stubGlobal('navigator', {});
  askToStay(remote(true), 2e9);
});
