/** The events of `<tabreel-clip>`. */
import type { Clip } from './clip.js';
import type { TabreelError } from './errors.js';
import type { Frame } from './frame.js';

/** How far a clip is. */
export interface ClipProgress {
  /** 'engine' and 'download' count bytes, 'build' parts of the model, 'wait' nothing, 'generate' steps. */
  phase: 'engine' | 'download' | 'build' | 'wait' | 'generate';
  /** So much of it is done. */
  loaded: number;
  /** 0 when nobody can tell. */
  total: number;
}

/** A preview. */
export interface PreviewFrame extends Frame {
  /** The step it was made after; counts from 1. */
  readonly step: number;
}

/** A frame of a clip that is being made. */
export interface NumberedFrame extends Frame {
  /** 0 for the first frame. */
  readonly index: number;
}

/** What the element's events carry, by their names. */
export interface ClipEvents {
  /** Words of the prompt that the model does not know, once it is loaded; and again when others are unknown, or none. */
  'unknown-words': CustomEvent<readonly string[]>;
  /** While the model loads and the clip is made. */
  progress: CustomEvent<ClipProgress>;
  /** The first frame as far as it is known after a step. */
  preview: CustomEvent<PreviewFrame>;
  /** Each finished frame, in order. */
  frame: CustomEvent<NumberedFrame>;
  /** The clip is there. */
  clip: CustomEvent<Clip>;
  /** Why there is none. Does not come when it was stopped. */
  error: CustomEvent<TabreelError>;
}

/** Listening to them, with their types. */
export interface ClipListening {
  /** Listens to one of the element's own events. */
  addEventListener<K extends keyof ClipEvents>(
    type: K,
    listener: (event: ClipEvents[K]) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
}
