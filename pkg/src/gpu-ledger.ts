/**
 * Every buffer made on the engine's GPU device: how much there is, how much there was at most, and destroying
 * those that the engine has given up. Browsers free a buffer only when the garbage collector finds it, and to the
 * collector a buffer of a gigabyte is a small object. Crosses to the engine as `host.gpu`.
 */

/** The part of a GPUBuffer that is used. */
export interface BufferLike {
  readonly size: number;
  readonly usage: number;
  destroy(): void;
}
export interface DeviceLike {
  createBuffer(descriptor: { size: number; usage: number }): BufferLike;
}

/** GPUBufferUsage.INDIRECT: only the pool in which tensors live asks for it (cubecl-wgpu 0.11 `mem_manager.rs`). */
const INDIRECT = 0x100;

interface Entry {
  buffer: WeakRef<BufferLike>;
  bytes: number;
  /** Holds tensors, not the engine's own staging or uniforms. */
  tensors: boolean;
  /** Stays: a weight. */
  kept: boolean;
}

export class GpuLedger {
  readonly #entries = new Map<number, Entry>();
  readonly #collected = new FinalizationRegistry<number>((id) => this.#forget(id));
  #next = 0;
  #bytes = 0;
  #peakBytes = 0;

  /** What exists now. */
  get bytes(): number {
    return this.#bytes;
  }

  /** The most that existed at once since the start or the last `startPeak()`. */
  get peakBytes(): number {
    return this.#peakBytes;
  }

  startPeak(): void {
    this.#peakBytes = this.#bytes;
  }

  /** Enters every buffer that `device` will make. */
  watch(device: DeviceLike): void {
    const createBuffer = device.createBuffer.bind(device);
    device.createBuffer = (descriptor) => {
      const buffer = createBuffer(descriptor);
      const id = this.#next++;
      this.#entries.set(id, { buffer: new WeakRef(buffer), bytes: buffer.size, tensors: (buffer.usage & INDIRECT) !== 0, kept: false });
      this.#collected.register(buffer, id, buffer);
      this.#bytes += buffer.size;
      this.#peakBytes = Math.max(this.#peakBytes, this.#bytes);
      return buffer;
    };
  }

  /** The buffers that hold tensors now stay until the device goes. */
  keepAll(): void {
    for (const entry of this.#entries.values()) if (entry.tensors) entry.kept = true;
  }

  /**
   * Destroys the buffers made for tensors since `keepAll()` but those in `live`, if these hold `bytes` in all: then
   * the engine's books and ours agree on what is in use. Otherwise leaves everything and says false.
   */
  destroyBut(live: readonly BufferLike[], bytes: number): boolean {
    const staying = new Set([...this.#entries.values()].filter(({ kept }) => kept).map(({ buffer }) => buffer.deref()));
    const keep = new Set(live.filter((buffer) => !staying.has(buffer)));
    const sum = [...keep].reduce((total, { size }) => total + size, 0);
    if (sum !== bytes) return false;
    for (const [id, { buffer, tensors, kept }] of this.#entries) {
      const one = buffer.deref();
      if (!tensors || kept || one === undefined || keep.has(one)) continue;
      this.#collected.unregister(one);
      one.destroy();
      this.#forget(id);
    }
    return true;
  }

  #forget(id: number): void {
    this.#bytes -= this.#entries.get(id)?.bytes ?? 0;
    this.#entries.delete(id);
  }
}
