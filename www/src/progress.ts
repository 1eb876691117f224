/** The line that says what is going on: visible every moment, spoken only when it matters. */
import { byId } from './dom';
import { about } from './words';

const box = byId('working');
const bar = byId<HTMLProgressElement>('progress');
const line = byId('status');
const announcer = byId('announcer');

let words = '';
let left: (() => number | undefined) | undefined;
let timer: ReturnType<typeof setInterval> | undefined;
let began = 0;
/** The last estimate, s, and since when it has not moved. */
let last = { secs: NaN, since: 0 };
let paused = false;

export function startProgress(): void {
  began = performance.now();
  left = undefined;
  last = { secs: NaN, since: began };
  box.hidden = false;
  timer = setInterval(write, 500);
}

/** `share` is 0 … 1, or undefined while it cannot be known. */
export function progress(what: string, share?: number): void {
  words = what;
  if (share === undefined || !Number.isFinite(share)) bar.removeAttribute('value');
  else bar.value = Math.min(1, Math.max(0, share));
  write();
}

/** From now on the line ends in the time that is left. */
export function countdown(source: () => number | undefined): void {
  left = source;
}

/** While the engine is held there is no time to tell. */
export function holdProgress(hold: boolean): void {
  paused = hold;
  write();
}

/** For screen readers; politely, so only turning points. */
export function announce(what: string): void {
  announcer.textContent = what;
}

export function endProgress(): void {
  clearInterval(timer);
  box.hidden = true;
  words = '';
  paused = false;
}

/** Nothing was taken off the estimate for some seconds: what is at hand takes longer than it should. */
function overdue(secs: number): boolean {
  const now = performance.now();
  if (secs !== last.secs) last = { secs, since: now };
  return now - last.since > 3000;
}

function write(): void {
  if (paused) {
    line.textContent = `${words} · paused`;
    return;
  }
  const secs = left?.();
  const elapsed = (performance.now() - began) / 1000;
  const time =
    secs === undefined ? `${elapsed.toFixed(0)} s so far` : overdue(secs) ? 'longer than expected: the machine may be busy' : about(secs);
  line.textContent = `${words} · ${time}`;
}
