import { expect, test } from 'vitest';
import { suggestPrompt, unknownWords, unknownWordsNote, type Vocabulary } from '../src/vocabulary.js';

const vocabulary: Vocabulary = {
  roles: {
    size: { large: ['big'], small: [] },
    colour: { orange: [], red: ['crimson'] },
    shape: { ball: ['sphere'], cube: [] },
    motion: { 'moves left': ['goes left'], rises: [] },
    ground: { 'over grass': ['on grass', 'grass'], 'over sand': [] },
    sky: { 'at night': ['night'], 'by day': [] },
    extra: { 'with hills': ['hills behind'] },
  },
  other: ['a', 'the'],
};
const first = (): number => 0;

test.each([
  ['', 'a large orange ball moves left over grass at night'],
  ['Crimson cube', 'a large red cube moves left over grass at night'],
  ['two small spheres on grass by day', 'a small orange ball moves left over grass by day'],
  ['a cube, hills behind', 'a large orange cube moves left over grass at night with hills'],
])('%j is said in the words of the captions', (prompt, suggested) => {
  expect(suggestPrompt(prompt, vocabulary, first)).toBe(suggested);
  expect(unknownWords(suggested, vocabulary)).toEqual([]);
});

test.each([
  ['a red ball 🐈 and 🐈 on grass', ['🐈', 'and']],
  ['3 balls', ['3']],
  ['一只猫', ['一只猫']],
])('what is no word of the vocabulary is named: %j', (prompt, named) => {
  expect(unknownWords(prompt, vocabulary)).toEqual(named);
});

test('what is left open is drawn from all words', () => {
  expect(suggestPrompt('', vocabulary, () => 0.999)).toBe('a small red cube rises over sand by day');
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
