// npm start: builds everything that is not built yet and serves the page.
import { build, site } from './build.mjs';
import { QUICK, SMALLEST, compressFolder } from './compress.mjs';
import { serve } from './serve.mjs';

try {
  console.log('Building tabreel. The first time this takes about twenty minutes (Rust compiles Burn); later, seconds.');
  await build('release', QUICK);
  const { url } = await listen(Number(process.env.PORT ?? 8080));
  console.log(`\n  tabreel is at ${url}   (Ctrl+C stops it)\n`);
  // The server hands out each file's smallest form as soon as it is there.
  await compressFolder(site, SMALLEST);
} catch (error) {
  console.error(`\n${error.message}`);
  process.exit(1);
}

/** The wanted port, or a free one when it is taken. */
async function listen(port) {
  try {
    return await serve(site, port);
  } catch (error) {
    if (error.code !== 'EADDRINUSE') throw error;
    return serve(site);
  }
}
