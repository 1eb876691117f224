// The bench's host in a browser: a dedicated worker, as the package's engine has it.
import { bench } from '../bench.mjs';
import { openGpu } from '../lib/gpu.mjs';

const root = new URL('../../', import.meta.url).href;
const { port1, port2 } = new MessageChannel();
const waiting = [];
port1.onmessage = () => waiting.shift()();

onmessage = async ({ data: { options, facts, folders } }) => {
  const host = {
    ...facts,
    ort: facts.versions['onnxruntime-web'] && `${root}bench/node_modules/onnxruntime-web/dist/`,
    print: (text) => postMessage({ text }),
    openGpu,
    async bytes(path) {
      const response = await fetch(root + path);
      if (!response.ok) throw new Error(`${path} could not be fetched: ${response.status}`);
      return new Uint8Array(await response.arrayBuffer());
    },
    files: async (folder) => folders[folder],
    // setTimeout would wait 4 ms once nested; a message to oneself does not
    nextTask: () => new Promise((done) => (waiting.push(done), port2.postMessage(null))),
  };
  try {
    const fine = await bench(options, host, (result) => postMessage({ result }));
    postMessage({ done: { fine } });
  } catch (error) {
    postMessage({ failed: String(error?.stack ?? error?.message ?? error) });
  }
};
