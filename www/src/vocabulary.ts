/** Words that the model does not know, named while the prompt is typed; and a prompt put together from those it knows. */
import { CAPTION_ROLES, suggestPrompt, unknownWordsNote, type ModelCard, type Vocabulary } from 'tabreel';
import { byId, make } from './dom';
import { announce } from './progress';

const TITLES: Record<string, string> = { size: 'Size', colour: 'Colour', shape: 'Thing', motion: 'Motion', ground: 'Ground', sky: 'Light' };

const prompt = byId<HTMLTextAreaElement>('prompt');
const note = byId('unknown');
const suggest = byId<HTMLButtonElement>('suggest');
const builder = byId<HTMLDetailsElement>('builder');

let vocabulary: Vocabulary | undefined;

/** Takes the card's vocabulary over; a model without one gets neither note nor builder. */
export function adoptVocabulary(card: ModelCard): void {
  vocabulary = card.vocabulary;
  builder.hidden = vocabulary === undefined || !CAPTION_ROLES.every((role) => vocabulary?.roles[role]);
  suggest.hidden = builder.hidden;
  if (!builder.hidden) fillBuilder(vocabulary!);
  checkPrompt();
}

/** Call when the prompt was changed by something else than typing. */
export function checkPrompt(): void {
  note.textContent = unknownWordsNote(prompt.value, vocabulary);
  note.hidden = note.textContent === '';
}

/** One row of chips for each role; pressing one puts its word into the prompt. */
function fillBuilder({ roles }: Vocabulary): void {
  const chosen: Record<string, string> = {};
  const write = (): void => {
    const words = CAPTION_ROLES.flatMap((role) => chosen[role] ?? []);
    const text = words.join(' ');
    prompt.value = text === '' ? '' : `${/^[aeiou]/.test(text) ? 'an' : 'a'} ${text}`;
    prompt.dispatchEvent(new Event('input', { bubbles: true }));
  };
  const rows = CAPTION_ROLES.map((role) => {
    const chips = Object.keys(roles[role]!).map((word) => {
      const chip = make('button', { type: 'button', textContent: word, className: 'chip' });
      chip.setAttribute('aria-pressed', 'false');
      chip.addEventListener('click', () => {
        const off = chosen[role] === word;
        if (off) delete chosen[role];
        else chosen[role] = word;
        for (const other of chips) other.setAttribute('aria-pressed', String(!off && other === chip));
        write();
      });
      return chip;
    });
    return make(
      'div',
      { className: 'role', role: 'group', ariaLabel: TITLES[role]! },
      make('span', { className: 'fine' }, TITLES[role]!),
      ...chips,
    );
  });
  byId('builder-rows').replaceChildren(...rows);
}

prompt.addEventListener('input', checkPrompt);

/** Puts the prompt in the model's own words; typed over it, so that the browser's Undo takes it back. */
suggest.addEventListener('click', () => {
  const text = vocabulary && suggestPrompt(prompt.value, vocabulary);
  if (text === undefined) return;
  prompt.focus();
  prompt.select();
  if (!document.execCommand('insertText', false, text)) prompt.value = text;
  checkPrompt();
  announce(`Suggested: ${text}. Undo takes it back.`);
});
