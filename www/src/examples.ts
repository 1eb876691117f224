/** Three prompts to start from. */
import { byId, make } from './dom';

const EXAMPLES = [
  'a large red ball bounces over grass at sunset',
  'a blue cube slides to the right across sand under a clear sky',
  'a green pyramid turns slowly on snow while the moon is out',
];

export function showExamples(fromModel: string[] | undefined, choose: (example: string) => void): void {
  const examples = fromModel?.length ? fromModel : EXAMPLES;
  byId('examples').replaceChildren(
    ...examples.slice(0, 3).map((example) => {
      const chip = make('button', { type: 'button' }, example);
      chip.addEventListener('click', () => choose(example));
      return make('li', {}, chip);
    }),
  );
}
