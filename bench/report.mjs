// Writes a Markdown page with the tables and an SVG bar plot from a result of run.mjs:
//   node report.mjs results/<adapter>-<date>.json
// reasons.json, keyed by row name, holds why a row of ours is slower than a competitor.
import { readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { clipFacts, meanRatio, number, ratio, slowerThan } from './table.mjs';

const path = process.argv[2];
if (!path) throw new Error('usage: node report.mjs results/<adapter>-<date>.json');
const result = JSON.parse(readFileSync(path, 'utf8'));
const reasons = JSON.parse(readFileSync(join(import.meta.dirname, 'reasons.json'), 'utf8'));
const base = path.replace(/\.json$/, '');

const escape = (text) => String(text).replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/\|/g, '\\|').replace(/\n/g, ' ');
// GitHub's Markdown has no colours but in math; a plain emoji mark is red everywhere
const RED = '🟥 ';

const page = [`# Bench on ${adapterName()}`, '', facts(), ''];
for (const [key, table] of Object.entries(result.tables)) {
  page.push(`## ${table.title}`, '');
  if (table.peaks) {
    const { f32, f16, copy, roundTripMs } = table.peaks;
    page.push(`Measured peak: ${number(f32 / 1e9)} GFLOP/s in f32, ${f16 ? `${number(f16 / 1e9)} in f16` : 'no f16'}, copy ${number(copy / 1e9)} GB/s; an empty round trip takes ${number(roundTripMs)} ms. "% of peak" is of the nearer bound, arithmetic or memory (m).`, '');
  }
  const drawn = table.columns.filter((column) => table.rows.some((row) => ratio(table, row, column)));
  if (drawn.length) {
    const file = `${base}-${key}.svg`;
    writeFileSync(file, plot(table, drawn));
    page.push(`![times faster than onnxruntime-web](${basename(file)})`, '');
  }
  page.push(...markdownTable(table), '', ...notes(table), '');
}
writeFileSync(`${base}.md`, page.join('\n'));
console.log(`${base}.md`);

function adapterName() {
  const { vendor, architecture, device, description } = result.adapter ?? { device: 'the CPU' };
  const browser = result.versions.chromium ? 'in Chromium' : '';
  return [[vendor, device || architecture, description].filter(Boolean).join(' · '), browser].filter(Boolean).join(' ');
}

function facts() {
  const versions = Object.entries(result.versions).map(([name, version]) => `${name} ${version}`).join(', ');
  const load = result.load ? `, load average ${number(result.load.before)} before` : '';
  return `${result.date.slice(0, 10)}, ${result.cores} cores (${result.cpu}), ${versions}${load}. \`npm run bench -- ${result.command}\`: medians of ${result.repeats}, each output checked before timing. Each cell: ms · GFLOP/s · share of the peak · times faster than onnxruntime-web. ${RED}marks rows of ours that a competitor beats.`;
}

function markdownTable(table) {
  const { columns, rows } = table;
  const lines = [`| row | ${columns.map(({ name }) => name).join(' | ')} |`, `|---|${columns.map(() => '--:|').join('')}`];
  for (const row of rows) lines.push(`| ${row.name} | ${columns.map((column) => cellText(table, row, column)).join(' | ')} |`);
  const means = columns.map((column) => meanRatio(table, column)).map((mean) => (mean ? `**${mean.toFixed(2)}×**` : ''));
  return [...lines, `| **geometric mean** | ${means.join(' | ')} |`];
}

function cellText(table, row, column) {
  const cell = row.cells[column.name] ?? {};
  if (cell.wrong) return `${RED}wrong: ${escape(cell.wrong)}`;
  if (cell.failed) return `${RED}failed: ${escape(cell.failed.slice(0, 120))}`;
  if (!cell.ms) return '';
  const times = ratio(table, row, column);
  const share = cell.share === undefined ? '' : ` · ${(100 * cell.share).toFixed(0)} %${cell.bound === 'bytes' ? ' (m)' : ''}`;
  const text = `${number(cell.ms)} · ${number(cell.gflops)}${share}${times && !/^ORT/.test(column.name) ? ` · ${times.toFixed(2)}×` : ''}`;
  return slowerThan(table, row, column) ? `${RED}${text}` : text;
}

/** Rows that miss the mark with their reasons, what a column cannot do, how onnxruntime did it, what was left out. */
function notes(table) {
  const lines = [];
  const missed = table.rows.flatMap((row) => table.columns.map((column) => ({ row, column, by: slowerThan(table, row, column) }))).filter(({ by }) => by);
  if (missed.length) {
    lines.push('### Slower than a competitor', '');
    for (const { row, column, by } of missed) lines.push(`- ${RED}${row.name}, ${column.name} (behind ${by}): ${reasons[row.name] ?? '*no reason found yet*'}`);
    lines.push('');
  }
  const blanks = new Map();
  for (const row of table.rows) for (const { name } of table.columns) {
    const why = row.cells[name]?.skipped;
    if (why) blanks.set(`${name}: ${why}`, [...(blanks.get(`${name}: ${why}`) ?? []), row.name]);
  }
  if (blanks.size) lines.push('### Blank cells', '', ...[...blanks].map(([why, names]) => `- ${escape(why)} — ${names.join(', ')}`), '');
  const tried = table.rows.flatMap((row) => table.columns.filter(({ name }) => row.cells[name]?.tried?.length > 1).map(({ name }) => `- ${row.name}, ${name}: ${escape(row.cells[name].tried.join('; '))}`));
  if (tried.length) lines.push('<details><summary>What onnxruntime-web was tried with (the fastest right one is in the table)</summary>', '', ...tried, '', '</details>', '');
  for (const row of table.rows) for (const { name } of table.columns) {
    if (row.cells[name]?.stages) lines.push(`${row.name}, ${name}: ${clipFacts(row.cells[name])}.`, '');
  }
  // rows that also stand there at twice the size
  const memory = table.rows.filter(({ name }) => /^self|^VAE .* frames/.test(name)).map((row) => [row.name, ...table.columns.map(({ name }) => row.cells[name]?.gpuMegabytes)]);
  if (memory.some((line) => line.slice(1).some(Boolean))) {
    lines.push('### GPU memory, MB', '', `| row | ${table.columns.map(({ name }) => name).join(' | ')} |`, `|---|${table.columns.map(() => '--:|').join('')}`);
    for (const [name, ...values] of memory) lines.push(`| ${name} | ${values.map((value) => (value === undefined ? '' : value.toFixed(1))).join(' | ')} |`);
    lines.push('');
  }
  if (table.leftOut.length) lines.push(`Left out, over ${table.most} GFLOP: ${table.leftOut.map(({ name, gflop }) => `${name} (${gflop.toFixed(1)})`).join(', ')}.`);
  return lines;
}

/** Horizontal bars, one a column in each row, on a logarithmic axis with onnxruntime-web at 1. */
function plot(table, columns) {
  const colours = ['#2563eb', '#7c3aed', '#94a3b8', '#0d9488', '#d97706', '#db2777'];
  // the onnxruntime column of each type is 1 by definition: a line, not bars
  const shown = columns.filter((column) => !/^ORT/.test(column.name));
  const bars = shown.length ? shown : columns;
  const rows = table.rows.filter((row) => bars.some((column) => ratio(table, row, column)));
  const values = rows.flatMap((row) => bars.map((column) => ratio(table, row, column)).filter(Boolean));
  const [low, high] = [Math.min(0.5, ...values), Math.max(2, ...values)].map(Math.log2);
  const [left, width, bar] = [300, 460, 9];
  const x = (value) => left + ((Math.log2(value) - low) / (high - low)) * width;
  const step = bars.length * bar + 7;
  const height = 46 + rows.length * step;
  const out = [];
  const text = (at, y, words, more = '') => out.push(`<text x="${at}" y="${y}" ${more}>${words.replace(/&/g, '&amp;').replace(/</g, '&lt;')}</text>`);
  for (let power = Math.ceil(low); power <= Math.floor(high); power++) {
    const at = x(2 ** power);
    out.push(`<line x1="${at}" x2="${at}" y1="36" y2="${height}" stroke="${power === 0 ? '#111827' : '#e5e7eb'}"/>`);
    text(at, 32, power < 0 ? `1/${2 ** -power}` : `${2 ** power}×`, 'text-anchor="middle"');
  }
  bars.forEach(({ name }, i) => {
    out.push(`<rect x="${8 + i * 120}" y="6" width="10" height="10" fill="${colours[i % colours.length]}"/>`);
    text(22 + i * 120, 15, name);
  });
  rows.forEach((row, r) => {
    const top = 42 + r * step;
    text(left - 6, top + (bars.length * bar) / 2 + 4, row.name, 'text-anchor="end"');
    bars.forEach((column, i) => {
      const value = ratio(table, row, column);
      if (!value) return;
      const [from, to] = [x(1), x(value)].sort((a, b) => a - b);
      const fill = slowerThan(table, row, column) ? '#dc2626' : colours[i % colours.length];
      out.push(`<rect x="${from.toFixed(1)}" y="${top + i * bar}" width="${Math.max(1, to - from).toFixed(1)}" height="${bar - 2}" fill="${fill}"><title>${row.name.replace(/&/g, '&amp;')}, ${column.name}: ${value.toFixed(2)}×</title></rect>`);
    });
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${left + width + 30}" height="${height}" viewBox="0 0 ${left + width + 30} ${height}" font-family="sans-serif" font-size="11"><rect width="100%" height="100%" fill="#fff"/>\n${out.join('\n')}\n</svg>\n`;
}
