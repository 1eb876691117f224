'use client';
import 'tabreel/element';

export function Clip() {
  return <tabreel-clip model="/models/small-world/" prompt="a large red ball bounces over grass at sunset" controls />;
}
