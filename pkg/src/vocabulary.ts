/**
 * The words that a small model was trained on, as its card lists them: which words of a prompt say nothing to it. The command line's
 * rule too (`crate/src/cli/vocabulary.rs`); tests/fixtures/vocabulary.json holds both to it.
 */

/** Role (`shape`, `colour`, …) → plain word → its other wordings. `other` holds words without content. */
export interface Vocabulary {
  /** By role, then by plain word: its other wordings. */
  roles: Record<string, Record<string, string[]>>;
  /** Words without content. */
  other: string[];
}

/** Reads a card's `vocabulary`; undefined where there is none, as in large models' cards, which know all words. */
export function parseVocabulary(json: unknown): Vocabulary | undefined {
  if (typeof json !== 'object' || json === null || Array.isArray(json)) return undefined;
  const strings = (value: unknown): string[] =>
    Array.isArray(value) ? value.filter((word): word is string => typeof word === 'string') : [];
  const roles: Vocabulary['roles'] = {};
  for (const [role, words] of Object.entries(json)) {
    if (role === 'other' || typeof words !== 'object' || words === null || Array.isArray(words)) continue;
    roles[role] = Object.fromEntries(Object.entries(words).map(([plain, more]) => [plain, strings(more)]));
  }
  return { roles, other: strings((json as Record<string, unknown>)['other']) };
}

/**
 * The words of a prompt that the vocabulary does not hold, as written, each once and in order. A plural or another ending
 * (`balls`, `bounced`) of a known word counts as known: it shares its first letters with one.
 */
export function unknownWords(prompt: string, vocabulary: Vocabulary | undefined): string[] {
  if (vocabulary === undefined) return [];
  const known = knownWords(vocabulary);
  const found = new Map<string, string>();
  for (const word of wordsOf(prompt)) {
    const low = word.toLowerCase();
    if (!stems(low).some((stem) => known.has(stem)) && !found.has(low)) found.set(low, word);
  }
  return [...found.values()];
}

/** Which words of a prompt say nothing to the model, and what it draws instead: a sentence; empty where all are known. */
export function unknownWordsNote(prompt: string, vocabulary: Vocabulary | undefined): string {
  const unknown = unknownWords(prompt, vocabulary).map((word) => `“${word}”`);
  if (unknown.length === 0) return '';
  const things = Object.keys(vocabulary?.roles['shape'] ?? {}).map((word) => `${word}s`);
  const draws = things.length > 0 ? `: it draws ${list(things, 'and')}` : '';
  return `This small model knows no ${list(unknown, 'and no')}${draws}.`;
}

const list = (words: string[], last: string): string =>
  words.length < 2 ? words.join('') : `${words.slice(0, -1).join(', ')} ${last} ${words.at(-1)}`;

function knownWords({ roles, other }: Vocabulary): Set<string> {
  const said = Object.values(roles).flatMap((words) => Object.entries(words).flatMap(([plain, more]) => [plain, ...more]));
  return new Set([...said, ...other].flatMap(wordsOf).flatMap((word) => stems(word.toLowerCase())));
}

/** Words, numbers and pictures: a prompt of emoji says nothing to a model of words either. */
const wordsOf = (text: string): string[] => text.match(/\p{L}+(?:['’]\p{L}+)*|\p{N}+|\p{Extended_Pictographic}/gu) ?? [];

const ENDINGS = ['es', 's', 'ed', 'd', 'ing'];

/** The word itself and, for English plurals and verbs, what is left without each ending that it may have; one or two letters are no stem. */
function stems(word: string): string[] {
  const cut = ENDINGS.flatMap((ending) => (word.endsWith(ending) ? [word.slice(0, -ending.length)] : []));
  return [word, ...cut.filter((stem) => stem.length >= 3)];
}

/** The roles of a scene in the order of a caption; other roles are kept where a prompt has them, and never added. */
export const CAPTION_ROLES = ['size', 'colour', 'shape', 'motion', 'ground', 'sky'] as const;

/**
 * A short prompt in the wording that a small model was trained on: what it says in the vocabulary's plain words, and what it leaves
 * open filled in. Undefined for a vocabulary without the roles of {@link CAPTION_ROLES}. `random` gives 0 to below 1.
 */
export function suggestPrompt(prompt: string, { roles }: Vocabulary, random: () => number = Math.random): string | undefined {
  if (!CAPTION_ROLES.every((role) => Object.keys(roles[role] ?? {}).length > 0)) return undefined;
  const said = ` ${wordsOf(prompt).join(' ').toLowerCase()} `;
  const words = CAPTION_ROLES.map((role) => {
    const plain = Object.keys(roles[role]!);
    return spoken(said, roles[role]!) ?? plain[Math.floor(random() * plain.length)]!;
  });
  const more = ['camera', 'extra'].flatMap((role) => spoken(said, roles[role] ?? {}) ?? []);
  const text = [...words, ...more].join(' ');
  return `${/^[aeiou]/.test(text) ? 'an' : 'a'} ${text}`;
}

/** The plain word whose wording stands in a text; of several the longest wording, which says the most. */
function spoken(text: string, words: Record<string, string[]>): string | undefined {
  let found: { plain: string; length: number } | undefined;
  for (const [plain, more] of Object.entries(words)) {
    for (const wording of [plain, ...more]) {
      const flat = wordsOf(wording).join(' ').toLowerCase();
      const isSaid = [flat, `${flat}s`].some((form) => text.includes(` ${form} `));
      if (isSaid && flat.length > (found?.length ?? 0)) found = { plain, length: flat.length };
    }
  }
  return found?.plain;
}
