//! The words that a small model was trained on, as its card lists them: which words of a prompt say nothing to it, and a prompt in
//! its own words. The rule is that of `pkg/src/vocabulary.ts`; tests/fixtures/vocabulary.json holds both to it.

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use crate::error::{Error, Result};
use crate::pipeline::{CARD, ModelFiles};

/// The roles of a scene in the order of a caption.
const CAPTION_ROLES: [&str; 6] = ["size", "colour", "shape", "motion", "ground", "sky"];
/// Roles that are kept where a prompt has them, and never added.
const KEPT_ROLES: [&str; 2] = ["camera", "extra"];

/// Plain words and their other wordings, in the card's order.
type Words = Vec<(String, Vec<String>)>;

/// By role, plain words and their other wordings, in the card's order.
#[derive(Debug, Default)]
pub struct Vocabulary {
    roles: Vec<(String, Words)>,
    /// Words without content.
    other: Vec<String>,
}

/// A JSON object whose order counts.
#[derive(Default)]
struct Ordered<T>(Vec<(String, T)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Ordered<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Pairs<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Pairs<T> {
            type Value = Ordered<T>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Ordered<T>, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Ordered(pairs))
            }
        }
        deserializer.deserialize_map(Pairs(std::marker::PhantomData))
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Role {
    Other(Vec<String>),
    Words(Ordered<Vec<String>>),
}

impl<'de> Deserialize<'de> for Vocabulary {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let mut out = Self::default();
        for (name, role) in Ordered::<Role>::deserialize(deserializer)?.0 {
            match role {
                Role::Words(Ordered(words)) => out.roles.push((name, words)),
                Role::Other(words) if name == "other" => out.other = words,
                Role::Other(_) => {}
            }
        }
        Ok(out)
    }
}

#[derive(Deserialize)]
struct Card {
    vocabulary: Option<Vocabulary>,
}

impl Vocabulary {
    /// That of a model's card; `None` for a model that knows all words.
    ///
    /// # Errors
    /// [`Error::Weights`] when the card is no JSON or its vocabulary is of another form.
    pub async fn of(files: &ModelFiles) -> Result<Option<Self>> {
        if !files.contains(CARD) {
            return Ok(None);
        }
        let card: Card = serde_json::from_slice(&files.require(CARD).await?)
            .map_err(|e| Error::weights(CARD, "a card with a sound vocabulary", e.to_string()))?;
        Ok(card.vocabulary)
    }

    /// The words of a prompt that it does not hold, as written, each once and in order. A plural or another ending of a known
    /// word counts as known.
    pub fn unknown(&self, prompt: &str) -> Vec<String> {
        let said = self.roles.iter().flat_map(|(_, words)| words).flat_map(wordings).chain(&self.other);
        let known: Vec<String> = said.flat_map(|text| words_of(&text.to_lowercase())).flat_map(|w| stems(&w)).collect();
        let mut found: Vec<String> = Vec::new();
        for word in words_of(prompt) {
            let low = word.to_lowercase();
            let is_known = stems(&low).iter().any(|stem| known.contains(stem));
            if !is_known && !found.iter().any(|other| other.to_lowercase() == low) {
                found.push(word);
            }
        }
        found
    }

    /// A prompt in the wording of the captions that the model was trained on: what it says in plain words, and what it leaves open
    /// filled in; `choose` gives a number below the one that it is given. `None` without the roles of a caption.
    pub fn suggest(&self, prompt: &str, mut choose: impl FnMut(usize) -> usize) -> Option<String> {
        let said = format!(" {} ", words_of(prompt).join(" ").to_lowercase());
        let role = |name: &str| self.roles.iter().find(|(role, _)| role == name).map(|(_, words)| words.as_slice());
        let mut words = Vec::new();
        for name in CAPTION_ROLES {
            let role = role(name).filter(|words| !words.is_empty())?;
            let chosen = || role.get(choose(role.len())).map(|(plain, _)| plain.as_str());
            words.push(spoken(&said, role).or_else(chosen)?);
        }
        words.extend(KEPT_ROLES.iter().filter_map(|name| spoken(&said, role(name)?)));
        let text = words.join(" ");
        let article = if text.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
        Some(format!("{article} {text}"))
    }
}

fn wordings((plain, more): &(String, Vec<String>)) -> impl Iterator<Item = &String> {
    std::iter::once(plain).chain(more)
}

/// The plain word whose wording stands in a text; of several the longest wording, which says the most.
fn spoken<'a>(text: &str, words: &'a [(String, Vec<String>)]) -> Option<&'a str> {
    let mut found: Option<(&str, usize)> = None;
    for entry in words {
        for wording in wordings(entry) {
            let flat = words_of(wording).join(" ").to_lowercase();
            let is_said = [format!(" {flat} "), format!(" {flat}s ")].iter().any(|form| text.contains(form));
            if is_said && found.is_none_or(|(_, length)| flat.len() > length) {
                found = Some((&entry.0, flat.len()));
            }
        }
    }
    found.map(|(plain, _)| plain)
}

/// Words, numbers and pictures: a prompt of emoji says nothing to a model of words either.
fn words_of(text: &str) -> Vec<String> {
    let (mut out, mut word) = (Vec::new(), String::new());
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        let letter_follows = characters.peek().is_some_and(|next| next.is_alphabetic());
        let ends_in = |kind: fn(char) -> bool| word.chars().next_back().is_some_and(kind);
        let goes_on = match c {
            '\'' | '’' => ends_in(char::is_alphabetic) && letter_follows,
            c if c.is_alphabetic() => {
                word.is_empty() || ends_in(|last| last.is_alphabetic() || matches!(last, '\'' | '’'))
            }
            c if c.is_numeric() => word.is_empty() || ends_in(char::is_numeric),
            _ => false,
        };
        if !goes_on && !word.is_empty() {
            out.push(std::mem::take(&mut word));
        }
        if goes_on || c.is_alphanumeric() {
            word.push(c);
        } else if is_picture(c) {
            out.push(c.into());
        }
    }
    out.extend((!word.is_empty()).then_some(word));
    out
}

/// Emoji and other pictographs; the few outside of these blocks (©, ™, arrows) are taken for signs.
fn is_picture(c: char) -> bool {
    matches!(c, '\u{2600}'..='\u{27bf}' | '\u{1f000}'..='\u{1fffd}')
}

/// The word itself and, for English plurals and verbs, what is left without each ending that it may have; one or two letters are
/// no stem.
fn stems(word: &str) -> Vec<String> {
    let cut = ["es", "s", "ed", "d", "ing"].iter().filter_map(|ending| word.strip_suffix(ending));
    std::iter::once(word).chain(cut.filter(|stem| stem.chars().count() >= 3)).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Cases {
        vocabulary: Vocabulary,
        suggested: Vec<Suggested>,
        unknown: Vec<Unknown>,
    }

    #[derive(Deserialize)]
    struct Suggested {
        prompt: String,
        first: String,
        last: String,
    }

    #[derive(Deserialize)]
    struct Unknown {
        prompt: String,
        words: Vec<String>,
    }

    #[test]
    fn prompts_are_read_as_the_package_reads_them() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/vocabulary.json");
        let cases: Cases = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        for Suggested { prompt, first, last } in &cases.suggested {
            assert_eq!(cases.vocabulary.suggest(prompt, |_| 0).as_ref(), Some(first), "{prompt}");
            assert_eq!(cases.vocabulary.suggest(prompt, |n| n - 1).as_ref(), Some(last), "{prompt}");
            assert!(cases.vocabulary.unknown(first).is_empty());
        }
        for Unknown { prompt, words } in &cases.unknown {
            assert_eq!(&cases.vocabulary.unknown(prompt), words, "{prompt}");
        }
        assert!(!cases.suggested.is_empty() && !cases.unknown.is_empty());
        let other: Vocabulary = serde_json::from_str(r#"{ "shape": { "ball": [] } }"#).unwrap();
        assert_eq!(other.suggest("x", |_| 0), None);
    }
}
