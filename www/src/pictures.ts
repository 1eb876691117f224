/** Pictures for the first and the last frame: dropped, pasted or chosen; each shown small, with a button to remove it. */
import { TabreelError, readPicture, type Capabilities, type Frame, type GivenPictures } from 'tabreel';
import { byId, make } from './dom';
import { hideError, showError } from './error';
import { announce } from './progress';

type Place = 'image' | 'lastImage';

interface Slot {
  /** "first frame" */
  words: string;
  box: HTMLElement;
  add: HTMLButtonElement;
  given: HTMLElement;
  thumb: HTMLCanvasElement;
  remove: HTMLButtonElement;
  picture: Frame | undefined;
  /** Counts what was put here, so that of two pictures the later one stays and not the slower one. */
  turn: number;
}

/** Twice the thumbnail's height in style.css, for sharp screens. */
const THUMB_PX = 112;

const group = byId('pictures');
const slots: Record<Place, Slot> = { image: makeSlot('image', 'first'), lastImage: makeSlot('lastImage', 'last') };
/** Until a model is loaded, it may take both. */
let takes: Record<Place, boolean> = { image: true, lastImage: true };
/** The page shows an error of ours. */
let complained = false;

/** What the next clip is given. */
export function givenPictures(): GivenPictures {
  const of = ({ picture }: Slot): ImageData | undefined => picture && new ImageData(picture.data, picture.width, picture.height);
  return { image: of(slots.image), lastImage: of(slots.lastImage) };
}

/** Slots that the model has no use for are not offered; a picture that is there already stays, and the model says why not. */
export function adoptCapabilities({ image, lastImage, keyframes }: Capabilities): void {
  takes = { image: image || keyframes, lastImage: lastImage || keyframes };
  render();
}

export function startPictures(): void {
  group.append(slots.image.box, slots.lastImage.box, make('p', { id: 'pictures-hint', className: 'fine' }, 'or drop or paste a picture'));
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
    putAll(event.dataTransfer.files, placeOf(event.target));
  });
  addEventListener('paste', (event) => {
    const { clipboardData, target } = event;
    if (!clipboardData || clipboardData.files.length === 0) return;
    // Office programs put a picture of the text beside the text: a text field wants the text.
    const isField = target instanceof HTMLTextAreaElement || target instanceof HTMLInputElement;
    if (isField && clipboardData.types.includes('text/plain')) return;
    event.preventDefault();
    putAll(clipboardData.files, placeOf(document.activeElement));
  });
  render();
}

/** The slot that was aimed at; everywhere else on the page is the first frame's. */
function placeOf(target: unknown): Place {
  return target instanceof Element && slots.lastImage.box.contains(target) ? 'lastImage' : 'image';
}

function putAll(files: FileList, place: Place): void {
  const [first, second] = files;
  if (first) void put(place, first);
  if (second && place === 'image' && takes.lastImage) void put('lastImage', second);
}

/** Takes the file's picture; one that does not decode changes nothing and is answered in words. */
async function put(place: Place, file: File): Promise<void> {
  const slot = slots[place];
  const turn = ++slot.turn;
  try {
    const picture = await readPicture(file, place);
    if (turn !== slot.turn) return;
    await draw(slot.thumb, picture);
    if (turn !== slot.turn) return;
    slot.picture = picture;
    const about = `${capital(slot.words)}: ${file.name}, ${picture.width} × ${picture.height} px`;
    slot.thumb.setAttribute('aria-label', about);
    slot.thumb.title = about;
    if (complained) hideError();
    complained = false;
    render();
    announce(`${about}.`);
  } catch (thrown) {
    if (turn !== slot.turn) return;
    complained = true;
    showError(thrown instanceof TabreelError ? thrown : new TabreelError('internal', String(thrown)), undefined);
  }
}

function clear(slot: Slot): void {
  slot.turn++;
  slot.picture = undefined;
  render();
  announce(`The ${slot.words} was removed.`);
}

function render(): void {
  for (const place of ['image', 'lastImage'] as const) {
    const { box, add, given, remove, picture } = slots[place];
    const hadFocus = box.contains(document.activeElement);
    const offered = takes[place] && (place === 'image' || slots.image.picture !== undefined);
    box.hidden = picture === undefined && !offered;
    add.hidden = picture !== undefined;
    given.hidden = picture === undefined;
    // A focused button that vanishes takes the focus with it.
    if (hadFocus) (box.hidden ? slots.image.add : picture ? remove : add).focus({ preventScroll: true });
  }
  byId('pictures-hint').hidden = slots.image.box.hidden || slots.image.picture !== undefined;
}

function makeSlot(place: Place, which: string): Slot {
  const words = `${which} frame`;
  const add = make('button', { type: 'button', id: `${which}-add`, className: 'quiet' }, `Add a ${words}`);
  const thumb = make('canvas', { id: `${which}-thumb`, role: 'img' });
  const remove = make('button', { type: 'button', id: `${which}-remove`, className: 'quiet', ariaLabel: `Remove the ${words}` }, 'Remove');
  const given = make('div', { className: 'given' }, thumb, make('span', { className: 'fine' }, capital(words)), remove);
  const file = make('input', { type: 'file', id: `${which}-file`, accept: 'image/*', hidden: true, ariaLabel: capital(words) });
  const box = make('div', { className: 'slot', data: { place } }, add, given, file);
  const slot: Slot = { words, box, add, given, thumb, remove, picture: undefined, turn: 0 };
  add.addEventListener('click', () => file.click());
  file.addEventListener('change', () => {
    if (file.files?.[0]) void put(place, file.files[0]);
    // The same file may be chosen again after it was removed.
    file.value = '';
  });
  remove.addEventListener('click', () => clear(slot));
  return slot;
}

async function draw(canvas: HTMLCanvasElement, { data, width, height }: Frame): Promise<void> {
  const bitmap = await createImageBitmap(new ImageData(data, width, height));
  const scale = Math.min(1, THUMB_PX / Math.min(width, height));
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  const context = canvas.getContext('2d');
  if (context) {
    context.imageSmoothingQuality = 'high';
    context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  }
  bitmap.close();
}

function capital(words: string): string {
  return words.charAt(0).toUpperCase() + words.slice(1);
}
