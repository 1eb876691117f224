/** The page: a prompt, a button, and everything between the click and the clip. */
import {
  Tabreel,
  TabreelError,
  describeModel,
  probe,
  resolveOptions,
  type Clip,
  type GivenPictures,
  type ModelCard,
  type Support,
} from 'tabreel';
import { byId } from './dom';
import { startDrawer } from './drawer';
import { showError, hideError } from './error';
import { showExamples } from './examples';
import { addToHistory, startHistory } from './history';
import { showNeeds } from './needs';
import { Countdown, expectedSecs, rememberPace } from './pace';
import { showClip, showPreview, showRest, showSample, showWaiting } from './player';
import { startOffline } from './offline';
import { adoptCapabilities, givenPictures, startPictures } from './pictures';
import { announce, countdown, endProgress, progress, startProgress } from './progress';
import { fromHash, type Device, type Recipe } from './recipe';
import { hideResult, showResult, totalSecs } from './result';
import { adoptCard, buildSettings, nextSeed, readSettings, writeSettings } from './settings';
import { adoptVocabulary, checkPrompt } from './vocabulary';
import { STAGES, fromWords, loadWords, seconds } from './words';

const MODEL = new URL('models/small-world/', document.baseURI).href;

const prompt = byId<HTMLTextAreaElement>('prompt');
const generateButton = byId<HTMLButtonElement>('generate');
const cancelButton = byId<HTMLButtonElement>('cancel');

let support: Support;
let card: ModelCard | undefined;
let cardError: string | undefined;
let loaded: { engine: Tabreel; device: Device } | undefined;
let running: AbortController | undefined;
let last: Clip | undefined;
/** Why the model is fetched again next time, in words. */
let notKept: string | undefined;

async function generate(): Promise<void> {
  if (running) return;
  hideError();
  const settings = readSettings();
  let recipe: Recipe;
  try {
    // Before anything is fetched: a rule that is broken now would still be broken then.
    recipe = resolveOptions(optionsOf({ ...settings, seed: settings.locked ? settings.seed : 0 }), rules());
    recipe.seed = nextSeed();
  } catch (error) {
    if (prompt.value.trim() === '') prompt.focus();
    return fail(error as TabreelError);
  }

  const pictures = givenPictures();
  const controller = (running = new AbortController());
  const began = performance.now();
  let succeeded = false;
  setBusy(true);
  document.body.classList.add('has-clip');
  hideResult();
  showWaiting(recipe.width, recipe.height);
  startProgress();
  try {
    const engine = await ready(settings.device, controller.signal);
    const clip = await make(engine, recipe, pictures, controller.signal);
    const wholeSecs = (performance.now() - began) / 1000;
    last = clip;
    const made = [clip.backend === 'gpu' ? 'GPU' : 'CPU', seconds(totalSecs(clip.timings)), fromWords(clip)].filter(Boolean).join(', ');
    endProgress();
    showClip(clip);
    showResult(clip, engine);
    addToHistory(clip, made);
    succeeded = true;
    announce(`Your clip is ready after ${seconds(wholeSecs)}.`);
  } catch (thrown) {
    endProgress();
    showRest(last, SAMPLE);
    if (last) showResult(last, undefined);
    const error = thrown instanceof TabreelError ? thrown : new TabreelError('internal', String(thrown));
    if (error.code === 'aborted') announce('Cancelled.');
    else fail(error);
  } finally {
    running = undefined;
    setBusy(false, succeeded ? byId('stage') : generateButton);
    void showNeeds({ support, card, cardError, modelUrl: MODEL, device: readSettings().device, notKept });
  }
}

/** The engine, loaded at the first click, after a crash, and when another backend was chosen. */
async function ready(device: Device, signal: AbortSignal): Promise<Tabreel> {
  if (loaded && loaded.engine.alive && loaded.device === device) return loaded.engine;
  loaded?.engine.dispose();
  loaded = undefined;
  notKept = undefined;
  announce('Loading the model.');
  progress('Starting');
  const engine = await Tabreel.load({
    model: MODEL,
    device,
    signal,
    onProgress: (now) => progress(loadWords(now), now.total > 0 ? now.loaded / now.total : undefined),
    onWarning: (message) => (notKept = message),
  });
  loaded = { engine, device };
  adoptCapabilities(engine.model.capabilities);
  return engine;
}

async function make(engine: Tabreel, recipe: Recipe, pictures: GivenPictures, signal: AbortSignal): Promise<Clip> {
  const clock = new Countdown(recipe, engine.device);
  const began = performance.now();
  countdown(() => clock.left());
  const clip = await engine.generate({
    ...recipe,
    ...pictures,
    signal,
    onStage(stage) {
      announce(STAGES[stage]);
      if (stage === 'denoise') clock.denoiseStarts();
      if (stage === 'decode') clock.decodeStarts();
      progress(stage === 'denoise' ? `Painting: step 1 of ${recipe.numSteps}` : STAGES[stage], stage === 'decode' ? 1 : 0);
    },
    onStep({ step, numSteps }) {
      clock.step(step);
      const next = Math.min(step + 1, numSteps);
      progress(`Painting: step ${next} of ${numSteps}`, step / (numSteps + 1));
      if (step === Math.ceil(numSteps / 2)) announce(`Half of ${numSteps} steps done.`);
    },
    onPreview(preview) {
      showPreview(preview, `Preview after step ${preview.step} of ${recipe.numSteps}`);
    },
    onFrame(frame) {
      clock.frame(frame.index + 1);
      showPreview(frame, `Frame ${frame.index + 1} of ${recipe.numFrames}`);
      progress(`Developing the frames: ${frame.index + 1} of ${recipe.numFrames}`, (frame.index + 1) / recipe.numFrames);
    },
  });
  rememberPace(clip, (performance.now() - began) / 1000);
  return clip;
}

function optionsOf({ locked: _locked, device: _device, ...rest }: ReturnType<typeof readSettings>): Recipe {
  return { ...rest, prompt: prompt.value };
}

const rules = (): Parameters<typeof resolveOptions>[1] =>
  loaded?.engine.model ?? { widthMultiple: 1, heightMultiple: 1, frameMultiple: 1, defaults: {} };

function fail(error: TabreelError): void {
  const onGpu = (error.device ?? loaded?.engine.device ?? readSettings().device) === 'gpu';
  const offerCpu = onGpu && ['unsupported-device', 'device-lost', 'internal', 'out-of-memory'].includes(error.code);
  showError(error, offerCpu ? () => (writeSettings({ device: 'cpu' }), void generate()) : undefined);
}

function setBusy(busy: boolean, next: HTMLElement = generateButton): void {
  const hadFocus = [generateButton, cancelButton, document.body].includes(document.activeElement as HTMLElement);
  generateButton.hidden = busy;
  cancelButton.hidden = !busy;
  cancelButton.disabled = false;
  cancelButton.textContent = 'Cancel';
  // A focused button that vanishes takes the focus with it: hand it on, but never take it from a field.
  if (hadFocus) (busy ? cancelButton : next).focus({ preventScroll: true });
}

/** Takes over a recipe, with its seed kept, and shows it. */
function take(recipe: Partial<Recipe>): void {
  if (recipe.prompt !== undefined) prompt.value = recipe.prompt;
  checkPrompt();
  writeSettings(recipe.seed === undefined ? recipe : { ...recipe, locked: true });
  updateEstimate();
}

function updateEstimate(): void {
  const { device, ...settings } = readSettings();
  const backend = device === 'auto' ? support?.recommended : device;
  const secs = backend === 'gpu' || backend === 'cpu' ? expectedSecs({ ...settings, prompt: '' }, backend) : undefined;
  generateButton.title = secs ? `About ${seconds(secs)} on this device` : '';
}

async function start(): Promise<void> {
  showSample(SAMPLE);
  buildSettings(() => {
    updateEstimate();
    if (support) void showNeeds({ support, card, cardError, modelUrl: MODEL, device: readSettings().device, notKept });
  });
  startDrawer();
  startPictures();
  startHistory({
    onShow(clip) {
      if (running) return;
      last = clip;
      hideError();
      showClip(clip);
      showResult(clip, undefined);
    },
    onReuse: take,
  });
  byId('composer').addEventListener('submit', (event) => {
    event.preventDefault();
    void generate();
  });
  prompt.addEventListener('keydown', (event) => {
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    void generate();
  });
  cancelButton.addEventListener('click', () => {
    cancelButton.disabled = true;
    cancelButton.textContent = 'Stopping…';
    running?.abort();
  });
  byId('reuse').addEventListener('click', () => {
    if (last) take(last.options);
    prompt.focus();
  });
  addEventListener('hashchange', () => take(fromHash(location.hash)));
  // A page in the back/forward cache would hold on to the model's memory.
  addEventListener('pagehide', () => loaded?.engine.dispose());
  take(fromHash(location.hash));
  if (matchMedia('(min-width: 861px)').matches) prompt.focus();

  const described = describeModel(MODEL).then(
    (found) => (card = found),
    (error: Error) => (cardError = error.message),
  );
  [support] = await Promise.all([probe(), described]);
  if (card) {
    adoptCard(card);
    adoptVocabulary(card);
    take(fromHash(location.hash));
  }
  showExamples(card?.examples, (example) => {
    prompt.value = example;
    checkPrompt();
    prompt.focus();
  });
  await showNeeds({ support, card, cardError, modelUrl: MODEL, device: readSettings().device, notKept });
}

void start();
void startOffline();
