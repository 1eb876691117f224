/** One picture: `width × height × 4` bytes of RGBA, rows top to bottom. Fits `new ImageData(data, width, height)`. */
export interface Frame {
  /** Px. */
  readonly width: number;
  /** Px. */
  readonly height: number;
  /** `width × height × 4` bytes, rows top to bottom. */
  readonly data: Uint8ClampedArray<ArrayBuffer>;
}

/** The frame that an event of the engine carries. */
export const frameOf = (event: { width: number; height: number; rgba: Uint8Array<ArrayBuffer> }): Frame => ({
  width: event.width,
  height: event.height,
  data: new Uint8ClampedArray(event.rgba.buffer, event.rgba.byteOffset, event.rgba.byteLength),
});
