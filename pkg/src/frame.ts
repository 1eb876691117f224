/** One picture: `width × height × 4` bytes of RGBA, rows top to bottom. Fits `new ImageData(data, width, height)`. */
export interface Frame {
  readonly width: number;
  readonly height: number;
  readonly data: Uint8ClampedArray<ArrayBuffer>;
}
