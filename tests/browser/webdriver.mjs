// WebKit's browser for tests (WebKitGTK's MiniBrowser), driven over WebDriver; on a screen of its own where there is none.
import { spawn } from 'node:child_process';
import { ensureWebKit } from '../../tools/system.mjs';

const PORT = 4571;
const DISPLAY = ':77';

/** Starts it. Resolves to `open(url)`, `run(function, ...arguments)` in the page, and `close()`. */
export async function launchWebKit() {
  const { driver, browser, screen } = ensureWebKit();
  const started = [];
  const start = (program, args, env) => void started.push(spawn(program, args, { env: { ...process.env, ...env }, stdio: 'ignore' }));
  if (!process.env.DISPLAY) start(screen, [DISPLAY, '-screen', '0', '1280x1000x24', '-nolisten', 'tcp']);
  // As root WebKit's sandbox cannot start.
  const env = { DISPLAY: process.env.DISPLAY ?? DISPLAY, WEBKIT_DISABLE_SANDBOX_THIS_IS_DANGEROUS: '1', LIBGL_ALWAYS_SOFTWARE: '1' };
  start(driver, [`--port=${PORT}`], env);

  const ask = async (method, path, body) => {
    const answer = await fetch(`http://127.0.0.1:${PORT}${path}`, {
      method,
      ...(body && { body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(120_000),
    });
    const { value } = await answer.json();
    if (value?.error) throw new Error(`${method} ${path}: ${value.error}: ${value.message}`);
    return value;
  };
  const close = async (path) => {
    if (path) await ask('DELETE', path).catch(() => undefined);
    for (const child of started.reverse()) child.kill();
  };

  const options = { binary: browser, args: ['--automation'] };
  for (let attempt = 1; ; attempt++) {
    try {
      const { sessionId } = await ask('POST', '/session', { capabilities: { alwaysMatch: { 'webkitgtk:browserOptions': options } } });
      const path = `/session/${sessionId}`;
      await ask('POST', `${path}/timeouts`, { script: 110_000 });
      const run = async (action, ...args) => {
        const script = `const done = arguments[0]; (async () => (${action})(...${JSON.stringify(args)}))().then(
          (value) => done({ value }), (error) => done({ error: String(error) }));`;
        const { value, error } = await ask('POST', `${path}/execute/async`, { script, args: [] });
        if (error) throw new Error(error);
        return value;
      };
      return { open: (url) => ask('POST', `${path}/url`, { url }), run, close: () => close(path) };
    } catch (error) {
      if (attempt === 20) throw (await close(), error);
      await new Promise((done) => setTimeout(done, 500));
    }
  }
}
