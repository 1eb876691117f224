import { expect, test } from 'vitest';
import cases from '../../tests/fixtures/vocabulary.json' with { type: 'json' };
import { parseVocabulary, suggestPrompt, unknownWords, unknownWordsNote } from '../src/vocabulary.js';

const vocabulary = parseVocabulary(cases.vocabulary)!;

test.each(cases.suggested)('$prompt is said in the words of the captions, and what is left open is drawn', ({ prompt, first, last }) => {
  expect(suggestPrompt(prompt, vocabulary, () => 0)).toBe(first);
  expect(suggestPrompt(prompt, vocabulary, () => 0.999)).toBe(last);
  expect(unknownWords(first, vocabulary)).toEqual([]);
});

test.each(cases.unknown)('what is no word of the vocabulary is named: $prompt', ({ prompt, words }) => {
  expect(unknownWords(prompt, vocabulary)).toEqual(words);
});

test('a vocabulary of other roles suggests nothing', () => {
  expect(suggestPrompt('x', { roles: { shape: { ball: [] } }, other: [] })).toBeUndefined();
});

test('the note names what the model draws instead, and is empty where it knows all or any word', () => {
  expect(unknownWordsNote('a red ball', vocabulary)).toBe('');
  expect(unknownWordsNote('a red zeppelin', undefined)).toBe('');
  expect(unknownWordsNote('a zeppelin, a cat and 3 balls', { ...vocabulary, other: ['a', 'and'] })).toBe(
    'This small model knows no “zeppelin”, “cat” and no “3”: it draws balls and cubes.',
  );
});
