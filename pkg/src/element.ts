/** `<tabreel-clip prompt="…" model="…">`: a clip that is made where it is shown. Importing this file defines the element. */
import type { Clip } from './clip.js';
import type { ClipOptions } from './contract.js';
import { OPTION_NAMES, readOption, readOptions, writeOption } from './element-attributes.js';
import { makeClip, release } from './element-engine.js';
import type { ClipEvents, ClipListening, ClipProgress } from './element-events.js';
import { ClipView } from './element-view.js';
import { TabreelError, toTabreelError } from './errors.js';
import type { GenerateOptions, LoadOptions } from './generator.js';
import type { ClipInputs } from './inputs.js';
import { unknownWords, unknownWordsNote, type Vocabulary } from './vocabulary.js';

export type { ClipEvents, ClipProgress, NumberedFrame, PreviewFrame } from './element-events.js';

/** What a page sets once for all its elements. */
export type ElementLoadOptions = Pick<LoadOptions, 'keep' | 'wasmUrl' | 'createWorker'>;

/** Every option of `generate()` is a property, defined below; it mirrors the attribute of the same name in kebab-case. */
type ClipElement = ClipListening & HTMLElement & ClipOptions;

// On a server there is no HTMLElement, and importing must do no harm there.
const Base = (globalThis.HTMLElement ?? class {}) as new () => ClipElement;

const PHASES = {
  engine: 'Loading the engine',
  download: 'Loading the model',
  build: 'Preparing the model',
  wait: 'Waiting for another clip',
  generate: 'Making the clip',
} as const;

/**
 * The element. Attributes: `model`, `device`, `autoplay`, `controls`, and every option of `generate()` in kebab-case.
 * Nothing is fetched before the start button is pressed, unless it has `autoplay`.
 */
export class TabreelClip extends Base {
  /** What `load()` takes besides: where the wasm is and how the worker is made, if the bundler does not find them. */
  static loadOptions: ElementLoadOptions = {};

  /** The observed attributes. */
  static readonly observedAttributes = ['prompt', 'width', 'height', 'controls', 'autoplay'];

  /** What the first frame shows. */
  declare image: ClipInputs['image'];
  /** What the last frame shows. */
  declare lastImage: ClipInputs['lastImage'];

  #view: ClipView | undefined;
  #clip: Clip | undefined;
  #cancel: AbortController | undefined;
  /** Of the model that was loaded last. */
  #vocabulary: Vocabulary | undefined;
  #unknown: readonly string[] = [];
  #seen: IntersectionObserver | undefined;

  /** The finished clip, if there is one. */
  get clip(): Clip | undefined {
    return this.#clip;
  }

  /** Where it stands. */
  get state(): 'idle' | 'working' | 'done' | 'error' {
    return this.#view?.state ?? 'idle';
  }

  /** The address of the model folder, relative to the page. */
  get model(): string {
    return this.getAttribute('model') ?? '';
  }
  /** Sets the attribute. */
  set model(value: string) {
    this.setAttribute('model', value);
  }

  /** 'auto' (default), 'gpu' or 'cpu'. */
  get device(): NonNullable<LoadOptions['device']> {
    return (this.getAttribute('device') ?? 'auto') as NonNullable<LoadOptions['device']>;
  }
  /** Sets the attribute. */
  set device(value: NonNullable<LoadOptions['device']>) {
    this.setAttribute('device', value);
  }

  /** Makes the clip as soon as the element is seen, unless the visitor saves data. */
  get autoplay(): boolean {
    return this.hasAttribute('autoplay');
  }
  /** Sets the attribute. */
  set autoplay(value: boolean) {
    this.toggleAttribute('autoplay', value);
  }

  /** Adds buttons that save the clip and make another. */
  get controls(): boolean {
    return this.hasAttribute('controls');
  }
  /** Sets the attribute. */
  set controls(value: boolean) {
    this.toggleAttribute('controls', value);
  }

  /**
   * Loads the model, if no other element has, and makes the clip that the attributes ask for. While one is being made,
   * this one is stopped first.
   *
   * @throws TabreelError as `load()` and `generate()` do
   */
  async generate(): Promise<Clip> {
    this.stop();
    const view = this.#shown();
    const cancel = new AbortController();
    this.#cancel = cancel;
    const current = (): boolean => this.#cancel === cancel;
    const tell = (phase: ClipProgress['phase'], loaded = 0, total = 0): void => {
      if (!current()) return;
      view.say(`${PHASES[phase]}…`);
      view.progress(total > 0 ? loaded / total : undefined);
      this.#emit('progress', { phase, loaded, total });
    };
    this.#clip = undefined;
    view.clip(undefined);
    view.show('working');
    tell('engine');
    try {
      const clip = await makeClip(this, {
        model: this.#modelAddress(),
        device: this.device,
        load: TabreelClip.loadOptions,
        onProgress: ({ phase, loaded, total }) => tell(phase, loaded, total),
        onLoaded: ({ model }) => {
          this.#vocabulary = model.card.vocabulary;
          this.#tellUnknown();
        },
        onWait: () => tell('wait'),
        options: { ...readOptions(this), ...this.#pictures(), ...this.#listeners(view, tell), signal: cancel.signal },
        signal: cancel.signal,
      });
      // It was stopped, or asked anew, when it was just done.
      if (!current()) throw new TabreelError('aborted', 'stopped');
      this.#clip = clip;
      view.clip(clip);
      view.show('done', this.controls);
      view.say(clip.warnings.length > 0 ? `The clip is ready: ${clip.warnings.join('; ')}` : 'The clip is ready');
      if (!prefersStill()) view.play();
      this.#emit('clip', clip);
      return clip;
    } catch (thrown) {
      const error = toTabreelError(thrown);
      if (current()) {
        view.show(error.code === 'aborted' ? 'idle' : 'error');
        view.say(error.code === 'aborted' ? 'Stopped' : error.message);
        if (error.code !== 'aborted') this.#emit('error', error);
      }
      throw error;
    } finally {
      if (current()) this.#cancel = undefined;
      if (!this.isConnected) release(this); // nobody will tell when it is gone
    }
  }

  /** Stops what is being made; its promise rejects with code `aborted`. */
  stop(): void {
    this.#cancel?.abort();
  }

  /** Plays the clip, over and over. */
  play(): void {
    this.#view?.play();
  }

  /** Holds the clip at the frame it shows. */
  pause(): void {
    this.#view?.pause();
  }

  /** Called by the browser. */
  connectedCallback(): void {
    for (const name of MIRRORED) upgrade(this, name);
    this.#shown();
    if (this.#clip && !prefersStill()) this.play();
    this.#startWhenSeen();
  }

  /** Called by the browser. The engine is closed with the last element that shares it. */
  disconnectedCallback(): void {
    this.#seen?.disconnect();
    this.#seen = undefined;
    this.pause();
    // An element that is only moved is connected again at once.
    queueMicrotask(() => {
      if (this.isConnected) return;
      this.stop();
      release(this);
    });
  }

  /** Called by the browser. */
  attributeChangedCallback(name: string): void {
    const view = this.#view;
    if (view === undefined) return;
    if (name === 'prompt') this.#tellUnknown();
    if (name === 'autoplay') this.#startWhenSeen();
    else view.show(view.state, this.controls);
    this.#shape();
  }

  #shown(): ClipView {
    this.#view ??= new ClipView(this, {
      start: () => void this.generate().catch(() => undefined), // shown, and an event
      stop: () => this.stop(),
      play: () => (this.#view?.playing ? this.pause() : this.play()),
      save: () => void this.#save(),
    });
    this.#shape();
    return this.#view;
  }

  /** Of a model that does not know all words: which of the prompt's say nothing to it. */
  #tellUnknown(): void {
    const prompt = this.getAttribute('prompt') ?? '';
    const unknown = unknownWords(prompt, this.#vocabulary);
    this.#view?.sayUnknown(unknownWordsNote(prompt, this.#vocabulary));
    const same = unknown.join(' ') === this.#unknown.join(' ');
    this.#unknown = unknown;
    if (!same) this.#emit('unknown-words', unknown);
  }

  #shape(): void {
    const [width = NaN, height = NaN] = [readOption(this, 'width'), readOption(this, 'height')].map(Number);
    this.#view?.shape(width || 1, height || width || 1);
  }

  #startWhenSeen(): void {
    const { connection } = navigator as { connection?: { saveData?: boolean } };
    const starts = this.autoplay && this.isConnected && this.state === 'idle' && !connection?.saveData;
    if (!starts || this.#seen !== undefined || this.#cancel !== undefined) return;
    this.#seen = new IntersectionObserver((entries) => {
      if (!entries.some(({ isIntersecting }) => isIntersecting)) return;
      this.#seen?.disconnect();
      this.#seen = undefined;
      void this.generate().catch(() => undefined);
    });
    this.#seen.observe(this);
  }

  #modelAddress(): string {
    const model = this.getAttribute('model');
    if (!model) throw new TabreelError('invalid-options', 'model must be the URL of a model folder, got none');
    try {
      return new URL(model, this.baseURI).href;
    } catch {
      throw new TabreelError('invalid-options', `model must be the URL of a model folder, got "${model}"`);
    }
  }

  #pictures(): Pick<ClipInputs, 'image' | 'lastImage'> {
    const { image, lastImage } = this;
    return { ...(image !== undefined && { image }), ...(lastImage !== undefined && { lastImage }) };
  }

  #listeners(view: ClipView, tell: (phase: 'generate', loaded?: number, total?: number) => void): Partial<GenerateOptions> {
    return {
      onStage: (stage) => stage === 'tokenize' && tell('generate'),
      onStep: ({ step, numSteps }) => tell('generate', step, numSteps),
      onPreview: (preview) => {
        view.paint(preview);
        this.#emit('preview', preview);
      },
      onFrame: (frame) => {
        if (frame.index === 0) view.paint(frame);
        this.#emit('frame', frame);
      },
    };
  }

  async #save(): Promise<void> {
    const clip = this.#clip;
    if (!clip) return;
    const format = typeof VideoEncoder === 'undefined' || clip.numFrames === 1 ? 'png' : 'mp4';
    try {
      // Players show a small clip as a stamp.
      const scale = Math.max(1, Math.min(8, Math.floor(512 / Math.max(clip.width, clip.height))));
      const href = URL.createObjectURL(await clip.toBlob({ format, scale }));
      Object.assign(document.createElement('a'), { href, download: `tabreel-${clip.seed}.${format}` }).click();
      setTimeout(() => URL.revokeObjectURL(href), 60_000);
    } catch (thrown) {
      const error = toTabreelError(thrown);
      this.#view?.say(error.message);
      this.#emit('error', error);
    }
  }

  #emit<K extends keyof ClipEvents>(type: K, detail: ClipEvents[K]['detail']): void {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/** What a framework set on the element before this file was there hides the property of the class: sets it anew. */
function upgrade(element: TabreelClip, name: (typeof MIRRORED)[number]): void {
  if (!Object.hasOwn(element, name)) return;
  const value = element[name];
  delete element[name as 'seed'];
  Object.assign(element, { [name]: value });
}

const MIRRORED = [...OPTION_NAMES, 'model', 'device', 'autoplay', 'controls'] as const;

const prefersStill = (): boolean => matchMedia('(prefers-reduced-motion: reduce)').matches;

// A property for each option, which mirrors its attribute.
for (const name of OPTION_NAMES) {
  Object.defineProperty(TabreelClip.prototype, name, {
    configurable: true,
    enumerable: true,
    get(this: TabreelClip) {
      return readOption(this, name) ?? (name === 'prompt' ? '' : undefined);
    },
    set(this: TabreelClip, value: unknown) {
      writeOption(this, name, value);
    },
  });
}

declare global {
  interface HTMLElementTagNameMap {
    'tabreel-clip': TabreelClip;
  }
}

if (globalThis.customElements && !customElements.get('tabreel-clip')) customElements.define('tabreel-clip', TabreelClip);
