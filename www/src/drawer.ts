/** Opening and closing the settings drawer, which remembers whether it was open. */
import { byId, memory } from './dom';

export function startDrawer(): void {
  const drawer = byId('drawer');
  const button = byId<HTMLButtonElement>('open-settings');
  const narrow = matchMedia('(max-width: 860px)');

  const set = (open: boolean, byVisitor: boolean): void => {
    drawer.hidden = !open;
    button.setAttribute('aria-expanded', String(open));
    if (!byVisitor) return;
    memory.set('drawer', open);
    if (open) byId('drawer-title').focus();
    else button.focus();
  };
  button.addEventListener('click', () => set(drawer.hidden !== false, true));
  byId('close-settings').addEventListener('click', () => set(false, true));
  drawer.addEventListener('keydown', (event) => {
    if (event.key === 'Escape') set(false, true);
  });
  // On a phone it would cover the page that the visitor came for.
  set(!narrow.matches && (memory.get('drawer', (open) => typeof open === 'boolean') ?? false), false);
}
