// Writes ONNX models. The format is protobuf with a handful of messages (onnx.proto3); writing those by hand is
// shorter than a dependency, and graphs can be made in memory from the row's own weights.
import { halves } from './numbers.mjs';

const types = { f32: 1, u8: 2, i64: 7, f16: 10 };

/** Appends protobuf fields; big byte arrays are kept as they are and joined once at the end. */
class Message {
  parts = [];
  length = 0;
  push(bytes) {
    this.parts.push(bytes);
    this.length += bytes.length;
    return this;
  }
  varint(value) {
    const bytes = [];
    let rest = BigInt.asUintN(64, BigInt(value));
    do {
      const low = Number(rest & 127n);
      rest >>= 7n;
      bytes.push(rest ? low | 128 : low);
    } while (rest);
    return this.push(Uint8Array.from(bytes));
  }
  int(field, value) {
    return this.varint(field << 3).varint(value);
  }
  float(field, value) {
    return this.varint((field << 3) | 5).push(new Uint8Array(Float32Array.of(value).buffer));
  }
  /** A string, bytes or a message. */
  put(field, content) {
    const body = typeof content === 'string' ? new TextEncoder().encode(content) : content;
    this.varint((field << 3) | 2).varint(body.length);
    if (body instanceof Message) body.parts.forEach((part) => this.push(part));
    else this.push(body);
    return this;
  }
  bytes() {
    const all = new Uint8Array(this.length);
    let at = 0;
    for (const part of this.parts) {
      all.set(part, at);
      at += part.length;
    }
    return all;
  }
}

function attribute(name, value) {
  const m = new Message().put(1, name);
  if (typeof value === 'string') return m.put(4, value).int(20, 3);
  if (Array.isArray(value)) {
    value.forEach((one) => m.int(8, one));
    return m.int(20, 7);
  }
  // {float: x} because JavaScript cannot tell 1 from 1.0
  if (typeof value === 'object') return m.float(2, value.float).int(20, 1);
  return m.int(3, value).int(20, 2);
}

/**
 * A graph under construction; tensors are named by strings. `type` is 'f32' or 'f16': the type of inputs, outputs and
 * of every constant given as a Float32Array.
 */
export class Graph {
  #nodes = [];
  #constants = [];
  #inputs = [];
  #outputs = [];
  #names = 0;
  constructor(type) {
    this.type = type;
  }
  #fresh = (what) => `${what}_${this.#names++}`;

  input(name, shape) {
    this.#inputs.push({ name, shape });
    return name;
  }

  /** A constant: Float32Array (stored in the graph's type), Uint8Array, or an array of integers (int64). */
  constant(values, shape = [values.length], type = undefined) {
    const name = this.#fresh('c');
    const stored = type ?? (Array.isArray(values) ? 'i64' : values instanceof Uint8Array ? 'u8' : this.type);
    const raw = { f32: () => Float32Array.from(values), f16: () => halves(values), u8: () => values, i64: () => BigInt64Array.from(values, BigInt) }[stored]();
    const m = new Message();
    shape.forEach((size) => m.int(1, size));
    m.int(2, types[stored]).put(8, name).put(9, new Uint8Array(raw.buffer, raw.byteOffset, raw.byteLength));
    this.#constants.push(m);
    return name;
  }
  scalar(value) {
    return this.constant(Float32Array.of(value), []);
  }

  /** Adds a node; '' stands for an optional input left out. `domain` com.microsoft for the contributed operators. */
  op(kind, inputs, attributes = {}, { outputs = 1, domain = '' } = {}) {
    const made = Array.from({ length: outputs }, () => this.#fresh(kind));
    const m = new Message();
    inputs.forEach((name) => m.put(1, name));
    made.forEach((name) => m.put(2, name));
    m.put(3, made[0]).put(4, kind);
    for (const [name, value] of Object.entries(attributes)) m.put(5, attribute(name, value));
    if (domain) m.put(7, domain);
    this.#nodes.push(m);
    return outputs === 1 ? made[0] : made;
  }
  contrib(kind, inputs, attributes) {
    return this.op(kind, inputs, attributes, { domain: 'com.microsoft' });
  }

  output(name, shape) {
    this.#outputs.push({ name, shape });
  }

  get inputs() {
    return this.#inputs;
  }
  get outputs() {
    return this.#outputs;
  }

  bytes() {
    const value = ({ name, shape }) => {
      const dims = new Message();
      shape.forEach((size) => dims.put(1, new Message().int(1, size)));
      const tensor = new Message().int(1, types[this.type]).put(2, dims);
      return new Message().put(1, name).put(2, new Message().put(1, tensor));
    };
    const graph = new Message();
    this.#nodes.forEach((node) => graph.put(1, node));
    graph.put(2, 'bench');
    this.#constants.forEach((constant) => graph.put(5, constant));
    this.#inputs.forEach((one) => graph.put(11, value(one)));
    this.#outputs.forEach((one) => graph.put(12, value(one)));
    const opset = (domain, version) => new Message().put(1, domain).int(2, version);
    return new Message().int(1, 9).put(2, 'tabreel-bench').put(7, graph)
      .put(8, opset('', 20)).put(8, opset('com.microsoft', 1)).bytes();
  }
}
