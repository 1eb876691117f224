/** Engines that elements share; the rest of the element is tested in browsers. */
import { afterEach, expect, test, vi } from 'vitest';
import { makeClip, release, type ClipJob } from '../src/element-engine.js';
import { TabreelError, type TabreelErrorCode } from '../src/errors.js';
import { Tabreel, type LoadOptions } from '../src/generator.js';
import { caught } from './fakes.js';

afterEach(() => vi.restoreAllMocks());

/** Engines whose GPU fails so at every clip, and whose CPU makes one; the devices that were asked for. */
function failingGpu(code: TabreelErrorCode): string[] {
  const asked: string[] = [];
  vi.spyOn(Tabreel, 'load').mockImplementation(async ({ device = 'auto' }: LoadOptions) => {
    asked.push(device);
    const engine = {
      alive: true,
      dispose: () => void (engine.alive = false),
      generate: async () => {
        if (device === 'cpu') return 'a clip';
        throw new TabreelError(code, 'it broke', { device: 'gpu' });
      },
    };
    return engine as unknown as Tabreel;
  });
  return asked;
}

const job = (model: string, device: ClipJob['device']): ClipJob => ({
  model,
  device,
  load: {},
  onProgress: () => undefined,
  onLoaded: () => undefined,
  onWait: () => undefined,
  options: { prompt: 'a ball' },
  signal: new AbortController().signal,
});

test.each(['device-lost', 'out-of-memory', 'internal', 'unsupported-device'] as const)(
  'after a GPU that failed at a clip (%s) the next one is made on the CPU',
  async (code) => {
    const asked = failingGpu(code);
    const user = {};
    const own = job(`https://host/${code}/`, 'auto');
    const error = await caught(makeClip(user, own));
    expect([error?.code, error?.device, error?.message]).toEqual([code, 'gpu', 'it broke; the next clip is made on the CPU']);
    expect(await makeClip(user, own)).toBe('a clip');
    expect(asked).toEqual(['auto', 'cpu']);
    release(user);
  },
);

test('a GPU that was asked for, and an error that the CPU would give too, change nothing', async () => {
  const user = {};
  let asked = failingGpu('device-lost');
  const chosen = job('https://host/chosen/', 'gpu');
  for (let i = 0; i < 2; i++) expect((await caught(makeClip(user, chosen)))?.message).toBe('it broke');
  expect(asked).toEqual(['gpu']);
  release(user);
  asked = failingGpu('invalid-options');
  const wrong = job('https://host/wrong/', 'auto');
  for (let i = 0; i < 2; i++) expect((await caught(makeClip(user, wrong)))?.message).toBe('it broke');
  expect(asked).toEqual(['auto']);
  release(user);
});
