/** A gate at which the engine waits while its page wants the machine for something else. */

/** How often a paused worker says that it lives, ms. */
const BEAT_MS = 1000;

export class Pause {
  readonly #beat: () => void;
  #beats: ReturnType<typeof setInterval> | undefined;
  #open: (() => void)[] = [];

  /** `beat` is called every second while paused. */
  constructor(beat: () => void) {
    this.#beat = beat;
  }

  set(paused: boolean): void {
    clearInterval(this.#beats);
    this.#beats = paused ? setInterval(this.#beat, BEAT_MS) : undefined;
    if (!paused) for (const open of this.#open.splice(0)) open();
  }

  /** Resolves when nothing is paused, or when `signal` stops the one that waits. */
  async over(signal: AbortSignal): Promise<void> {
    if (this.#beats === undefined || signal.aborted) return;
    await new Promise<void>((open) => {
      this.#open.push(open);
      signal.addEventListener('abort', () => open(), { once: true });
    });
  }
}
