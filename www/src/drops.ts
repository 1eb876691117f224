/** Files dropped on the page or pasted: to the place that was aimed at, else to the mode that has use for them. */
import { TabreelError, readRecipe } from 'tabreel';
import { showError } from './error';
import { asError, isVideo, readMaterial } from './material';
import { mode, refusalOf, setMode } from './modes';
import { followClip, mask, placesFor, slots, timeline, traceOnto } from './panel';
import { panelOptions } from './panel-options';
import { reopen } from './reopen';

export function startDrops(): void {
  addEventListener('dragover', (event) => {
    if (!event.dataTransfer?.types.includes('Files')) return;
    // Else the browser would leave this page for the file.
    event.preventDefault();
    event.dataTransfer.dropEffect = 'copy';
    document.body.classList.add('dropping');
  });
  addEventListener('dragleave', (event) => {
    if (event.relatedTarget === null) document.body.classList.remove('dropping');
  });
  addEventListener('drop', (event) => {
    document.body.classList.remove('dropping');
    if (!event.dataTransfer?.types.includes('Files')) return;
    event.preventDefault();
    void handOver([...event.dataTransfer.files], event.target, timeline.frameAt(event.clientX, event.clientY));
  });
  addEventListener('paste', (event) => {
    const { clipboardData, target } = event;
    if (!clipboardData || clipboardData.files.length === 0) return;
    // Office programs put a picture of the text beside the text: a text field wants the text.
    const isField = target instanceof HTMLTextAreaElement || target instanceof HTMLInputElement;
    if (isField && clipboardData.types.includes('text/plain')) return;
    event.preventDefault();
    void handOver([...clipboardData.files], document.activeElement);
  });
}

/** Takes files; `target` is what they were aimed at. A file with a recipe that was aimed at no place opens the recipe. */
export async function handOver(files: readonly File[], target: unknown, frame?: number): Promise<void> {
  const [file, ...others] = files;
  if (file === undefined) return;
  try {
    const within = target instanceof Element ? target : undefined;
    const aimed = Object.values(slots).find(({ box }) => within && box.contains(within));
    if (aimed) return await aimed.put(file);
    if (within?.closest('#panel') === null || within === undefined) {
      const recipe = await readRecipe(file);
      if (recipe) return await reopen(recipe, file);
    }
    if (within && mask.box.contains(within)) return await slots.maskClip.put(file);
    if (mode() === 'sketch') {
      // A canvas takes the lines of a picture; a clip's are followed frame by frame.
      if (isVideo(file)) followClip();
      else if (panelOptions().lines === 'draw') return await traceOnto(file);
    }
    if (mode() === 'keyframes') {
      for (const [i, one] of files.entries()) {
        await timeline.add(await readMaterial(one, isVideo(one) ? 'clip' : 'image', 'keyframe'), i === 0 ? frame : undefined);
      }
      return;
    }
    // Modes that start from nothing give way to the one that starts from such a file.
    if (placesFor(file).length === 0) {
      const next = isVideo(file) ? 'extend' : 'image';
      setMode(next);
      const refusal = refusalOf(next);
      if (refusal) throw new TabreelError('invalid-options', refusal);
    }
    const places = placesFor(file);
    const place = (mode() === 'connect' && places.find(({ material }) => material === undefined)) || places[0];
    await place?.put(file);
    if (others[0] && places[1] && place !== places[1]) await places[1].put(others[0]);
  } catch (thrown) {
    showError(asError(thrown), undefined);
  }
}
