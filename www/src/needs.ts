/** What a clip needs before anything is fetched, and what was kept on this device. */
import {
  adapterName,
  cardBytes,
  deleteKept,
  deleteKernelReports,
  judgePlan,
  keptModels,
  kernelPassed,
  verifyKept,
  type KeptModel,
  type ModelCard,
  type Support,
  type VerifiedModel,
} from 'tabreel';
import { byId, isAmount, make, memory } from './dom';
import { engine, loadedModel } from './engine';
import { allowedWords } from './policy';
import type { Device } from './recipe';
import { licence, megabytes } from './words';

const line = byId('needs-line');
const list = byId('needs-list');

export interface Knowledge {
  support: Support;
  card: ModelCard | undefined;
  /** Why there is no card. */
  cardError: string | undefined;
  /** Undefined for files in hand and loose files. */
  modelUrl: string | undefined;
  device: Device;
  /** Why the model could not be kept on this device, if it could not. */
  notKept: string | undefined;
}

let latest = 0;

/** The one line below the prompt, and the details behind it. */
export async function showNeeds(knowledge: Knowledge): Promise<void> {
  const { support, card, cardError, modelUrl, device, notKept } = knowledge;
  const turn = ++latest;
  const models = await keptModels();
  // Looking takes a moment, and what was seen last must stand.
  if (turn !== latest) return;
  const kept = models.find(({ url }) => url === modelUrl)?.bytes ?? 0;
  const model = card ? cardBytes(card) : 0;
  const whole = card !== undefined && (kept >= model || modelUrl === undefined);
  const where = device === 'auto' ? support.recommended : device;
  const download = [
    whole ? 'model already on this device' : `${megabytes(Math.max(0, model - kept))} model`,
    ENGINE_BYTES > 0 && !whole ? `${megabytes(ENGINE_BYTES)} engine` : undefined,
  ];
  if (support.recommended === 'none') line.textContent = support.reason;
  else if (card === undefined) line.textContent = `The model cannot be described: ${cardError ?? 'unknown reason'}`;
  else {
    const ready = modelUrl === undefined ? `Ready: ${card.name} is loaded` : 'Ready: model already on this device';
    const fetches = whole ? ready : `Generate first fetches ${download.filter(Boolean).join(' + ')}, once`;
    line.textContent = `${fetches} · runs on the ${where === 'gpu' ? 'GPU' : 'CPU'}`;
  }

  const rows: [string, string][] = [
    ['Runs on', device === 'auto' ? support.reason : `${device.toUpperCase()}, as chosen in the settings.`],
    ['Graphics', graphics(support)],
    ['Kernels', kernels(support)],
    ['Model', card ? `${card.name}, ${megabytes(model)}, ${licence(card.license)}` : (cardError ?? '')],
    ['Made from', card?.trainedOn ?? 'not stated'],
    ['Engine', ENGINE_BYTES > 0 ? `${megabytes(ENGINE_BYTES)} WebAssembly, compressed on the way if the server can` : 'not built yet'],
    ['On this device', keptWords(kept, notKept)],
    ['Privacy', `Prompts and clips stay in this tab; this page may only talk to ${allowedWords()}.`],
  ];
  rows.splice(2, 0, ['Memory', memoryWords(support)]);
  list.replaceChildren(...rows.flatMap(([term, words]) => [make('dt', {}, term), make('dd', {}, words)]));
  showBackendNote(support, device);
  showKept(models, () => void showNeeds(knowledge));
}

function keptWords(bytes: number, notKept: string | undefined): string {
  if (notKept) return sentence(notKept);
  return bytes > 0 ? `${megabytes(bytes)} kept; check or delete it in the settings` : 'nothing kept yet';
}

const sentence = (words: string): string => `${words.charAt(0).toUpperCase()}${words.slice(1)}.`;

function memoryWords(support: Support): string {
  const { deviceGiB } = support.memory;
  // What is loaded has been planned.
  const [plan, on] = [loadedModel()?.plan, engine()?.device];
  const planned = plan && on ? judgePlan(plan, on, support).reason : undefined;
  const used = memory.get('memoryBytes', isAmount);
  const here = deviceGiB === undefined ? undefined : `this device has ${deviceGiB} GB or more, says the browser`;
  const unknown = planned === undefined ? 'measured with the first clip' : undefined;
  const measured = used === undefined ? unknown : `the last clip took ${megabytes(used)}`;
  return [planned, measured, here].filter(Boolean).join('; ');
}

function graphics({ adapter, features, webgpu }: Support): string {
  if (!adapter) return webgpu ? 'WebGPU without a usable GPU' : 'no WebGPU in this browser';
  const kind = adapter.isFallback ? 'software, no real GPU' : features['shader-f16'] ? 'with 16-bit floats' : 'without 16-bit floats';
  return `${adapterName(adapter)} (${kind})`;
}

function kernels({ adapter, kernels }: Support): string {
  if (!adapter) return 'none needed: the CPU engine has its own';
  if (kernels === undefined) return 'checked when the GPU is first used';
  const failed = kernels.filter((one) => !kernelPassed(one)).map(({ kernel }) => kernel);
  if (failed.length === 0) return `all ${kernels.length} agree with their plain twins on this GPU`;
  return `this GPU gets ${failed.join(', ')} wrong; slower ones are used instead`;
}

function showBackendNote(support: Support, device: Device): void {
  const note = byId('backend-note');
  if (device === 'auto') note.textContent = support.reason;
  else if (device === 'cpu') note.textContent = 'Works everywhere; slower than a real GPU.';
  else if (support.recommended === 'gpu') note.textContent = support.reason;
  else note.textContent = `Expect trouble: ${support.reason}`;
}

function checkedWords([found]: VerifiedModel[]): string {
  if (!found) return 'nothing is here any more';
  if (found.damaged.length > 0) return `damaged: ${found.damaged.join(', ')}. The next clip fetches what is missing`;
  if (found.unfinished.length > 0) return 'what is here is good; the rest comes with the next clip';
  return 'every file is as it came';
}

function showKept(models: KeptModel[], changed: () => void): void {
  const box = byId('kept');
  if (models.length === 0) {
    box.replaceChildren(
      make('p', { className: 'fine' }, 'No model yet. After the first clip it stays here, so that it is fetched only once.'),
    );
    return;
  }
  const rows = models.map(({ url, bytes }) => {
    const name = url.split('/').filter(Boolean).at(-1) ?? url;
    const button = make('button', { type: 'button', className: 'quiet' }, 'Delete');
    button.setAttribute('aria-label', `Delete ${name} from this device`);
    const words = make('span', { role: 'status' }, `${name}, ${megabytes(bytes)}`);
    button.addEventListener('click', async () => {
      try {
        await Promise.all([deleteKept(url), deleteKernelReports()]);
        changed();
      } catch (error) {
        words.textContent = sentence((error as Error).message);
      }
    });
    const check = make('button', { type: 'button', className: 'quiet' }, 'Check');
    check.setAttribute('aria-label', `Check ${name} on this device`);
    check.addEventListener('click', async () => {
      words.textContent = `${name}: checking…`;
      words.textContent = `${name}: ${checkedWords(await verifyKept(url))}`;
    });
    return make('p', { className: 'row' }, words, check, button);
  });
  box.replaceChildren(...rows);
}
