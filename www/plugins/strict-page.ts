/** "Nothing leaves this tab", enforced: the built page may only talk to the server it came from, and to hosts that its builder named. */
import type { Plugin } from 'vite';

/** Other hosts that visitors of this site may fetch models from, as the site's builder names them. */
const hosts = (process.env['TABREEL_HOSTS'] ?? '').split(/[\s,]+/).filter(Boolean);
const strange = hosts.find((host) => !/^https?:\/\/[\w.*-]+(:\d+)?$/.test(host));
if (strange !== undefined) throw new Error(`TABREEL_HOSTS must name hosts as https://name, with spaces between, got ${strange}`);

const POLICY = [
  "default-src 'self'",
  "script-src 'self' 'wasm-unsafe-eval'",
  "style-src 'self' 'unsafe-inline'",
  "img-src 'self' data: blob:",
  "media-src 'self' blob:",
  `connect-src ${["'self'", ...hosts, 'blob:', 'data:'].join(' ')}`,
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
