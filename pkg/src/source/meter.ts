/** How far a load is, in bytes, with its rate and what is left. */
import type { ModelFile } from '../card.js';

/** How far the reading of a model folder is. */
export interface FetchProgress {
  /** Bytes of the whole folder that have come. */
  loaded: number;
  /** Bytes of the whole folder. */
  total: number;
  /** The file at hand. */
  what: string;
  /** Bytes of that file that have come. */
  fileLoaded: number;
  /** Bytes of that file. */
  fileTotal: number;
  /** True while it comes from this device and not from the network. */
  fromDevice: boolean;
  /** From the network, over the last ten seconds, bytes/s; undefined until it is known. */
  bytesPerSecond?: number | undefined;
  /** At that rate; undefined until it is known. */
  secondsLeft?: number | undefined;
  /** Why nothing comes just now, in words. */
  waiting?: string | undefined;
}

/** Between two reports, ms. */
const PACE = 100;
/** The rate is of this long, ms. */
const WINDOW = 10_000;
/** Less than this is no rate yet, ms. */
const FIRST = 1000;

/** Counts the bytes of a folder's files. */
export class Meter {
  readonly #total: number;
  readonly #report: (progress: FetchProgress) => void;
  readonly #now: () => number;
  readonly #files = new Map<string, FileMeter>();
  /** When, and how many bytes had come from the network by then. */
  #samples: [time: number, bytes: number][] = [];
  #network = 0;
  #reported = -Infinity;
  #last: FileMeter | undefined;
  #waiting: string | undefined;

  constructor(files: readonly ModelFile[], report: (progress: FetchProgress) => void, now = () => performance.now()) {
    this.#total = files.reduce((sum, { bytes }) => sum + bytes, 0);
    this.#report = report;
    this.#now = now;
    for (const file of files) this.#files.set(file.path, new FileMeter(file, (meter, bytes) => this.#count(meter, bytes)));
  }

  file(path: string): FileMeter | undefined {
    return this.#files.get(path);
  }

  /** Says why nothing comes; undefined: it does again. */
  wait(why: string | undefined): void {
    if (this.#waiting === why) return;
    this.#waiting = why;
    this.#tell(true);
  }

  #count(meter: FileMeter, network: number): void {
    this.#last = meter;
    this.#waiting = undefined;
    if (network > 0) {
      const now = this.#now();
      if (this.#samples.length === 0) this.#samples.push([now, this.#network]);
      this.#network += network;
      this.#samples.push([now, this.#network]);
      while (this.#samples.length > 2 && this.#samples[1]![0] < now - WINDOW) this.#samples.shift();
    }
    this.#tell(meter.loaded === meter.total);
  }

  #tell(atOnce: boolean): void {
    const now = this.#now();
    if (!atOnce && now - this.#reported < PACE) return;
    this.#reported = now;
    const last = this.#last ?? [...this.#files.values()][0];
    if (last === undefined) return;
    let loaded = 0;
    for (const meter of this.#files.values()) loaded += meter.loaded;
    const [since, before] = this.#samples[0] ?? [now, 0];
    const elapsed = now - since;
    const rate = elapsed < FIRST || last.fromDevice ? undefined : ((this.#network - before) / elapsed) * 1000;
    this.#report({
      loaded,
      total: this.#total,
      what: last.path,
      fileLoaded: last.loaded,
      fileTotal: last.total,
      fromDevice: last.fromDevice,
      bytesPerSecond: rate,
      secondsLeft: rate ? (this.#total - loaded) / rate : undefined,
      waiting: this.#waiting,
    });
  }
}

/** Counts the bytes of one file; what comes twice counts once. */
export class FileMeter {
  readonly path: string;
  readonly total: number;
  loaded = 0;
  fromDevice = false;

  constructor(
    { path, bytes }: ModelFile,
    readonly changed: (meter: FileMeter, network: number) => void,
  ) {
    [this.path, this.total] = [path, bytes];
  }

  add(bytes: number, from: 'network' | 'device'): void {
    this.fromDevice = from === 'device';
    this.loaded = Math.min(this.total, this.loaded + bytes);
    this.changed(this, this.fromDevice ? 0 : bytes);
  }

  /** What came was of no use. */
  restart(): void {
    this.loaded = 0;
  }
}
