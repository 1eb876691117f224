/** What `<tabreel-clip>` shows: a canvas, a bar of buttons, and a line that says what goes on. */
import { drawSmooth, type Clip } from './clip.js';
import type { Frame } from './frame.js';

export type ViewState = 'idle' | 'working' | 'done' | 'error';

const CSS = `
:host { display: inline-block; position: relative; width: 256px; max-width: 100%; font: 14px/1.4 system-ui, sans-serif; }
:host([hidden]) { display: none; }
canvas { display: block; width: 100%; background: #8884; border-radius: 4px; }
button { font: inherit; min-height: 32px; padding: 4px 12px; cursor: pointer; }
[part=bar] { display: flex; flex-wrap: wrap; gap: 6px; align-items: center; margin-top: 6px; }
progress { flex: 1; min-width: 60px; }
[part=status], [part=unknown] { margin: 4px 0 0; overflow-wrap: anywhere; }
[part=status] { min-height: 1.4em; }
[hidden] { display: none !important; }
`;

let sheet: CSSStyleSheet | undefined;

const BUTTONS = { start: 'Make the clip', stop: 'Stop', play: 'Pause', save: 'Save' } as const;
type ButtonName = keyof typeof BUTTONS;

/** The longest side of the canvas, px: larger is beyond what a clip has to show. */
const MAX_SIDE_PX = 1024;

export class ClipView {
  readonly #host: HTMLElement;
  readonly #canvas = document.createElement('canvas');
  readonly #progress = document.createElement('progress');
  readonly #status = document.createElement('p');
  readonly #unknown = document.createElement('p');
  readonly #buttons = {} as Record<ButtonName, HTMLButtonElement>;
  #clip: Clip | undefined;
  #shown = -1;
  #started = 0;
  #frame = 0;
  #state: ViewState = 'idle';

  constructor(host: HTMLElement, onClick: Record<ButtonName, () => void>) {
    this.#host = host;
    const root = host.attachShadow({ mode: 'open' });
    // Without attributes of its own in the page's markup.
    const internals = host.attachInternals();
    internals.role = 'group';
    internals.ariaLabel = 'Generated clip';
    // A sheet made by script needs no 'unsafe-inline' in style-src.
    sheet ??= new CSSStyleSheet();
    sheet.replaceSync(CSS);
    root.adoptedStyleSheets = [sheet];
    this.#canvas.setAttribute('part', 'canvas');
    this.#canvas.setAttribute('role', 'img');
    this.#progress.setAttribute('part', 'progress');
    this.#progress.setAttribute('aria-label', 'How far the clip is');
    this.#status.setAttribute('part', 'status');
    this.#status.setAttribute('role', 'status');
    this.#unknown.setAttribute('part', 'unknown');
    this.#unknown.setAttribute('role', 'status');
    const bar = document.createElement('div');
    bar.setAttribute('part', 'bar');
    for (const [name, words] of Object.entries(BUTTONS) as [ButtonName, string][]) {
      const button = document.createElement('button');
      Object.assign(button, { type: 'button', textContent: words, onclick: onClick[name] });
      button.setAttribute('part', `button ${name}`);
      this.#buttons[name] = button;
      bar.append(button);
    }
    bar.append(this.#progress);
    root.append(this.#canvas, bar, this.#status, this.#unknown);
    this.shape(1, 1);
    this.show('idle');
  }

  get canvas(): HTMLCanvasElement {
    return this.#canvas;
  }

  get playing(): boolean {
    return this.#frame !== 0;
  }

  /** Which buttons there are; `controls` adds those for saving and for another clip. */
  show(state: ViewState, controls = false): void {
    const { start, stop, play, save } = this.#buttons;
    const focused = this.#host.shadowRoot?.activeElement;
    this.#state = state;
    const done = state === 'done';
    start.hidden = state === 'working' || (done && !controls);
    start.textContent = { idle: 'Make the clip', working: '', done: 'Make another', error: 'Try again' }[state];
    stop.hidden = this.#progress.hidden = state !== 'working';
    play.hidden = !done || (this.#clip?.numFrames ?? 0) < 2;
    save.hidden = !done || !controls;
    this.#canvas.setAttribute('aria-label', (done && this.#clip?.options.prompt) || this.#host.getAttribute('prompt') || 'A clip');
    // Who pressed a button that is gone goes on at the one that took its place.
    if (focused instanceof HTMLElement && focused.hidden) [stop, play, save, start].find((button) => !button.hidden)?.focus();
  }

  /** A sentence for everyone, read out too. */
  say(text: string): void {
    if (this.#status.textContent !== text) this.#status.textContent = text;
  }

  /** Which words the model does not know; empty where it knows all. Never hidden: a live region must be there before its words. */
  sayUnknown(text: string): void {
    if (this.#unknown.textContent !== text) this.#unknown.textContent = text;
  }

  /** 0 to 1; undefined when nobody can tell. */
  progress(part: number | undefined): void {
    if (part === undefined) this.#progress.removeAttribute('value');
    else this.#progress.value = part;
  }

  /** Gives the canvas the clip's shape before there is a clip. */
  shape(width: number, height: number): void {
    if (this.#clip === undefined && width > 0 && height > 0) this.#canvas.style.aspectRatio = `${width} / ${height}`;
  }

  paint(frame: Frame): void {
    this.#canvas.style.aspectRatio = `${frame.width} / ${frame.height}`;
    const wanted = (this.#canvas.clientWidth || frame.width) * (globalThis.devicePixelRatio || 1);
    const scale = Math.min(Math.max(wanted / frame.width, 1), Math.max(1, MAX_SIDE_PX / Math.max(frame.width, frame.height)));
    const [width, height] = [Math.round(frame.width * scale), Math.round(frame.height * scale)];
    // Setting the size, even to the same, empties a canvas.
    if (this.#canvas.width !== width || this.#canvas.height !== height) Object.assign(this.#canvas, { width, height });
    drawSmooth(this.#canvas, frame);
  }

  clip(clip: Clip | undefined): void {
    this.pause();
    this.#clip = clip;
    this.#shown = -1;
    this.#started = 0;
    if (clip) this.paint(clip.frames[0]!);
  }

  play(): void {
    if (this.#clip === undefined || this.#frame !== 0) return;
    this.#started = performance.now() - (Math.max(0, this.#shown) / this.#clip.fps) * 1000;
    const next = (): void => {
      this.#frame = requestAnimationFrame(next);
      const { frames, fps, numFrames } = this.#clip!;
      const index = Math.floor(Math.max(0, performance.now() - this.#started) / (1000 / fps)) % numFrames;
      if (index !== this.#shown) this.paint(frames[index]!);
      this.#shown = index;
    };
    this.#frame = requestAnimationFrame(next);
    this.#buttons.play.textContent = 'Pause';
  }

  pause(): void {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    this.#buttons.play.textContent = 'Play';
  }

  get state(): ViewState {
    return this.#state;
  }
}
