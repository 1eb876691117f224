/** One picture: `width × height × 4` bytes of RGBA, rows top to bottom. Fits `new ImageData(data, width, height)`. */
export interface Frame {
  /** Px. */
  readonly width: number;
  /** Px. */
  readonly height: number;
  /** `width × height × 4` bytes, rows top to bottom. */
  readonly data: Uint8ClampedArray<ArrayBuffer>;
}
