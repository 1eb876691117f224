/** A place for one file of a model: chosen by the visitor, looked at before anything is done with it. */
import { MODEL_PARTS, Tabreel, judgePlan, type EntryPart, type Inspection, type Support, type Verdict } from 'tabreel';
import { capital, make } from './dom';
import { asError } from './material';
import { modesOf } from './modes';
import { bytesWords } from './words';

/** How the parts of a model are called. */
export const PART_WORDS: Record<EntryPart, string> = {
  model: 'Model folder',
  transformer: 'Transformer',
  textEncoder: 'Text encoder',
  tokenizer: 'Tokenizer',
  vae: 'VAE',
  imageEncoder: 'Image encoder',
  lora: 'LoRA',
};

const WEIGHTS = '.safetensors,.gguf,.pt,.pth';

export interface FileSlotOptions {
  /** Of its elements. */
  id: string;
  part: EntryPart;
  /** Beside the label: name, size, licence, a link. */
  about?: (Node | string)[];
  changed: () => void;
}

export class FileSlot {
  readonly box: HTMLElement;
  readonly part: EntryPart;
  readonly #input: HTMLInputElement;
  readonly #told: HTMLElement;
  #turn = 0;

  constructor({ id, part, about = [], changed }: FileSlotOptions) {
    this.part = part;
    const isFolder = part === 'model';
    const accept = part === 'tokenizer' ? '.json,.model' : WEIGHTS;
    this.#input = make('input', { type: 'file', id, ...(isFolder ? { webkitdirectory: true } : { accept }) });
    this.#told = make('p', { className: 'fine told', id: `${id}-told`, role: 'status' });
    this.#input.setAttribute('aria-describedby', `${id}-told`);
    const label = make('label', { htmlFor: id }, PART_WORDS[part]);
    this.box = make(
      'div',
      { className: 'file-slot' },
      label,
      ...(about.length > 0 ? [make('p', { className: 'fine' }, ...about)] : []),
      this.#input,
      this.#told,
    );
    this.#input.addEventListener('change', () => {
      changed();
      void this.#look();
    });
  }

  /** The chosen file. */
  get file(): File | undefined {
    return this.#input.files?.[0];
  }

  /** The chosen files; of a folder all. */
  get files(): File[] {
    return [...(this.#input.files ?? [])];
  }

  /** Says what the file is, by its tensors. */
  async #look(): Promise<void> {
    const turn = ++this.#turn;
    const { file, part } = this;
    this.#told.textContent = '';
    if (file === undefined || part === 'tokenizer' || part === 'model') return;
    this.#told.textContent = 'Looking at it…';
    const words = await inspected(file, part);
    if (turn === this.#turn) this.#told.textContent = words;
  }
}

/** "Wan 2.1 T2V 1.3B, 2.8 GB", or what is wrong. */
async function inspected(file: File, part: EntryPart): Promise<string> {
  try {
    const { parts } = await Tabreel.inspect({ files: [file], device: 'cpu' });
    const wanted = part in MODEL_PARTS ? MODEL_PARTS[part as keyof typeof MODEL_PARTS] : part;
    const found = parts.find((one) => one.part === wanted);
    if (found === undefined) {
      const other = parts.find((one) => one.name !== '') ?? parts[0];
      const what =
        other && other.part !== 'unknown' ? `a ${other.part.replace('_', ' ')} (${other.name})` : 'of no model that is known here';
      return `This file is ${what}, not a ${PART_WORDS[part]}.`;
    }
    return found.problem ? `${found.name || 'It'}: ${found.problem}` : `${found.name}, ${bytesWords(found.bytes)}`;
  } catch (thrown) {
    return asError(thrown).message;
  }
}

/** What a whole model takes: on the device that it was looked at for, and on the CPU where that is a GPU. */
export function memoryVerdicts({ plan, cpuPlan, caution }: Inspection, support: Support | undefined): Verdict[] {
  const { memory = {} } = support ?? {};
  if (plan === undefined) return [];
  const here = judgePlan(plan, cpuPlan ? 'gpu' : 'cpu', { memory });
  // The engine knows how many frames would fit.
  return [{ ...here, caution: caution ?? here.caution }, ...(cpuPlan ? [judgePlan(cpuPlan, 'cpu', { memory })] : [])];
}

/** What speaks against a clip, for a visitor; nothing where nothing does. */
export const cautionWords = (caution: string | undefined): HTMLElement | undefined =>
  caution === undefined ? undefined : make('span', { className: 'caution' }, make('strong', {}, 'May not suffice'), `: ${caution}.`);

/** What whole models are told as: each part in a line, whether they run, and what memory they take. */
export function inspectionLines(found: Inspection, support: Support | undefined): HTMLElement[] {
  const { parts, missing, runs, reason: why, capabilities } = found;
  const one = parts.map(({ part, name, bytes, problem, leftOver }) => {
    const words = [`${part.replace('_', ' ')}: ${[name, bytesWords(bytes)].filter(Boolean).join(', ')}`];
    if (leftOver.length > 0) words.push(`${leftOver.length} tensors are of no use here`);
    if (problem !== undefined) words.push(problem);
    return make('li', {}, words.join('; '));
  });
  const lacking = missing.map((part) => make('li', { className: 'lacking' }, `${part.replace('_', ' ')}: missing`));
  return [
    make('ul', { className: 'parts' }, ...one, ...lacking),
    make('p', { className: runs ? 'good' : 'bad' }, `${runs ? 'Runs here' : 'Does not run as it is'}: ${why}.`),
    ...(capabilities ? [make('p', { className: 'fine modes' }, modesOf(capabilities))] : []),
    ...memoryVerdicts(found, support).map(({ reason, caution }) =>
      make('p', { className: 'fine memory' }, `${capital(reason)}. `, cautionWords(caution)),
    ),
  ];
}
