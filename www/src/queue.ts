/** Jobs that wait for the one that runs: a list in which they can be moved and dropped. */
import { byId, make } from './dom';
import type { Job } from './jobs';
import { announce } from './progress';

const box = byId('queue');
const list = byId('queue-list');
let waiting: Job[] = [];

export function addToQueue(job: Job): void {
  waiting.push(job);
  render();
  announce(`Added to the queue: ${waiting.length} waiting.`);
}

/** Takes the first job off the list. */
export function nextJob(): Job | undefined {
  const job = waiting.shift();
  render();
  return job;
}

function move(job: Job, by: -1 | 1): void {
  const at = waiting.indexOf(job);
  waiting.splice(at, 1);
  waiting.splice(at + by, 0, job);
  render();
  list.children[at + by]?.querySelector<HTMLButtonElement>(`button[data-by="${by}"]:enabled, button:enabled`)?.focus();
  announce(`Moved to place ${at + by + 1} of ${waiting.length}.`);
}

function drop(job: Job): void {
  const at = waiting.indexOf(job);
  waiting = waiting.filter((other) => other !== job);
  render();
  const next = list.children[Math.min(at, waiting.length - 1)]?.querySelector<HTMLButtonElement>('button:enabled');
  (next ?? byId('generate')).focus();
  announce('Dropped from the queue.');
}

function render(): void {
  box.hidden = waiting.length === 0;
  list.replaceChildren(
    ...waiting.map((job, at) => {
      const button = (words: string, label: string, act: () => void, disabled = false): HTMLButtonElement => {
        const made = make('button', { type: 'button', className: 'quiet', disabled, ariaLabel: `${label}: ${job.words}` }, words);
        made.addEventListener('click', act);
        return made;
      };
      const up = button('↑', 'Earlier', () => move(job, -1), at === 0);
      const down = button('↓', 'Later', () => move(job, 1), at === waiting.length - 1);
      up.dataset['by'] = '-1';
      down.dataset['by'] = '1';
      return make(
        'li',
        { className: 'row' },
        make('span', {}, job.words),
        up,
        down,
        button('Drop', 'Drop', () => drop(job)),
      );
    }),
  );
}
