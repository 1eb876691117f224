/** The page: what to make, a prompt, a button; this file connects the parts. */
import {
  TabreelError,
  describeModel,
  modelHash,
  probe,
  resolveOptions,
  type Capabilities,
  type Clip,
  type FullRecipe,
  type ModelCard,
  type ModelInfo,
  type Support,
} from 'tabreel';
import { byId } from './dom';
import { choice, isFolder, modelUrl, promised } from './model-choice';
import { comparable, startCompare } from './compare';
import { startDrawer } from './drawer';
import { startDrops, handOver } from './drops';
import { disposeEngine, engine, loadedModel, rules, whyNotKept } from './engine';
import { showError, hideError } from './error';
import { showExamples } from './examples';
import { addToHistory, startHistory } from './history';
import { takeJob } from './jobs';
import { allowModes, adoptModes, mode, startModes } from './modes';
import { startModels } from './models';
import { showNeeds } from './needs';
import { expectedSecs } from './pace';
import { adoptModelSizes, adoptNeeds, adoptSettings, renderPanel, startPanel } from './panel';
import { adoptClasses, adoptDirections, adoptGrowSizes, panelOptions } from './panel-options';
import { showSample } from './player';
import { startOffline } from './offline';
import { startQuickActions } from './quick';
import { fromHash, type Recipe } from './recipe';
import { reuse, startReopen } from './reopen';
import { madeWords } from './result';
import { isRunning, lastClip, present, startRunner, submit } from './runner';
import { adoptCard, adoptRules, buildSettings, forgetEdits, nextSeed, readSettings, writeSettings } from './settings';
import { adoptVocabulary, checkPrompt } from './vocabulary';
import { seconds } from './words';

const prompt = byId<HTMLTextAreaElement>('prompt');
const generateButton = byId<HTMLButtonElement>('generate');

let support: Support;
let card: ModelCard | undefined;
let cardError: string | undefined;

/** Takes what is on the page as a job; what is missing or wrong is said before anything is fetched. */
function generate(): void {
  hideError();
  try {
    const { locked, device, ...settings } = readSettings();
    const { classLabel } = panelOptions();
    const subject = mode() === 'class' ? { prompt: '', negativePrompt: '', classLabel } : { prompt: prompt.value };
    const options = { ...settings, ...subject, seed: locked ? settings.seed : 0 };
    // A rule that is broken now would still be broken when the model is there.
    const recipe = resolveOptions(options, rules(card));
    const job = takeJob(recipe, device);
    job.setSeed(nextSeed());
    submit(job);
  } catch (thrown) {
    if (prompt.value.trim() === '') prompt.focus();
    fail(thrown instanceof TabreelError ? thrown : new TabreelError('internal', String(thrown)));
  }
}

function fail(error: TabreelError): void {
  const onGpu = (error.device ?? engine()?.device ?? readSettings().device) === 'gpu';
  const offerCpu = onGpu && ['unsupported-device', 'device-lost', 'internal', 'out-of-memory'].includes(error.code);
  showError(error, offerCpu ? () => (writeSettings({ device: 'cpu' }), generate()) : undefined);
}

/** Takes over a recipe, with its seed kept, and shows it. */
function take(recipe: Partial<Recipe>): void {
  if (recipe.prompt !== undefined) prompt.value = recipe.prompt;
  checkPrompt();
  writeSettings(recipe.seed === undefined ? recipe : { ...recipe, locked: true });
  updateEstimate();
}

/** Puts a clip that was made earlier on the stage. */
function show(clip: Clip): void {
  if (isRunning()) return;
  hideError();
  present(clip);
  byId('quick-compare').hidden = !comparable(clip);
  renderPanel();
}

function updateEstimate(): void {
  const { device, ...settings } = readSettings();
  const backend = device === 'auto' ? support?.recommended : device;
  const secs = backend === 'gpu' || backend === 'cpu' ? expectedSecs({ ...settings, prompt: '' }, backend) : undefined;
  generateButton.title = secs ? `About ${seconds(secs)} on this device` : '';
}

const needs = (): Promise<void> =>
  showNeeds({ support, card, cardError, modelUrl: modelUrl(), device: readSettings().device, notKept: whyNotKept() });

async function start(): Promise<void> {
  showSample(SAMPLE);
  startModes(() => {
    prompt.disabled = mode() === 'class';
    renderPanel();
  });
  startPanel(lastClip, (files, target) => void handOver(files, target));
  buildSettings(() => {
    updateEstimate();
    adoptSettings(readSettings());
    if (support) void needs();
  });
  startDrawer();
  startDrops();
  startReopen({ take, model: modelInUse });
  startQuickActions(lastClip);
  startCompare({ shown: lastClip, device: () => readSettings().device, submit, onShow: show });
  startRunner({
    onModel: adoptLoaded,
    onClip(clip) {
      byId('quick-compare').hidden = !comparable(clip);
      renderPanel();
      addToHistory(clip, madeWords(clip));
    },
    onError: fail,
    onRest: () => void needs(),
  });
  startHistory({
    onShow: show,
    onReuse: take,
  });
  byId('composer').addEventListener('submit', (event) => {
    event.preventDefault();
    generate();
  });
  prompt.addEventListener('keydown', (event) => {
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    generate();
  });
  byId('reuse').addEventListener('click', () => {
    const clip = lastClip();
    if (clip) void reuse(clip);
    prompt.focus();
  });
  addEventListener('hashchange', () => take(fromHash(location.hash)));
  // A page in the back/forward cache would hold on to the model's memory.
  addEventListener('pagehide', () => disposeEngine());
  take(fromHash(location.hash));
  if (matchMedia('(min-width: 861px)').matches) prompt.focus();

  startModels({
    support: () => support,
    device: () => readSettings().device,
    onModel: adoptLoaded,
    onChoice: () => {
      forgetEdits();
      return adoptChoice();
    },
  });
  const described = adoptChoice();
  [support] = await Promise.all([probe(), described]);
  if (card) take(fromHash(location.hash));
  await needs();
}

/** Name and hash of the chosen model, loaded or not. */
async function modelInUse(): Promise<FullRecipe['model'] | undefined> {
  const loaded = loadedModel();
  if (loaded) return { name: loaded.name || loaded.card.name, hash: loaded.hash };
  return card && { name: card.name, hash: await modelHash(card) };
}

function adoptLoaded(model: ModelInfo): void {
  adoptClasses(model);
  adoptModes(model.capabilities);
  adoptDirections(model.capabilities);
  adoptNeeds(model.capabilities);
  adoptRules(model);
  adoptModelSizes(model);
}

/** What a model that is not loaded yet can do; where nobody knows, everything is offered until it says itself. */
function adoptPromised(can: Capabilities | undefined): void {
  if (can) adoptModes(can);
  else allowModes();
  adoptDirections(can);
  adoptNeeds(can);
}

/** The form takes what the chosen model suggests: its card says it, or, of files in hand, the model that was loaded of them. */
async function adoptChoice(): Promise<void> {
  const loaded = loadedModel();
  const chosen = choice();
  const { model } = chosen.set;
  [card, cardError] = [undefined, undefined];
  // Of a loaded model it is known what it can do: nothing is offered meanwhile that it then takes back.
  if (!loaded) adoptPromised(promised(chosen));
  if (isFolder(chosen) && model !== undefined) {
    await describeModel(model).then(
      (found) => {
        // A folder in hand may have no card that says what suits it.
        const own = loaded && { defaults: loaded.defaults, multiples: loaded };
        card = { ...found, presets: { ...found.presets, ...chosen.set.presets }, ...own };
      },
      (error: Error) => (cardError = error.message),
    );
    // Another may have been chosen meanwhile.
    if (chosen !== choice()) return;
  } else if (loaded) {
    const { defaults, presets } = loaded;
    card = { ...loaded.card, name: chosen.entry.name, license: chosen.entry.license.spdx, defaults, presets, multiples: loaded };
  }
  if (card) {
    adoptCard(card, chosen.preset);
    adoptGrowSizes(card.sizes);
    adoptModelSizes({ ...rules(card), defaults: card.defaults, card });
    adoptVocabulary(card);
  }
  if (loaded) adoptLoaded(loaded);
  showExamples(card?.examples, (example) => {
    prompt.value = example;
    checkPrompt();
    prompt.focus();
  });
  if (support) await needs();
}

void start();
void startOffline();
