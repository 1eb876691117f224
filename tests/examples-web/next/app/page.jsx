// Rendered on the server, where importing tabreel does no harm.
import { OPTIONS } from 'tabreel';
import { Clip } from './clip';

export default function Page() {
  return (
    <main>
      <Clip />
      <p>Up to {OPTIONS.numFrames.max} frames.</p>
    </main>
  );
}
