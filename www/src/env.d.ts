/** A file's text, as Vite gives it. */
declare module '*?raw' {
  const text: string;
  export default text;
}

/** Put in by vite.config.ts. */
declare const SAMPLE: { prompt: string; width: number; height: number } | null;
/** Size of the wasm engine, 0 if it was not built yet. */
declare const ENGINE_BYTES: number;
