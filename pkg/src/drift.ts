/**
 * Colours held from pass to pass, as `crate/src/tasks/drift.rs` does: a decoder gives back known frames a little brighter or
 * paler than they were, and a hundred passes would add that up. In 32-bit floats, so that both give the same bytes.
 */
import type { Frame } from './frame.js';

const f32 = Math.fround;

/** Least and most that a channel's contrast is changed by; further off it is not the decoder's doing. */
const LEAST_GAIN = f32(0.8);
const MOST_GAIN = f32(1.25);

/** What brings a channel back: `value · gain + shift`. */
interface Mend {
  gain: number;
  shift: number;
}

/**
 * The new frames of a pass, `made` without the known ones at its start and end. Each colour channel is scaled and shifted so
 * that mean and deviation of the known frames, as they were made, are those that they have; between two known ends the one
 * gives way to the other. Changes the new frames' bytes.
 */
export function holdColours(made: readonly Frame[], before: readonly Frame[], after: readonly Frame[]): Frame[] {
  const end = made.length - after.length;
  const first = mendsOf(made.slice(0, before.length), before);
  const last = mendsOf(made.slice(end), after) ?? first;
  const fresh = made.slice(before.length, end);
  if (last === undefined) return fresh;
  for (const [index, { data }] of fresh.entries()) {
    const share = f32((index + 1) / (fresh.length + 1));
    for (const [channel, to] of last.entries()) change(data, channel, between((first ?? last)[channel]!, to, share));
  }
  return fresh;
}

const between = (a: Mend, b: Mend, share: number): Mend => ({
  gain: f32(a.gain + f32(f32(b.gain - a.gain) * share)),
  shift: f32(a.shift + f32(f32(b.shift - a.shift) * share)),
});

function change(data: Uint8ClampedArray, channel: number, { gain, shift }: Mend): void {
  // Rounded first: the array itself would round halves to even.
  const changed = Uint8ClampedArray.from({ length: 256 }, (_, value) => Math.round(f32(f32(value * gain) + shift)));
  for (let i = channel; i < data.length; i += 4) data[i] = changed[data[i]!]!;
}

/** What turns the frames as they were made into those that are known, for red, green and blue; undefined without any. */
function mendsOf(made: readonly Frame[], known: readonly Frame[]): Mend[] | undefined {
  if (known.length === 0) return undefined;
  return [0, 1, 2].map((channel) => {
    const [is, wanted] = [statistics(made, channel), statistics(known, channel)];
    // A plain colour has no contrast to compare.
    const compared = is.deviation > 1 && wanted.deviation > 1;
    const gain = compared ? Math.min(Math.max(f32(wanted.deviation / is.deviation), LEAST_GAIN), MOST_GAIN) : 1;
    return { gain, shift: f32(wanted.mean - f32(is.mean * gain)) };
  });
}

/** Mean and standard deviation of a channel. */
function statistics(frames: readonly Frame[], channel: number): { mean: number; deviation: number } {
  let [count, sum, squares] = [0, 0, 0];
  for (const { data } of frames) {
    count += data.length / 4;
    for (let i = channel; i < data.length; i += 4) sum += data[i]!;
  }
  const mean = sum / count;
  for (const { data } of frames) for (let i = channel; i < data.length; i += 4) squares += (data[i]! - mean) ** 2;
  return { mean: f32(mean), deviation: f32(Math.sqrt(squares / count)) };
}
