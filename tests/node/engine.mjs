// The tests' side of an engine process: starts one, calls it, ends it.
import { fork } from 'node:child_process';
import { join } from 'node:path';

/** A rejection of the engine: its code and words. */
export class EngineError extends Error {
  constructor({ code, message }) {
    super(message);
    this.code = code;
  }
}

/** Starts a process and creates an engine in it; `info` is what the engine knows of its device. */
export async function startEngine({ device, poor = false }) {
  const child = fork(join(import.meta.dirname, 'engine-process.mjs'), {
    serialization: 'advanced',
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text) => (output += text));
  const waiting = new Map();
  const fail = (why) => {
    for (const { reject } of waiting.values()) reject(new Error(`${why}\n${output.slice(-2000)}`));
    waiting.clear();
  };
  child.on('message', ({ id, result, error }) => {
    const call = waiting.get(id);
    waiting.delete(id);
    if (error) call?.reject(new EngineError(error));
    else call?.resolve(result);
  });
  child.on('exit', (code, signal) => fail(`the engine's process ended (${signal ?? code})`));

  let last = 0;
  /** Calls and waits at most `seconds`: a panic inside wasm leaves promises that never settle. */
  const call = (name, args = {}, seconds = 240) =>
    new Promise((resolve, reject) => {
      const id = ++last;
      const timer = setTimeout(() => fail(`${name} did not answer within ${seconds} s`), seconds * 1000);
      const settle = (then) => (value) => (clearTimeout(timer), then(value));
      waiting.set(id, { resolve: settle(resolve), reject: settle(reject) });
      child.send({ id, call: name, args });
    });
  const stop = () => {
    child.removeAllListeners('exit');
    child.kill('SIGKILL');
  };
  try {
    const info = await call('create', { device, poor });
    return {
      info,
      load: (folder, more) => call('load', { folder, ...more }),
      loose: (files, more) => call('loose', { files, ...more }),
      generate: (options, more) => call('generate', { options, ...more }),
      batch: (clips, more) => call('batch', { clips, ...more }),
      read: () => call('read'),
      dispose: () => call('dispose'),
      stop,
    };
  } catch (error) {
    stop();
    throw error;
  }
}
