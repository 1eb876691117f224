/** What can be done with a clip: saving, sharing its recipe; and how it was made. */
import { TabreelError, type Clip, type SaveOptions, type Tabreel } from 'tabreel';
import { byId } from './dom';
import { showError } from './error';
import { announce } from './progress';
import { subjectOf, toHash, type Recipe } from './recipe';
import { fromWords, megabytes, seconds } from './words';

const box = byId('result');
const made = byId('made');
const warning = byId('warning');
const share = byId<HTMLButtonElement>('share');

let shown: Clip | undefined;

export function showResult(clip: Clip, engine: Tabreel | undefined): void {
  shown = clip;
  box.hidden = false;
  made.textContent = describe(clip);
  made.title = [breakdown(clip), engine?.deviceReason].filter(Boolean).join('\n');
  for (const format of ['mp4', 'webm', 'png'] as const) {
    const scale = scaleFor(clip, format);
    const size = `${clip.width * scale} × ${clip.height * scale} px`;
    byId(`save-${format}`).title = scale === 1 ? size : `${size}, enlarged ${scale} times`;
  }
  warning.hidden = clip.warnings.length === 0;
  warning.textContent = clip.warnings.join(' ');
}

export function hideResult(): void {
  box.hidden = true;
}

/** "Made on the CPU in 12 s · 384 × 384 px, enlarged from 64 × 64 · 17 frames · seed 42": the size is that of the saved video. */
function describe(clip: Clip): string {
  const { backend, adapter, timings, width, height, numFrames, seed } = clip;
  const where = backend === 'gpu' ? `the GPU${adapter ? ` (${adapter})` : ''}` : 'the CPU';
  const scale = scaleFor(clip, 'mp4');
  const size = `${width * scale} × ${height * scale} px${scale === 1 ? '' : `, enlarged from ${width} × ${height}`}`;
  const frames = numFrames === 1 ? '1 frame' : `${numFrames} frames`;
  const from = fromWords(clip);
  return `Made on ${where} in ${seconds(totalSecs(timings))}${from && ` ${from}`} · ${size} · ${frames} · seed ${seed}`;
}

/** "condition 0.1 s, denoise 9.1 s, decode 2.2 s; 210 MB of memory, up to 90 MB on the GPU" */
function breakdown({ timings, memory: { wasmBytes, gpuPeakBytes } }: Clip): string {
  const stages = Object.entries(timings).filter(([stage]) => stage !== 'total');
  const gpu = gpuPeakBytes > 0 ? `, up to ${megabytes(gpuPeakBytes)} on the GPU` : '';
  return `${stages.map(([stage, secs]) => `${stage} ${seconds(secs)}`).join(', ')}; ${megabytes(wasmBytes)} of memory${gpu}`;
}

/** "CPU, 12 s, from a first frame" */
export function madeWords(clip: Clip): string {
  return [clip.backend === 'gpu' ? 'GPU' : 'CPU', seconds(totalSecs(clip.timings)), fromWords(clip)].filter(Boolean).join(', ');
}

export function totalSecs(timings: Clip['timings']): number {
  return timings['total'] ?? Object.values(timings).reduce((sum, secs) => sum + secs, 0);
}

/** What stops the encoding that a button began. */
const encoding = new Map<HTMLButtonElement, AbortController>();

async function save(button: HTMLButtonElement, format: SaveOptions['format']): Promise<void> {
  const running = encoding.get(button);
  if (running !== undefined) return running.abort();
  // The one that was asked for, whichever is picked from the strip meanwhile.
  const clip = shown;
  if (clip === undefined) return;
  const words = button.textContent;
  const controller = new AbortController();
  encoding.set(button, controller);
  button.textContent = 'Stop encoding';
  try {
    const { signal } = controller;
    download(await clip.toBlob({ format, scale: scaleFor(clip, format), signal }), `${fileName(clip.options)}.${format}`);
  } catch (thrown) {
    const error = thrown instanceof TabreelError ? thrown : new TabreelError('internal', String(thrown));
    if (error.code === 'aborted') announce('Nothing was saved.');
    else showError(error, undefined);
  } finally {
    encoding.delete(button);
    button.textContent = words;
  }
}

/** Players show a 64 px clip as a stamp: it is enlarged to some 384 px, well filtered; on a contact sheet to half of that. */
export function scaleFor(
  { width, height, numFrames }: Pick<Clip, 'width' | 'height' | 'numFrames'>,
  format: SaveOptions['format'],
): number {
  const side = format === 'png' && numFrames > 1 ? 192 : 384;
  return Math.min(8, Math.max(1, Math.round(side / Math.min(width, height))));
}

/** Hands a file to the visitor. */
export function download(file: Blob, name: string): void {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(file);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  announce(`Saved ${name}.`);
}

/** The prompt's first words and the seed. */
export function fileName(recipe: Pick<Recipe, 'prompt' | 'classLabel' | 'seed'>): string {
  const words =
    subjectOf(recipe)
      .toLowerCase()
      .match(/[\p{L}\p{N}]+/gu) ?? [];
  return [...words.slice(0, 6), recipe.seed].join('-');
}

async function shareRecipe(): Promise<void> {
  if (shown === undefined) return;
  const url = new URL(location.href);
  url.hash = toHash(shown.options);
  history.replaceState(null, '', url);
  const words = 'Share settings';
  try {
    await navigator.clipboard.writeText(url.href);
    share.textContent = 'Link copied';
    announce(`A link with these settings was copied${fromWords(shown) && '; it does not hold the pictures'}.`);
  } catch {
    share.textContent = 'Link is in the address bar';
    announce('The link with these settings is in the address bar.');
  }
  setTimeout(() => (share.textContent = words), 2500);
}

for (const format of ['mp4', 'webm', 'png'] as const) {
  const button = byId<HTMLButtonElement>(`save-${format}`);
  button.addEventListener('click', () => void save(button, format));
}
share.addEventListener('click', () => void shareRecipe());
