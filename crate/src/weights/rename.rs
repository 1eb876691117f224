//! The names under which different tools store the same tensors, and how to get from one to the other.
//!
//! Models here ask for diffusers (transformers) names. A model's folder brings a [`Naming`] for each other scheme that its
//! files are found in; nothing here knows a model.

use std::collections::BTreeMap;

use super::info::{StoredType, TensorInfo};
use super::set::WeightSet;
use crate::error::Result;

/// Prefixes that single-file checkpoints put before every name.
const PREFIXES: &[&str] = &["model.diffusion_model.", "diffusion_model.", "first_stage_model.", "model.", "net."];

/// What a tensor gets: its new name, and its shape where the scheme stores it in another.
pub type Renamer = Box<dyn Fn(&str, &TensorInfo) -> (String, Vec<usize>)>;

/// One scheme of names besides diffusers'.
pub trait Naming: Sync {
    /// True for a name that only this scheme uses.
    fn is_foreign(&self, name: &str) -> bool;
    /// True for a tensor, of another model, that files of this scheme hold too and nothing here reads: it is left out.
    fn is_extra(&self, _name: &str) -> bool {
        false
    }
    /// From this scheme to diffusers' names; `names` are all of the set, without prefixes.
    fn to_diffusers(&self, names: &[&str]) -> Renamer;
    /// True if the diffusers `names` are of a model that this scheme can name.
    fn covers(&self, names: &[&str]) -> bool;
    /// From diffusers' names to this scheme; asked only where [`Naming::covers`].
    fn to_foreign(&self, names: &[&str]) -> Box<dyn Fn(&str) -> String>;
}

/// The set under the names that the models of this crate ask for: the first scheme that knows one of its names renames it.
///
/// # Errors
/// [`crate::error::Error::Weights`] when two tensors would get the same name.
pub fn to_diffusers(set: WeightSet, namings: &[&dyn Naming]) -> Result<WeightSet> {
    let names: Vec<&str> = set.names().map(strip_prefix).collect();
    let naming = names.iter().find_map(|name| namings.iter().find(|naming| naming.is_foreign(name)));
    let renamer: Renamer = match naming {
        Some(naming) => naming.to_diffusers(&names),
        None => Box::new(|name, info| (name.to_owned(), info.shape.clone())),
    };
    let set = set.without(|name| naming.is_some_and(|naming| naming.is_extra(strip_prefix(name))));
    set.renamed(|info| renamer(strip_prefix(&info.name), info))
}

/// The diffusers name of every one of `names` (without prefixes), which follow one scheme; told as in [`to_diffusers`].
pub fn renamed_names<'a>(names: impl Iterator<Item = &'a str>, namings: &[&dyn Naming]) -> BTreeMap<String, String> {
    let names: Vec<&str> = names.collect();
    let naming = names.iter().find_map(|name| namings.iter().find(|naming| naming.is_foreign(name)));
    let Some(naming) = naming else { return BTreeMap::new() };
    let renamer = naming.to_diffusers(&names);
    let info = |name: &str| TensorInfo {
        name: name.to_owned(),
        shape: Vec::new(),
        dtype: StoredType::F32,
        range: 0..0,
        unknown: None,
    };
    names.iter().map(|name| ((*name).to_owned(), renamer(name, &info(name)).0)).collect()
}

/// The foreign name of every diffusers name, for writing files that other tools read; unknown names stay as they are.
pub fn to_foreign<'a>(names: impl IntoIterator<Item = &'a str>, namings: &[&dyn Naming]) -> BTreeMap<String, String> {
    let names: Vec<&str> = names.into_iter().collect();
    let foreign = namings.iter().find(|naming| naming.covers(&names)).map(|naming| naming.to_foreign(&names));
    let named = |name: &str| foreign.as_ref().map_or_else(|| name.to_owned(), |foreign| foreign(name));
    names.iter().map(|name| ((*name).to_owned(), named(name))).collect()
}

fn strip_prefix(name: &str) -> &str {
    PREFIXES.iter().find_map(|p| name.strip_prefix(p)).unwrap_or(name)
}

/// Which column of a table is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Left to right.
    Forward,
    /// Right to left.
    Backward,
}

/// Replaces the leading path of `name` by the table's other column; whole path segments only.
pub fn replace_head(name: &str, table: &[(&str, &str)], direction: Direction) -> String {
    table
        .iter()
        .map(|&(a, b)| if direction == Direction::Forward { (a, b) } else { (b, a) })
        .find_map(|(from, to)| {
            let rest = name.strip_prefix(from)?;
            (rest.is_empty() || rest.starts_with('.')).then(|| format!("{to}{rest}"))
        })
        .unwrap_or_else(|| name.to_owned())
}
