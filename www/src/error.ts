/** Errors in words, with what to do about them. */
import type { TabreelError } from 'tabreel';
import { byId, make } from './dom';
import { explain } from './words';

const box = byId('error');

export function showError(error: TabreelError, useCpu: (() => void) | undefined): void {
  const { title, what, hint } = explain(error);
  box.dataset['code'] = error.code;
  box.querySelector('h2')!.textContent = title;
  box.querySelector('.what')!.textContent = what;
  box.querySelector('.hint')!.textContent = hint;
  const actions = box.querySelector('.actions')!;
  actions.replaceChildren();
  if (useCpu) {
    const button = make('button', { type: 'button', id: 'use-cpu' }, 'Use the CPU instead');
    button.addEventListener('click', useCpu);
    actions.append(button);
  }
  box.hidden = false;
  box.scrollIntoView({ block: 'nearest' });
}

export function hideError(): void {
  box.hidden = true;
}
