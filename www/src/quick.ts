/** What can be done next with the clip on the stage, one click away. */
import type { Clip } from 'tabreel';
import { byId, make } from './dom';
import { ofClip } from './material';
import { setMode, type Mode } from './modes';
import { slots } from './panel';
import type { Slot } from './slot';

const ACTIONS: { id: string; words: string; mode: Mode; slot: Slot; material(clip: Clip): ReturnType<typeof ofClip> }[] = [
  { id: 'quick-extend', words: 'Extend', mode: 'extend', slot: slots.clip, material: ofClip },
  { id: 'quick-loop', words: 'Loop', mode: 'loop', slot: slots.clip, material: ofClip },
  { id: 'quick-edit', words: 'Edit', mode: 'edit', slot: slots.clip, material: ofClip },
  { id: 'quick-paint', words: 'Paint', mode: 'paint', slot: slots.clip, material: ofClip },
  {
    id: 'quick-last',
    words: 'Start from the last frame',
    mode: 'image',
    slot: slots.first,
    material: (clip) => ({ name: 'the last frame', frames: clip.frames.slice(-1), fps: undefined, warnings: [] }),
  },
];

/** `shown` gives the clip on the stage. */
export function startQuickActions(shown: () => Clip | undefined): void {
  byId('quick').append(
    ...ACTIONS.map(({ id, words, mode, slot, material }) => {
      const button = make('button', { type: 'button', id, className: 'quiet', data: { mode } }, words);
      button.addEventListener('click', async () => {
        const clip = shown();
        if (clip === undefined) return;
        setMode(mode);
        await slot.set(material(clip));
        byId('prompt').focus();
      });
      return button;
    }),
  );
}
