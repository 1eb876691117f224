// The bench's host in Node: files, Dawn on whatever Vulkan driver there is, onnxruntime-web from node_modules.
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { cpus } from 'node:os';
import { join, relative } from 'node:path';
import { pathToFileURL } from 'node:url';
import { provideWebGpu } from './dawn.mjs';
import { openGpu } from './gpu.mjs';

export const root = join(import.meta.dirname, '../..');
const drivers = {
  lavapipe: '/usr/share/vulkan/icd.d/lvp_icd.json',
  swiftshader: '/usr/lib/chromium/vk_swiftshader_icd.json',
};

/** The version of an installed package, or undefined. */
export function packageVersion(name) {
  const file = [join(root, 'bench/node_modules', name, 'package.json'), join(root, 'node_modules', name, 'package.json')].find(existsSync);
  return file && JSON.parse(readFileSync(file, 'utf8')).version;
}
export const machine = { cpu: cpus()[0]?.model, cores: cpus().length };

/** Every file in a folder of the checkout, by its path in it. */
export const filesIn = (folder) => readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile())
  .map((entry) => relative(join(root, folder), join(entry.parentPath ?? entry.path, entry.name)).replaceAll('\\', '/'));

const ort = join(root, 'bench/node_modules/onnxruntime-web');

export const nodeHost = ({ driver }) => ({
  ...machine,
  versions: { node: process.version, 'onnxruntime-web': packageVersion('onnxruntime-web'), webgpu: packageVersion('webgpu') },
  colour: process.stdout.isTTY,
  print: (text) => console.log(text),
  async openGpu() {
    if (driver && !existsSync(drivers[driver] ?? '')) throw new Error(`no such driver here: ${driver}`);
    if (driver) process.env.VK_DRIVER_FILES = drivers[driver];
    process.env.XDG_RUNTIME_DIR ??= '/tmp';
    await provideWebGpu();
    acceptSharedMemory();
    return openGpu();
  },
  /** Where onnxruntime-web's builds lie; undefined if it is not installed. */
  ort: existsSync(ort) ? `${pathToFileURL(join(ort, 'dist'))}/` : undefined,
  bytes: async (path) => new Uint8Array(readFileSync(join(root, path))),
  files: async (folder) => filesIn(folder),
  nextTask: () => new Promise((done) => setImmediate(done)),
});

/** Dawn's binding refuses views on a SharedArrayBuffer, and onnxruntime-web's memory is always one: copy them first. */
function acceptSharedMemory() {
  const { prototype } = globalThis.GPUQueue;
  const { writeBuffer } = prototype;
  prototype.writeBuffer = function (buffer, at, data, offset = 0, size = undefined) {
    const shared = (data.buffer ?? data) instanceof SharedArrayBuffer;
    if (!shared) return size === undefined ? writeBuffer.call(this, buffer, at, data, offset) : writeBuffer.call(this, buffer, at, data, offset, size);
    // offset and size count elements of a typed array, bytes of a buffer
    const unit = data.BYTES_PER_ELEMENT ?? 1;
    const start = (data.byteOffset ?? 0) + offset * unit;
    const length = size === undefined ? data.byteLength - offset * unit : size * unit;
    return writeBuffer.call(this, buffer, at, Uint8Array.from(new Uint8Array(data.buffer ?? data, start, length)));
  };
}
