// npm start: builds everything that is not built yet and serves the page.
import { join } from 'node:path';
import { build } from './build.mjs';
import { serve } from './serve.mjs';
import { root } from './common.mjs';

try {
  console.log('Building tabreel. The first time this takes about twenty minutes (Rust compiles Burn); later, seconds.');
  build('release');
  const { url } = await listen(Number(process.env.PORT ?? 8080));
  console.log(`\n  tabreel is at ${url}   (Ctrl+C stops it)\n`);
} catch (error) {
  console.error(`\n${error.message}`);
  process.exit(1);
}

/** The wanted port, or a free one when it is taken. */
async function listen(port) {
  try {
    return await serve(join(root, 'www/dist'), port);
  } catch (error) {
    if (error.code !== 'EADDRINUSE') throw error;
    return serve(join(root, 'www/dist'));
  }
}
