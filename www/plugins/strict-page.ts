/** "Nothing leaves this tab", enforced: the built page may only talk to the server it came from. */
import type { Plugin } from 'vite';

const POLICY = [
  "default-src 'self'",
  "script-src 'self' 'wasm-unsafe-eval'",
  "style-src 'self' 'unsafe-inline'",
  "img-src 'self' data: blob:",
  "media-src 'self' blob:",
  "connect-src 'self' blob: data:",
  "worker-src 'self' blob:",
  "form-action 'none'",
  "base-uri 'self'",
].join('; ');

export function strictPage(): Plugin {
  return {
    name: 'tabreel-strict-page',
    // The dev server needs inline scripts and a socket.
    apply: 'build',
    transformIndexHtml: () => [
      { tag: 'meta', attrs: { 'http-equiv': 'Content-Security-Policy', content: POLICY }, injectTo: 'head-prepend' },
    ],
  };
}
