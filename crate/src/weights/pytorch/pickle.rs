//! The pickle of a PyTorch file, read without running anything of it.
//!
//! A pickle is a program for a small stack machine that may call any Python function. Here a call is understood for the few
//! classes of [`ALLOWED`], and every other is refused by its name. Containers live in one list and values point into it, so
//! that nothing, however deep or circular a file makes it, is walked or dropped recursively.
//!
//! Source: `Lib/pickletools.py` of CPython (opcodes), `torch/_utils.py` (`_rebuild_tensor_v2`).

use std::collections::HashMap;

use super::kinds::{self, Kind};
use crate::error::{Error, Result};

/// Classes and functions besides storages and types.
const ALLOWED: [&str; 5] =
    ["collections.OrderedDict", TENSOR, TYPED_TENSOR, "torch._utils._rebuild_parameter", "torch.Size"];

/// Makes a tensor of a storage's own type, and one of a type that is given beside a storage of bytes.
const TENSOR: &str = "torch._utils._rebuild_tensor_v2";
const TYPED_TENSOR: &str = "torch._utils._rebuild_tensor_v3";

/// Keys under which checkpoints of training keep the weights, the best first.
const INSIDE: [&str; 6] = ["generator_ema", "ema", "state_dict", "model", "generator", "module"];

/// A tensor as the pickle describes it.
#[derive(Debug)]
pub(super) struct Tensor {
    pub name: String,
    pub kind: Kind,
    /// Name of its storage in the archive.
    pub storage: String,
    /// Elements of the storage before it.
    pub offset: u64,
    pub shape: Vec<usize>,
    /// In elements.
    pub strides: Vec<u64>,
}

/// A value on the stack; those that hold others hold their place in [`Machine::nodes`].
#[derive(Debug, Clone, Copy, PartialEq)]
enum Value {
    Mark,
    /// None, and numbers that nothing asks for.
    Nothing,
    Whole(i64),
    Node(usize),
}

#[derive(Debug)]
enum Node {
    Text(String),
    Class(String),
    Sequence(Vec<Value>),
    Map(Vec<(Value, Value)>),
    Storage { kind: Kind, key: String },
    Tensor { storage: usize, kind: Kind, offset: u64, shape: Vec<usize>, strides: Vec<u64> },
}

struct Machine<'a> {
    bytes: &'a [u8],
    label: &'a str,
    stack: Vec<Value>,
    memo: HashMap<u32, Value>,
    nodes: Vec<Node>,
}

/// The tensors of a pickled state dict, in its order.
///
/// # Errors
/// [`Error::Weights`] when it is damaged, asks for something that is not allowed, or holds no tensors.
pub(super) fn tensors(bytes: &[u8], label: &str) -> Result<Vec<Tensor>> {
    let mut machine = Machine { bytes, label, stack: Vec::new(), memo: HashMap::new(), nodes: Vec::new() };
    let top = machine.run()?;
    let mut map = machine.map(top)?;
    // A training checkpoint holds more than one thing; the weights lie under a known name.
    let is_tensor = |value: &Value| matches!(machine.node(*value), Some(Node::Tensor { .. }));
    if !map.iter().any(|(_, value)| is_tensor(value)) {
        let named = |name: &str| map.iter().find(|(key, _)| machine.text(*key) == Some(name)).map(|(_, value)| *value);
        if let Some(inner) = INSIDE.iter().find_map(|name| named(name)) {
            map = machine.map(inner)?;
        }
    }
    let mut out = Vec::new();
    for (key, value) in map {
        let (Some(name), Some(Node::Tensor { storage, kind, offset, shape, strides })) =
            (machine.text(*key), machine.node(*value))
        else {
            continue;
        };
        let Some(Node::Storage { key, .. }) = machine.nodes.get(*storage) else { continue };
        out.push(Tensor {
            name: name.to_owned(),
            kind: kind.clone(),
            storage: key.clone(),
            offset: *offset,
            shape: shape.clone(),
            strides: strides.clone(),
        });
    }
    match out.is_empty() {
        true => Err(machine.broken("no tensors in it")),
        false => Ok(out),
    }
}

impl<'a> Machine<'a> {
    fn broken(&self, found: impl Into<String>) -> Error {
        Error::weights(self.label, "a PyTorch file of tensors", found)
    }

    /// Runs to the end; gives the value that is left.
    fn run(&mut self) -> Result<Value> {
        loop {
            match self.byte()? {
                b'.' => return self.pop(),
                0x80 => drop(self.byte()?),
                0x95 => drop(self.take(8)?),
                b'(' => self.stack.push(Value::Mark),
                b'}' => self.push(Node::Map(Vec::new())),
                b']' | b')' => self.push(Node::Sequence(Vec::new())),
                b't' => {
                    let items = self.since_mark()?;
                    self.push(Node::Sequence(items));
                }
                code @ 0x85..=0x87 => {
                    let from = self.stack.len().checked_sub(usize::from(code - 0x84));
                    let from = from.ok_or_else(|| self.broken("a tuple of nothing"))?;
                    let items = self.stack.split_off(from);
                    self.push(Node::Sequence(items));
                }
                b'a' => {
                    let item = self.pop()?;
                    self.append(vec![item])?;
                }
                b'e' => {
                    let items = self.since_mark()?;
                    self.append(items)?;
                }
                b's' => {
                    let (value, key) = (self.pop()?, self.pop()?);
                    self.set(vec![key, value])?;
                }
                b'u' => {
                    let items = self.since_mark()?;
                    self.set(items)?;
                }
                b'N' => self.stack.push(Value::Nothing),
                0x88 => self.stack.push(Value::Whole(1)),
                0x89 => self.stack.push(Value::Whole(0)),
                b'J' => {
                    let value = i32::from_le_bytes(self.array()?);
                    self.stack.push(Value::Whole(value.into()));
                }
                b'K' => {
                    let value = self.byte()?;
                    self.stack.push(Value::Whole(value.into()));
                }
                b'M' => {
                    let value = u16::from_le_bytes(self.array()?);
                    self.stack.push(Value::Whole(value.into()));
                }
                0x8a => self.long()?,
                b'G' => {
                    self.take(8)?;
                    self.stack.push(Value::Nothing);
                }
                b'X' | b'T' => {
                    let length = u32::from_le_bytes(self.array()?);
                    self.words(length as usize)?;
                }
                0x8c | b'U' => {
                    let length = self.byte()?;
                    self.words(length.into())?;
                }
                b'q' => {
                    let at = self.byte()?;
                    self.remember(at.into())?;
                }
                b'r' => {
                    let at = u32::from_le_bytes(self.array()?);
                    self.remember(at)?;
                }
                0x94 => self.remember(self.memo.len() as u32)?,
                b'h' => {
                    let at = self.byte()?;
                    self.recall(at.into())?;
                }
                b'j' => {
                    let at = u32::from_le_bytes(self.array()?);
                    self.recall(at)?;
                }
                b'c' => {
                    let (module, name) = (self.line()?, self.line()?);
                    self.class(&module, &name)?;
                }
                0x93 => {
                    let (name, module) = (self.pop()?, self.pop()?);
                    let text = |value| self.text(value).map(str::to_owned);
                    let (module, name) = (text(module).unwrap_or_default(), text(name).unwrap_or_default());
                    self.class(&module, &name)?;
                }
                b'Q' => self.storage()?,
                b'R' => self.call()?,
                // The state of an OrderedDict: notes of torch's about versions.
                b'b' => drop(self.pop()?),
                code => return Err(self.broken(format!("an opcode {code:#04x}, which tensors do not need"))),
            }
        }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        match self.bytes.split_at_checked(length) {
            Some((taken, rest)) => {
                self.bytes = rest;
                Ok(taken)
            }
            None => Err(self.broken("a pickle that ends too early")),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let taken = self.take(N)?.first_chunk().copied();
        taken.ok_or_else(|| self.broken("a pickle that ends too early"))
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    fn line(&mut self) -> Result<String> {
        let end = self.bytes.iter().position(|b| *b == b'\n');
        let end = end.ok_or_else(|| self.broken("a pickle that ends too early"))?;
        let line = String::from_utf8_lossy(self.take(end)?).into_owned();
        self.byte()?;
        Ok(line)
    }

    fn words(&mut self, length: usize) -> Result<()> {
        let text = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.push(Node::Text(text));
        Ok(())
    }

    /// A number of up to 8 bytes; longer ones are none that a shape can have.
    fn long(&mut self) -> Result<()> {
        let length = usize::from(self.byte()?);
        let bytes = self.take(length)?;
        let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
        let mut whole = [if negative { 0xFF } else { 0 }; 8];
        let value = if length <= 8 {
            whole[..length].copy_from_slice(bytes);
            Value::Whole(i64::from_le_bytes(whole))
        } else {
            Value::Nothing
        };
        self.stack.push(value);
        Ok(())
    }

    fn push(&mut self, node: Node) {
        self.nodes.push(node);
        self.stack.push(Value::Node(self.nodes.len() - 1));
    }

    fn pop(&mut self) -> Result<Value> {
        self.stack.pop().ok_or_else(|| self.broken("a pickle that takes from an empty stack"))
    }

    fn since_mark(&mut self) -> Result<Vec<Value>> {
        let mark = self.stack.iter().rposition(|value| *value == Value::Mark);
        let mark = mark.ok_or_else(|| self.broken("a pickle without a mark"))?;
        let items = self.stack.split_off(mark + 1);
        self.stack.pop();
        Ok(items)
    }

    fn append(&mut self, items: Vec<Value>) -> Result<()> {
        match self.stack.last().copied() {
            Some(Value::Node(at)) => match self.nodes.get_mut(at) {
                Some(Node::Sequence(list)) => {
                    list.extend(items);
                    Ok(())
                }
                _ => Err(self.broken("an item for what is no list")),
            },
            _ => Err(self.broken("an item for what is no list")),
        }
    }

    fn set(&mut self, items: Vec<Value>) -> Result<()> {
        match self.stack.last().copied() {
            Some(Value::Node(at)) => match self.nodes.get_mut(at) {
                Some(Node::Map(map)) => {
                    map.extend(items.as_chunks::<2>().0.iter().map(|[key, value]| (*key, *value)));
                    Ok(())
                }
                _ => Err(self.broken("an entry for what is no dictionary")),
            },
            _ => Err(self.broken("an entry for what is no dictionary")),
        }
    }

    fn remember(&mut self, at: u32) -> Result<()> {
        let value = *self.stack.last().ok_or_else(|| self.broken("a pickle that takes from an empty stack"))?;
        self.memo.insert(at, value);
        Ok(())
    }

    fn recall(&mut self, at: u32) -> Result<()> {
        let value = self.memo.get(&at).copied();
        self.stack.push(value.ok_or_else(|| self.broken("a pickle that recalls what it never kept"))?);
        Ok(())
    }

    fn class(&mut self, module: &str, name: &str) -> Result<()> {
        let full = format!("{module}.{name}");
        let is_kind = || kinds::of_storage(&full).or_else(|| kinds::of_dtype(&full)).is_some();
        if !ALLOWED.contains(&full.as_str()) && !is_kind() {
            let rule = "a PyTorch file of plain tensors (nothing in a checkpoint is ever run)";
            return Err(Error::weights(self.label, rule, format!("one that asks for {full}")));
        }
        self.push(Node::Class(full));
        Ok(())
    }

    /// `("storage", class, key, device, elements)`
    fn storage(&mut self) -> Result<()> {
        let id = self.pop()?;
        let parts = self.sequence(id).filter(|parts| parts.len() == 5).map(<[Value]>::to_vec);
        let wrong = || self.broken("a reference to something that is no storage");
        let parts = parts.filter(|parts| self.text(parts[0]) == Some("storage")).ok_or_else(wrong)?;
        let Some(Node::Class(class)) = self.node(parts[1]) else { return Err(wrong()) };
        let kind = kinds::of_storage(class).ok_or_else(wrong)?;
        let key = self.text(parts[2]).ok_or_else(wrong)?;
        if key.is_empty() || !key.bytes().all(|b| b.is_ascii_digit()) {
            return Err(wrong());
        }
        let key = key.to_owned();
        self.push(Node::Storage { kind, key });
        Ok(())
    }

    fn call(&mut self) -> Result<()> {
        let (args, function) = (self.pop()?, self.pop()?);
        let args = self.sequence(args).map(<[Value]>::to_vec).ok_or_else(|| self.broken("a call without arguments"))?;
        let class = match self.node(function) {
            Some(Node::Class(class)) => class.clone(),
            _ => return Err(self.broken("a call of what is no class")),
        };
        match class.as_str() {
            "collections.OrderedDict" => self.push(Node::Map(Vec::new())),
            "torch.Size" | "torch._utils._rebuild_parameter" => {
                let inner = args.first().copied().ok_or_else(|| self.broken("a call without arguments"))?;
                self.stack.push(inner);
            }
            TENSOR | TYPED_TENSOR => {
                let tensor =
                    self.tensor(&args, class == TYPED_TENSOR).ok_or_else(|| self.broken("a tensor that is none"))?;
                self.push(tensor);
            }
            _ => return Err(self.broken(format!("a call of {class}"))),
        }
        Ok(())
    }

    /// `(storage, offset, size, stride, needs gradients, hooks)`, and the type where it is `typed`
    fn tensor(&self, args: &[Value], typed: bool) -> Option<Node> {
        let [Value::Node(storage), Value::Whole(offset), shape, strides, ..] = args else { return None };
        let Some(Node::Storage { kind: stored, .. }) = self.nodes.get(*storage) else { return None };
        let kind = match (typed, args.get(6).and_then(|class| self.node(*class))) {
            (false, _) => stored.clone(),
            (true, Some(Node::Class(class))) => kinds::of_dtype(class)?,
            (true, _) => return None,
        };
        let wholes = |value: &Value| -> Option<Vec<u64>> {
            self.sequence(*value)?
                .iter()
                .map(|v| if let Value::Whole(n) = v { (*n).try_into().ok() } else { None })
                .collect()
        };
        let shape: Option<Vec<usize>> = wholes(shape)?.into_iter().map(|n| n.try_into().ok()).collect();
        Some(Node::Tensor {
            storage: *storage,
            kind,
            offset: (*offset).try_into().ok()?,
            shape: shape?,
            strides: wholes(strides)?,
        })
    }

    fn node(&self, value: Value) -> Option<&Node> {
        if let Value::Node(at) = value { self.nodes.get(at) } else { None }
    }

    fn text(&self, value: Value) -> Option<&str> {
        if let Some(Node::Text(text)) = self.node(value) { Some(text) } else { None }
    }

    fn sequence(&self, value: Value) -> Option<&[Value]> {
        if let Some(Node::Sequence(items)) = self.node(value) { Some(items) } else { None }
    }

    fn map(&self, value: Value) -> Result<&Vec<(Value, Value)>> {
        match self.node(value) {
            Some(Node::Map(map)) => Ok(map),
            _ => Err(self.broken("something that is no dictionary of tensors")),
        }
    }
}
