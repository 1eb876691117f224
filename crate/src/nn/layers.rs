//! The layers of a model, which are all of one kind: kept on the device, or, where they do not fit beside everything else,
//! each read from its file when its turn comes.

use std::fmt::{Debug, Formatter};
use std::ops::Deref;

use super::loader::Loader;
use crate::error::{Error, Result};
use crate::pace::Later;

/// Builds one layer from its place in a checkpoint.
pub type LoadLayer<T> = Box<dyn Fn(Loader) -> Later<'static, T>>;

/// Layers in the order in which they run.
pub enum Layers<T> {
    /// On the device.
    Kept(Vec<T>),
    /// In a file.
    Streamed {
        /// Where each is.
        places: Vec<Loader>,
        /// How each is built.
        load: LoadLayer<T>,
    },
}

/// A layer whose turn it is.
pub enum Turn<'a, T> {
    /// One that stays.
    Kept(&'a T),
    /// One that goes after its turn.
    Passing(Box<T>),
}

impl<T> Layers<T> {
    /// Builds the layers at `places`, or, `streamed`, only the first, to see that it fits; the others must be like it.
    ///
    /// # Errors
    /// [`Error::Weights`] when a tensor is missing or mis-shaped; as `load`.
    pub async fn load(places: Vec<Loader>, streamed: bool, load: LoadLayer<T>) -> Result<Self> {
        if !streamed {
            let mut kept = Vec::with_capacity(places.len());
            for place in places {
                kept.push(load(place).await?);
            }
            return Ok(Self::Kept(kept));
        }
        if let Some(first) = places.first() {
            drop(load(first.clone()).await?);
            first.settle().await?;
            for place in &places[1..] {
                place.must_be_like(first)?;
            }
        }
        Ok(Self::Streamed { places, load })
    }

    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Self::Kept(layers) => layers.len(),
            Self::Streamed { places, .. } => places.len(),
        }
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them, if they stay on the device.
    pub fn kept(&self) -> Option<&[T]> {
        match self {
            Self::Kept(layers) => Some(layers),
            Self::Streamed { .. } => None,
        }
    }

    /// Layer `i`. While the device works on the layer before, the bytes of this one are on their way.
    ///
    /// # Errors
    /// [`Error::Fetch`] when it cannot be read, [`Error::Weights`] when it is unsound.
    pub async fn turn(&self, i: usize) -> Result<Turn<'_, T>> {
        let missing = || Error::Internal(format!("there is no layer {i} of {}", self.len()));
        match self {
            Self::Kept(layers) => layers.get(i).map(Turn::Kept).ok_or_else(missing),
            Self::Streamed { places, load } => {
                let place = places.get(i).ok_or_else(missing)?;
                Ok(Turn::Passing(Box::new(load(place.clone()).await?)))
            }
        }
    }

    /// To be called when all have had their turn: says whether what was read was sound.
    ///
    /// # Errors
    /// As [`Loader::settle`].
    pub async fn settle(&self) -> Result<()> {
        match self {
            Self::Kept(_) => Ok(()),
            Self::Streamed { places, .. } => match places.first() {
                Some(place) => place.settle().await,
                None => Ok(()),
            },
        }
    }
}

impl<T> Deref for Turn<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        match self {
            Self::Kept(layer) => layer,
            Self::Passing(layer) => layer,
        }
    }
}

impl<T> Debug for Layers<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let how = if self.kept().is_some() { "kept" } else { "streamed" };
        write!(f, "{} layers, {how}", self.len())
    }
}
