import { expect, test } from 'vitest';
import { GpuLedger, type BufferLike } from '../src/gpu-ledger.js';

const TENSORS = 0x18c; // STORAGE | COPY_SRC | COPY_DST | INDIRECT
const UNIFORM = 0x48;

/** A device whose buffers remember being destroyed. */
function device() {
  const destroyed: BufferLike[] = [];
  return {
    destroyed,
    createBuffer({ size, usage }: { size: number; usage: number }): BufferLike {
      const buffer = { size, usage, destroy: () => void destroyed.push(buffer) };
      return buffer;
    },
  };
}

function watched() {
  const gpu = device();
  const ledger = new GpuLedger();
  ledger.watch(gpu);
  return { gpu, ledger, make: (size: number, usage = TENSORS) => gpu.createBuffer({ size, usage }) };
}

test('counts what exists and what existed at most', () => {
  const { ledger, make } = watched();
  make(100);
  make(50, UNIFORM);
  expect([ledger.bytes, ledger.peakBytes]).toEqual([150, 150]);
  ledger.keepAll();
  make(1000);
  ledger.destroyBut([], 0);
  expect([ledger.bytes, ledger.peakBytes]).toEqual([150, 1150]);
  ledger.startPeak();
  expect(ledger.peakBytes).toBe(150);
});

test('destroys the tensors of a stage, but neither weights nor what lives on nor uniforms', () => {
  const { gpu, ledger, make } = watched();
  const weight = make(100);
  ledger.keepAll();
  const [dead, alive] = [make(10), make(20)];
  make(5, UNIFORM);
  expect(ledger.destroyBut([alive, alive, weight], 20)).toBe(true);
  expect(gpu.destroyed).toEqual([dead]);
  expect(ledger.destroyBut([], 0)).toBe(true);
  expect(gpu.destroyed).toEqual([dead, alive]);
  expect(ledger.bytes).toBe(105);
});

test('destroys nothing while the engine still holds a buffer that nobody named', () => {
  const { gpu, ledger, make } = watched();
  make(10);
  const named = make(20);
  expect(ledger.destroyBut([named], 30)).toBe(false);
  expect(gpu.destroyed).toEqual([]);
  expect(ledger.bytes).toBe(30);
});
