// npm run contract: writes pkg/src/contract.ts from the Rust types (crate/src/contract.rs says how).
import { native, run } from './common.mjs';

run('cargo', ['test', '--release', '--workspace', '--lib', 'the_committed_typescript'], { env: { ...native, TABREEL_WRITE: '1' } });
