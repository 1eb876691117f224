import { describe, expect, test } from 'vitest';
import { attributeName, OPTION_NAMES, readOptions, writeOption } from '../src/element-attributes.js';
import { TabreelError } from '../src/errors.js';
import { PolicyWatch } from '../src/policy.js';
import { besideDependencies } from '../src/spawn.js';

describe("the worker's script", () => {
  test.each([
    ['http://localhost:5173/node_modules/.vite/deps/worker.js', 'http://localhost:5173/node_modules/tabreel/dist/worker.js'],
    ['http://localhost/app/node_modules/.vite/vitest/deps/worker.js', 'http://localhost/app/node_modules/tabreel/dist/worker.js'],
    ['http://localhost/@fs/x/node_modules/.vite/deps/worker.js', 'http://localhost/@fs/x/node_modules/tabreel/dist/worker.js'],
    ['http://localhost/node_modules/tabreel/dist/worker.js', 'http://localhost/node_modules/tabreel/dist/worker.js'],
    ['https://cdn.example/assets/worker-1a2b.js', 'https://cdn.example/assets/worker-1a2b.js'],
  ])('%s', (found, real) => {
    expect(besideDependencies(new URL(found)).href).toBe(real);
  });
});

describe('a refusal of the Content-Security-Policy', () => {
  const explain = async (error: TabreelError, ...refusals: object[]): Promise<TabreelError> => {
    const scope = new EventTarget();
    const watch = new PolicyWatch(scope);
    const explained = watch.explain(error);
    for (const refusal of refusals) {
      scope.dispatchEvent(Object.assign(new Event('securitypolicyviolation'), { disposition: 'enforce', ...refusal }));
    }
    watch.end();
    return explained;
  };
  const unreached = new TabreelError('fetch', 'could not reach https://models.example/a/tabreel.json: Failed to fetch');
  const refusal = { effectiveDirective: 'connect-src', blockedURI: 'https://models.example/a/tabreel.json' };

  test('names the directive and what to allow there, also when it is told after the error', async () => {
    const error = await explain(unreached, refusal);
    expect(error.code).toBe('fetch');
    expect(error.message).toContain('allow https://models.example in connect-src');
    expect(error.message).toContain(unreached.message);
    expect(error.cause).toBe(unreached);
  });
  test('is told from those of others, and from those that are only reported', async () => {
    expect(await explain(unreached, { ...refusal, blockedURI: 'https://ads.example/x' })).toBe(unreached);
    expect(await explain(unreached, { ...refusal, disposition: 'report' })).toBe(unreached);
    expect(await explain(unreached)).toBe(unreached);
  });
  test('of WebAssembly is known by the words of each browser', async () => {
    for (const words of [
      "WebAssembly.compileStreaming(): Refused to compile or instantiate WebAssembly module because 'unsafe-eval' is not an allowed source",
      'call to WebAssembly.instantiate() blocked by CSP',
    ]) {
      const error = await explain(new TabreelError('internal', words));
      expect(error.code).toBe('unsupported-device');
      expect(error.message).toContain("'wasm-unsafe-eval' in script-src");
    }
    expect((await explain(new TabreelError('internal', 'x'), { effectiveDirective: 'script-src', blockedURI: 'wasm-eval' })).code).toBe(
      'unsupported-device',
    );
  });
  test('of a worker made from a blob', async () => {
    const error = await explain(new TabreelError('fetch', 'the worker failed'), { effectiveDirective: 'worker-src', blockedURI: 'blob' });
    expect(error.message).toContain('allow blob: in worker-src');
  });
});

describe('attributes', () => {
  const element = (attributes: Record<string, string>): Element => {
    const map = new Map(Object.entries(attributes));
    return {
      getAttribute: (name: string) => map.get(name) ?? null,
      setAttribute: (name: string, value: string) => map.set(name, value),
      removeAttribute: (name: string) => map.delete(name),
    } as unknown as Element;
  };

  test('are the options in kebab-case', () => {
    expect(OPTION_NAMES.map(attributeName)).toEqual(
      expect.arrayContaining(['prompt', 'negative-prompt', 'num-frames', 'guidance-scale', 'flow-shift', 'seed']),
    );
  });
  test('are read as the table of options says', () => {
    expect(readOptions(element({ prompt: 'a ball', seed: '7', 'num-frames': '5', 'guidance-scale': '1.5' }))).toEqual({
      prompt: 'a ball',
      seed: 7,
      numFrames: 5,
      guidanceScale: 1.5,
    });
    expect(readOptions(element({}))).toEqual({ prompt: '' });
  });
  test.each(['many', '', ' ', '5 frames'])('num-frames="%s" is no number', (text) => {
    expect(() => readOptions(element({ 'num-frames': text }))).toThrow(`num-frames must be a number, got "${text}"`);
  });
  test('are written by properties, and removed by undefined', () => {
    const clip = element({});
    writeOption(clip, 'numFrames', 9);
    expect(clip.getAttribute('num-frames')).toBe('9');
    writeOption(clip, 'numFrames', undefined);
    expect(clip.getAttribute('num-frames')).toBe(null);
  });
});
