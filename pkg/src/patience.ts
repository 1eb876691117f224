/** Browsers that do not answer: what is asked of one has an end, so that no promise of ours stays open. */

/** How long the browser may take over a question that needs no work, ms. */
export const ANSWER_MS = 5000;
/** And over work such as reading or decoding a part of a file, ms. */
export const WORK_MS = 60_000;

/**
 * What a promise gives, if it gives it in time. `late` gets what comes afterwards, to let go of it.
 *
 * @throws DOMException `TimeoutError`: "no answer from … within 5 s"
 */
export async function inTime<T>(promise: PromiseLike<T>, from: string, ms = ANSWER_MS, late?: (value: T) => void): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let over = false;
  const end = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      over = true;
      reject(new DOMException(`no answer from ${from} within ${ms / 1000} s`, 'TimeoutError'));
    }, ms);
  });
  promise.then(
    (value) => over && late?.(value),
    () => undefined, // heard below, or too late for anyone
  );
  try {
    return await Promise.race([promise, end]);
  } finally {
    clearTimeout(timer);
  }
}

/** True for what {@link inTime} rejects with. */
export const isLate = (error: unknown): boolean => error instanceof DOMException && error.name === 'TimeoutError';
