import { expect, test } from 'vitest';
import { TabreelError } from '../src/errors.js';
import { randomSeed, resolveOptions, type ModelRules, type Preset } from '../src/options.js';

const rules: ModelRules = { widthMultiple: 16, heightMultiple: 32, frameMultiple: 4, defaults: { width: 64, height: 64, fps: 16 } };
const good = { prompt: 'a red ball', seed: 7 };

function refusal(change: object): string {
  try {
    resolveOptions({ ...good, ...change }, rules);
  } catch (error) {
    expect(error).toBeInstanceOf(TabreelError);
    expect((error as TabreelError).code).toBe('invalid-options');
    return (error as TabreelError).message;
  }
  throw new Error(`${JSON.stringify(change)} was accepted`);
}

test('what is left open comes from the model, then from the table', () => {
  expect(resolveOptions(good, rules)).toEqual({
    prompt: 'a red ball',
    negativePrompt: '',
    width: 64,
    height: 64,
    numFrames: 81,
    fps: 16,
    numSteps: 50,
    guidanceScale: 5,
    seed: 7,
  });
});

test('what is given wins over the model', () => {
  const options = {
    ...good,
    width: 96,
    height: 32,
    numFrames: 1,
    fps: 24,
    numSteps: 3,
    guidanceScale: 1,
    negativePrompt: 'fog',
    flowShift: 5,
  };
  expect(resolveOptions(options, rules)).toEqual(options);
});

test('a seed is rolled when none is given, and is never the same by accident', () => {
  const seeds = new Set(Array.from({ length: 50 }, () => resolveOptions({ prompt: 'a' }, rules).seed));
  expect(seeds.size).toBeGreaterThan(45);
  for (const seed of seeds) expect(Number.isInteger(seed) && seed >= 0 && seed < 2 ** 32).toBe(true);
  expect(randomSeed()).toBeLessThan(2 ** 32);
});

test.each([
  [{ numFrames: 80 }, 'numFrames must be 4n + 1 (1, 5, 9, …), got 80 frames'],
  [{ numFrames: 0 }, 'numFrames must be 1 to 1025 frames, got 0 frames'],
  [{ numFrames: 4097 }, 'numFrames must be 1 to 1025 frames, got 4097 frames'],
  [{ numFrames: 5.5 }, 'numFrames must be a whole number, got 5.5 frames'],
  [{ numFrames: '9' }, 'numFrames must be a number, got the string "9"'],
  [{ width: 100 }, 'width must be a multiple of 16 px, got 100 px'],
  [{ height: 48 }, 'height must be a multiple of 32 px, got 48 px'],
  [{ width: 0 }, 'width must be 1 to 2048 px, got 0 px'],
  [{ width: 4096 }, 'width must be 1 to 2048 px, got 4096 px'],
  [{ width: Infinity }, 'width must be 1 to 2048 px, got Infinity px'],
  [{ numSteps: 0 }, 'numSteps must be 1 to 200 steps, got 0 steps'],
  [{ numSteps: NaN }, 'numSteps must be 1 to 200 steps, got no number'],
  [{ guidanceScale: -1 }, 'guidanceScale must be 0 to 50, got -1'],
  [{ guidanceScale: true }, 'guidanceScale must be a number, got boolean true'],
  [{ fps: 0 }, 'fps must be 1 to 120 frames per second, got 0 frames per second'],
  [{ seed: -1 }, 'seed must be 0 to 2^53 − 1, got -1'],
  [{ seed: 2 ** 53 }, 'seed must be 0 to 2^53 − 1, got 9007199254740992'],
  [{ seed: 1.5 }, 'seed must be a whole number, got 1.5'],
  [{ flowShift: 0 }, 'flowShift must be above 0 up to 100, got 0'],
  [{ prompt: '' }, 'prompt must not be empty (a model of classes takes classLabel instead)'],
  [{ prompt: ' \n\t' }, 'prompt must not be empty (a model of classes takes classLabel instead)'],
  [{ prompt: undefined }, 'prompt must not be empty (a model of classes takes classLabel instead)'],
  [{ classLabel: 1.5 }, 'classLabel must be a name or a whole number from 0, got number 1.5'],
  [{ classLabel: ' ' }, 'classLabel must be a name or a whole number from 0, got the string " "'],
  [{ prompt: ['a'] }, 'prompt must be a string, got an array'],
  [{ negativePrompt: 5 }, 'negativePrompt must be a string, got number 5'],
  [{ onStep: 'log' }, 'onStep must be a function, got the string "log"'],
  [{ signal: {} }, 'signal must be an AbortSignal, got an object'],
  [{ num_frames: 5 }, 'unknown option num_frames; did you mean numFrames?'],
  [{ steps: 5 }, 'unknown option steps; did you mean numSteps?'],
  [{ bananas: 5 }, 'unknown option bananas'],
])('%o is refused with rule, value and unit', (change, message) => {
  expect(refusal(change)).toBe(message);
});

test('a class, by number or name, stands in place of a prompt', () => {
  expect(resolveOptions({ classLabel: 207 }, rules)).toMatchObject({ prompt: '', classLabel: '207' });
  expect(resolveOptions({ classLabel: 'golden retriever' }, rules).classLabel).toBe('golden retriever');
  expect(resolveOptions(good, rules).classLabel).toBeUndefined();
});

test.each([undefined, null, 'a red ball', [], 7])('options that are no object (%o) are refused', (given) => {
  expect(() => resolveOptions(given, rules)).toThrow('options must be an object with a prompt');
});

test('levels of noise fall, keep to their range, and say how many steps there are', () => {
  expect(resolveOptions({ ...good, sigmas: [1, 0.9, 0.5, 0] }, rules)).toMatchObject({ sigmas: [1, 0.9, 0.5], numSteps: 3 });
  expect(refusal({ sigmas: [0.5, 0.9] })).toBe('sigmas must fall from one to the next, got 0.5, 0.9');
  expect(refusal({ sigmas: [1.5] })).toBe('sigmas must be above 0 up to 1, got 1.5');
  expect(refusal({ sigmas: [] })).toBe('sigmas must be 1 to 200 numbers, got 0');
  expect(refusal({ sigmas: 'all' })).toBe('sigmas must be an array of numbers, got the string "all"');
  expect(refusal({ sigmas: [1, '0.5'] })).toBe('sigmas must be a number, got the string "0.5"');
  expect(refusal({ sigmas: [1, 0.5], numSteps: 9 })).toBe('numSteps must be the number of sigmas, 2, where both are given, got 9 steps');
  const few = { ...rules, defaults: { ...rules.defaults, sigmas: [1, 0.5] } };
  expect(resolveOptions(good, few).numSteps).toBe(2);
  expect(resolveOptions({ ...good, numSteps: 9 }, few)).toMatchObject({ numSteps: 9 });
  expect(resolveOptions({ ...good, numSteps: 9 }, few).sigmas).toBeUndefined();
});

test('a sampler is one of those there are', () => {
  expect(resolveOptions({ ...good, sampler: 'stochastic' }, rules).sampler).toBe('stochastic');
  expect(refusal({ sampler: 'ddim' })).toBe('sampler must be one of unipc, euler, stochastic, got the string "ddim"');
});

test("a preset fills what was not given, and its steps or levels go before the model's", () => {
  const presets = {
    few: { about: 'quick', sampler: 'stochastic', sigmas: [1, 0.9, 0.5], guidanceScale: 1, sizes: [[96, 64]] },
    fine: { numSteps: 40 },
    lora: { lora: 'quick' },
  } satisfies Record<string, Preset>;
  const model: ModelRules = { ...rules, defaults: { ...rules.defaults, sigmas: [1, 0.5], numFrames: 9 }, presets, loras: 0 };
  const few = { sampler: 'stochastic', sigmas: [1, 0.9, 0.5], numSteps: 3, guidanceScale: 1, width: 96, height: 64, numFrames: 9 };
  expect(resolveOptions({ ...good, preset: 'few' }, model)).toMatchObject(few);
  expect(resolveOptions({ ...good, preset: 'few' }, model)).not.toHaveProperty('preset');
  expect(resolveOptions({ ...good, preset: 'few', guidanceScale: 4, width: 64 }, model)).toMatchObject({
    ...few,
    guidanceScale: 4,
    width: 64,
  });
  const fine = resolveOptions({ ...good, preset: 'fine' }, model);
  expect([fine.numSteps, fine.sigmas, fine.width]).toEqual([40, undefined, 64]);
  expect(resolveOptions({ ...good, preset: '' }, model).sigmas).toEqual([1, 0.5]);
  const words = (options: object, by = model): string => {
    try {
      return JSON.stringify(resolveOptions(options, by));
    } catch (error) {
      return (error as Error).message;
    }
  };
  expect(words({ ...good, preset: 'fast' })).toBe('preset must be one of few, fine, lora, got the string "fast"');
  expect(words({ ...good, preset: 'few' }, rules)).toContain('preset must be left out, for this model has none');
  expect(words({ ...good, preset: 'lora' })).toBe('preset lora needs the LoRA "quick": load the model with it (loras)');
});
