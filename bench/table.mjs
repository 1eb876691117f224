// The table on the terminal, and the comparisons that it and the report share.

/** Columns of other people; every other column is ours and is compared with them. */
export const isCompetitor = ({ name }) => /^(ORT|stock)/.test(name);
const isOrt = ({ name }) => /^ORT/.test(name);

/** The onnxruntime cell a column is compared with: of its own type where there is one, else f32. */
export function ortCell({ columns }, { cells }, type) {
  const timed = columns.filter((column) => isOrt(column) && cells[column.name]?.ms);
  const column = timed.find((one) => one.type === type) ?? timed.find((one) => one.type === 'f32');
  return column && cells[column.name];
}

/** How many times faster than onnxruntime-web a column is in a row; undefined where one of them is missing. */
export function ratio(table, row, column) {
  const [own, other] = [row.cells[column.name], ortCell(table, row, column.type)];
  return own?.ms && other ? other.ms / own.ms : undefined;
}

/** Where ours is slower than any competitor of its type, that competitor's name. */
export function slowerThan(table, row, column) {
  if (isCompetitor(column)) return undefined;
  const own = row.cells[column.name]?.ms;
  const faster = table.columns.filter((one) => isCompetitor(one) && (one.type === column.type || one.type === 'f32') && row.cells[one.name]?.ms < own);
  return faster[0]?.name;
}

export function geometricMean(values) {
  return values.length ? Math.exp(values.reduce((sum, value) => sum + Math.log(value), 0) / values.length) : undefined;
}
export const meanRatio = (table, column) => geometricMean(table.rows.map((row) => ratio(table, row, column)).filter(Boolean));

export const number = (value) => (value >= 100 ? value.toFixed(0) : value.toPrecision(3));
const NAME = 44;
const CELL = 30;
const red = ({ colour }, text) => (colour ? `\x1b[31m${text}\x1b[0m` : `${text.trimEnd()} !`.padEnd(text.length));

export function printTitle({ print }, { title, columns, peaks, leftOut }) {
  print(`\n${title}`);
  if (peaks) {
    const gflops = (type) => (peaks[type] ? `${number(peaks[type] / 1e9)} GFLOP/s ${type}` : `no ${type}`);
    print(`measured peak: ${gflops('f32')}, ${gflops('f16')}, copy ${number(peaks.copy / 1e9)} GB/s; an empty round trip ${number(peaks.roundTripMs)} ms`);
  }
  if (leftOut.length) print(`${leftOut.length} rows are left out as too large: ${leftOut.map(({ name }) => name).join(', ')}`);
  print(`${'ms · GFLOP/s · % of peak · × ORT'.padEnd(NAME)}${columns.map(({ name }) => name.padEnd(CELL)).join('')}`);
}

export function printRow(host, table, row) {
  const cells = table.columns.map((column) => {
    const cell = row.cells[column.name];
    if (cell?.wrong) return red(host, 'WRONG'.padEnd(CELL));
    if (cell?.failed) return red(host, 'failed'.padEnd(CELL));
    if (!cell?.ms) return '–'.padEnd(CELL);
    const times = ratio(table, row, column);
    const parts = [number(cell.ms), number(cell.gflops), cell.share === undefined ? '' : `${(100 * cell.share).toFixed(0)} %`, times ? `${times.toFixed(2)}×` : ''];
    const text = parts.filter(Boolean).join(' · ').padEnd(CELL);
    return slowerThan(table, row, column) ? red(host, text) : text;
  });
  host.print(`${row.name.padEnd(NAME)}${cells.join('')}`);
  for (const { name } of table.columns) {
    const { wrong, failed } = row.cells[name] ?? {};
    if (wrong ?? failed) host.print(`    ${name}: ${wrong ?? failed}`);
    if (row.cells[name]?.stages) host.print(`    ${name}: ${clipFacts(row.cells[name])}`);
  }
}

/** Of a clip: seconds of each stage, and the peaks of memory. */
export function clipFacts({ ms, loadSeconds, stages, longestMs, wasmMegabytes, gpuMegabytes }) {
  const seconds = (value) => `${value.toFixed(value < 1 ? 2 : 1)} s`;
  const parts = Object.entries(stages).map(([stage, time]) => `${stage} ${seconds(time)}`);
  const memory = [`wasm ${wasmMegabytes.toFixed(0)} MB`, ...(gpuMegabytes === undefined ? [] : [`GPU ${gpuMegabytes.toFixed(0)} MB`])];
  const yields = longestMs === undefined ? '' : `; at most ${longestMs.toFixed(0)} ms from one turn of the event loop to the next`;
  return `${seconds(ms / 1000)} (${parts.join(', ')}), model loaded in ${seconds(loadSeconds)}${yields}; memory at most ${memory.join(', ')}`;
}

export function printSummary({ print }, table) {
  const cells = table.columns.map((column) => {
    const mean = meanRatio(table, column);
    return (mean ? `${mean.toFixed(2)}×` : '–').padEnd(CELL);
  });
  print(`${'geometric mean, × ORT'.padEnd(NAME)}${cells.join('')}`);
  const reasons = new Map();
  for (const row of table.rows) for (const { name } of table.columns) {
    const why = row.cells[name]?.skipped;
    if (why) reasons.set(`${name}: ${why}`, [...(reasons.get(`${name}: ${why}`) ?? []), row.name]);
  }
  for (const [why, names] of reasons) print(`– ${why} (${names.length > 3 ? `${names.length} rows` : names.join(', ')})`);
}
