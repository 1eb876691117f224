//! What a row of the table of options says, and the macro that makes the request's structs from the rows.

use crate::error::{Error, Result};

/// The most numbers of a list: the most steps.
pub const MOST_NUMBERS: usize = 200;

/// What kind of value an option takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Words.
    Text,
    /// A whole number from 0.
    Whole,
    /// A number.
    Number,
    /// A name, or a number in its place.
    Label,
    /// One of some words.
    Choice(&'static [&'static str]),
    /// Numbers, each within the range and below the one before it.
    List,
    /// Yes or no.
    Flag,
}

/// A value of some option.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// Of [`Kind::Text`], [`Kind::Label`] and [`Kind::Choice`].
    Text(&'a str),
    /// Of [`Kind::Whole`].
    Whole(u64),
    /// Of [`Kind::Number`].
    Number(f64),
    /// Of [`Kind::List`].
    List(&'a [f64]),
    /// Of [`Kind::Flag`].
    Flag(bool),
}

impl std::fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(value) => value.fmt(f),
            Self::Whole(value) => value.fmt(f),
            Self::Number(value) => value.fmt(f),
            Self::List(values) => {
                let words: Vec<String> = values.iter().map(f64::to_string).collect();
                words.join(", ").fmt(f)
            }
            Self::Flag(value) => value.fmt(f),
        }
    }
}

/// What stands in for a value that neither the caller gave nor the model's card suggests.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fallback {
    /// Nothing: the caller must give one.
    Required,
    /// This value.
    Value(Value<'static>),
    /// Something that is no constant, in words.
    Words(&'static str),
}

/// The least and the most a number may be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Range {
    /// The least.
    pub min: f64,
    /// The most.
    pub max: f64,
    /// True if `min` itself is not allowed.
    pub above_min: bool,
}

/// Which of a model's multiples a size keeps to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Multiple {
    /// A multiple of [`Rules::width_multiple`].
    Width,
    /// A multiple of [`Rules::height_multiple`].
    Height,
    /// A multiple of [`Rules::frame_multiple`], and one.
    Frame,
}

/// What a model asks of a clip's size: how its video codec and its patches divide it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(rename = "SizeRules"))]
#[serde(rename_all = "camelCase")]
pub struct Rules {
    /// Width must be a multiple of this, px.
    pub width_multiple: usize,
    /// Height must be a multiple of this, px.
    pub height_multiple: usize,
    /// The number of frames must be a multiple of this, and one.
    pub frame_multiple: usize,
}

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OptionSpec {
    /// Its name in Rust and in a model's card; JavaScript has the same in camelCase.
    pub name: &'static str,
    /// What it does, a sentence or two.
    pub doc: &'static str,
    /// What kind of value it takes.
    pub kind: Kind,
    /// What the value may be, if it is a number.
    pub range: Option<Range>,
    /// What the model adds to the range.
    pub multiple: Option<Multiple>,
    /// What the number counts; empty for a number without a unit.
    pub unit: &'static str,
    /// What stands in for a missing value.
    pub default: Fallback,
    /// The command line's flag, without dashes, and the name in a shared link; `None` where there is none.
    pub flag: Option<&'static str>,
}

impl OptionSpec {
    const fn new(kind: Kind, range: Option<Range>, unit: &'static str, default: Fallback) -> Self {
        Self { name: "", doc: "", kind, range, multiple: None, unit, default, flag: None }
    }

    pub(super) const fn text(default: Fallback) -> Self {
        Self::new(Kind::Text, None, "", default)
    }

    pub(super) const fn label(default: Fallback) -> Self {
        Self::new(Kind::Label, None, "", default)
    }

    pub(super) const fn whole(min: u64, max: u64, unit: &'static str, default: Fallback) -> Self {
        let range = Range { min: min as f64, max: max as f64, above_min: false };
        Self::new(Kind::Whole, Some(range), unit, default)
    }

    pub(super) const fn number(range: Range, unit: &'static str, default: Fallback) -> Self {
        Self::new(Kind::Number, Some(range), unit, default)
    }

    pub(super) const fn choice(words: &'static [&'static str], default: Fallback) -> Self {
        Self::new(Kind::Choice(words), None, "", default)
    }

    pub(super) const fn list(range: Range, default: Fallback) -> Self {
        Self::new(Kind::List, Some(range), "", default)
    }

    pub(super) const fn yes_or_no() -> Self {
        Self::new(Kind::Flag, None, "", Fallback::Value(Value::Flag(false)))
    }

    pub(super) const fn multiple_of(self, multiple: Multiple) -> Self {
        Self { multiple: Some(multiple), ..self }
    }

    pub(super) const fn flag(self, flag: &'static str) -> Self {
        Self { flag: Some(flag), ..self }
    }

    pub(super) const fn named(self, name: &'static str, doc: &'static str) -> Self {
        Self { name, doc, ..self }
    }

    fn with_unit(&self, value: impl std::fmt::Display) -> String {
        if self.unit.is_empty() { value.to_string() } else { format!("{value} {}", self.unit) }
    }

    /// The range in words: `1 to 200 steps`; `None` where every value will do.
    pub fn range_words(&self) -> Option<String> {
        if let Kind::Choice(words) = self.kind {
            return Some(words.join(", "));
        }
        self.range.map(|Range { min, max, above_min }| {
            self.with_unit(if above_min { format!("above {min} up to {max}") } else { format!("{min} to {max}") })
        })
    }

    /// What stands in for a missing value, in words; `None` if the caller must give one.
    pub fn default_words(&self) -> Option<String> {
        match self.default {
            Fallback::Required => None,
            Fallback::Words(words) => Some(words.into()),
            Fallback::Value(Value::Text("")) => Some("none".into()),
            Fallback::Value(value) => Some(value.to_string()),
        }
    }

    /// Refuses a value out of range.
    ///
    /// # Errors
    /// [`Error::InvalidOptions`] with rule, value and unit.
    pub fn check_range(&self, value: Value<'_>) -> Result<()> {
        let number = match value {
            Value::Whole(whole) => whole as f64,
            Value::Number(number) => number,
            Value::List(numbers) => return self.check_list(numbers),
            Value::Text(word) => return self.check_choice(word),
            Value::Flag(_) => return Ok(()),
        };
        let Some(Range { min, max, above_min }) = self.range else { return Ok(()) };
        // Written so that NaN is refused.
        if number <= max && if above_min { number > min } else { number >= min } {
            return Ok(());
        }
        let (range, found) = (self.range_words().unwrap_or_default(), self.with_unit(value));
        Err(Error::options(format!("{} must be {range}, got {found}", self.name)))
    }

    fn check_choice(&self, word: &str) -> Result<()> {
        match self.kind {
            Kind::Choice(words) if !words.contains(&word) => {
                Err(Error::options(format!("{} must be one of {}, got {word}", self.name, words.join(", "))))
            }
            _ => Ok(()),
        }
    }

    fn check_list(&self, numbers: &[f64]) -> Result<()> {
        let found = Value::List(numbers);
        if !(1..=MOST_NUMBERS).contains(&numbers.len()) {
            let (name, count) = (self.name, numbers.len());
            return Err(Error::options(format!("{name} must be 1 to {MOST_NUMBERS} numbers, got {count}")));
        }
        numbers.iter().try_for_each(|number| self.check_range(Value::Number(*number)))?;
        match numbers.windows(2).all(|pair| matches!(pair, [a, b] if a > b)) {
            true => Ok(()),
            false => Err(Error::options(format!("{} must fall from one to the next, got {found}", self.name))),
        }
    }

    /// Refuses a size that the model cannot divide.
    ///
    /// # Errors
    /// [`Error::InvalidOptions`] with rule, value and unit.
    pub fn check_multiple(&self, value: Value<'_>, rules: Rules) -> Result<()> {
        let (Some(multiple), Value::Whole(value)) = (self.multiple, value) else { return Ok(()) };
        let (step, rest) = match multiple {
            Multiple::Width => (rules.width_multiple, 0),
            Multiple::Height => (rules.height_multiple, 0),
            Multiple::Frame => (rules.frame_multiple, 1),
        };
        // A step of 0 would be a mistake of the model's; then every size will do.
        let step = (step as u64).max(1);
        if value % step == rest % step {
            return Ok(());
        }
        let rule = match multiple {
            Multiple::Frame => format!("{step}n + 1 (1, {}, {}, …)", step + 1, 2 * step + 1),
            Multiple::Width | Multiple::Height => format!("a multiple of {}", self.with_unit(step)),
        };
        Err(Error::options(format!("{} must be {rule}, got {}", self.name, self.with_unit(value))))
    }
}

/// A type that an option can have in [`super::GenerateOptions`].
pub trait Field: Sized {
    /// What a caller or a card gives.
    type Given: Clone;
    /// The value, if it is of this type.
    fn given(value: Value<'_>) -> Option<Self::Given>;
    /// What was given, as a value.
    fn value_of(given: &Self::Given) -> Value<'_>;
    /// The value asked for, or what stands in for it.
    fn settle(given: Option<Self::Given>, default: Fallback) -> Self;
    /// The settled value; `None` where it was left open.
    fn value(&self) -> Option<Value<'_>>;
}

macro_rules! field {
    ($type:ty, $value:ident => $read:expr, $given:ident => $write:expr) => {
        impl Field for $type {
            type Given = Self;
            fn given($value: Value<'_>) -> Option<Self> {
                $read
            }
            fn value_of($given: &Self) -> Value<'_> {
                $write
            }
            fn settle(given: Option<Self>, default: Fallback) -> Self {
                let default = match default {
                    Fallback::Value(value) => Self::given(value),
                    Fallback::Required | Fallback::Words(_) => None,
                };
                given.or(default).unwrap_or_default()
            }
            fn value(&self) -> Option<Value<'_>> {
                Some(Self::value_of(self))
            }
        }
    };
}

field!(String, value => if let Value::Text(v) = value { Some(v.to_owned()) } else { None }, v => Value::Text(v));
field!(u64, value => if let Value::Whole(v) = value { Some(v) } else { None }, v => Value::Whole(*v));
// Lossless: a usize has at most 64 bits; a number too large for one is too large for every range.
field!(usize, value => if let Value::Whole(v) = value { Some(v.try_into().unwrap_or(usize::MAX)) } else { None },
    v => Value::Whole(*v as u64));
field!(f64, value => if let Value::Number(v) = value { Some(v) } else { None }, v => Value::Number(*v));
field!(bool, value => if let Value::Flag(v) = value { Some(v) } else { None }, v => Value::Flag(*v));

field!(Vec<f64>, value => if let Value::List(v) = value { Some(v.to_vec()) } else { None }, v => Value::List(v));

/// What may be left open for something that is no constant.
impl<T: Field<Given = T> + Clone> Field for Option<T> {
    type Given = T;
    fn given(value: Value<'_>) -> Option<T> {
        T::given(value)
    }
    fn value_of(given: &T) -> Value<'_> {
        T::value_of(given)
    }
    fn settle(given: Option<T>, _: Fallback) -> Self {
        given
    }
    fn value(&self) -> Option<Value<'_>> {
        self.as_ref().map(T::value_of)
    }
}

/// Makes the table and its three structs. Rows of `caller` can only be asked for; those of `model` a card may suggest.
macro_rules! options {
    (
        caller { $($(#[doc = $cdoc:literal])+ $c:ident: $ctype:ty = $cspec:expr;)+ }
        model { $($(#[doc = $mdoc:literal])+ $m:ident: $mtype:ty = $mspec:expr;)+ }
    ) => {
        /// The options that only a caller gives.
        pub const CALLER_OPTIONS: &[OptionSpec] = &[$($cspec.named(stringify!($c), concat!($($cdoc),+)),)+];
        /// The options that a model's card may suggest.
        pub const MODEL_OPTIONS: &[OptionSpec] = &[$($mspec.named(stringify!($m), concat!($($mdoc),+)),)+];

        /// A request for one clip, with nothing left open. Field names are camelCase in JSON and JavaScript.
        #[derive(Debug, Clone, PartialEq, Serialize)]
        #[serde(rename_all = "camelCase")]
        pub struct GenerateOptions {
            $($(#[doc = $cdoc])+ pub $c: $ctype,)+
            $($(#[doc = $mdoc])+ pub $m: $mtype,)+
        }

        /// What a caller gave of a request. Field names are camelCase in JSON and JavaScript.
        #[derive(Debug, Clone, Default, PartialEq, Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields, default)]
        pub struct GivenOptions {
            $($(#[doc = $cdoc])+ pub $c: Option<<$ctype as Field>::Given>,)+
            $($(#[doc = $mdoc])+ pub $m: Option<<$mtype as Field>::Given>,)+
        }

        /// What a model suggests: `default` of its card, whose names are snake_case; camelCase in JavaScript.
        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all(serialize = "camelCase"), default)]
        pub struct ModelDefaults {
            $($(#[doc = $mdoc])+
            #[serde(skip_serializing_if = "Option::is_none")]
            pub $m: Option<<$mtype as Field>::Given>,)+
        }

        impl GivenOptions {
            /// The same, `other`'s value where none was given.
            pub fn or(self, other: &Self) -> Self {
                Self {
                    $($c: self.$c.or_else(|| other.$c.clone()),)+
                    $($m: self.$m.or_else(|| other.$m.clone()),)+
                }
            }

            /// Asks `read` for the value of each option.
            pub fn from_values<'a>(read: impl Fn(&'static OptionSpec) -> Option<Value<'a>>) -> Self {
                let mut rows = CALLER_OPTIONS.iter().chain(MODEL_OPTIONS);
                let mut next = || rows.next().and_then(&read);
                // In the order of the rows, which is the order of the table.
                Self {
                    $($c: next().and_then(<$ctype as Field>::given),)+
                    $($m: next().and_then(<$mtype as Field>::given),)+
                }
            }

            /// What was given, else what the model suggests, else the table's default.
            fn settle_rows(self, model: &ModelDefaults) -> GenerateOptions {
                let mut rows = CALLER_OPTIONS.iter().chain(MODEL_OPTIONS);
                let mut default = || rows.next().map_or(Fallback::Required, |row| row.default);
                GenerateOptions {
                    $($c: <$ctype as Field>::settle(self.$c, default()),)+
                    $($m: <$mtype as Field>::settle(self.$m.or_else(|| model.$m.clone()), default()),)+
                }
            }
        }

        impl GenerateOptions {
            /// Each row with its value; options left open are left out.
            fn rows(&self) -> impl Iterator<Item = (&'static OptionSpec, Value<'_>)> {
                let values = [$(Field::value(&self.$c),)+ $(Field::value(&self.$m),)+];
                CALLER_OPTIONS.iter().chain(MODEL_OPTIONS).zip(values).filter_map(|(row, value)| Some((row, value?)))
            }
        }

        impl ModelDefaults {
            /// The same, `other`'s suggestion where there is none.
            pub fn or(&self, other: &Self) -> Self {
                Self { $($m: self.$m.clone().or_else(|| other.$m.clone()),)+ }
            }

            /// Each row that the model suggests something for, with its value.
            fn rows(&self) -> impl Iterator<Item = (&'static OptionSpec, Value<'_>)> {
                let values = [$(self.$m.as_ref().map(<$mtype as Field>::value_of),)+];
                MODEL_OPTIONS.iter().zip(values).filter_map(|(row, value)| Some((row, value?)))
            }
        }
    };
}
pub(super) use options;
