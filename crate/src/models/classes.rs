//! The classes that some models show in place of what a prompt says.

use serde_json::Value;

use crate::error::{Error, Result};

/// Classes by number, with the names that a folder's model_index.json gives them (`id2label`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Classes {
    /// One for each class: names with commas between; empty where the folder names none.
    labels: Vec<String>,
}

impl Classes {
    /// `count` classes.
    pub fn new(count: usize, index: &Value) -> Self {
        let label = |class: usize| index["id2label"][class.to_string()].as_str().unwrap_or_default().trim().to_owned();
        Self { labels: (0..count).map(label).collect() }
    }

    /// The names, by number.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// The class that is asked for by its number, or by one of its names in any case.
    ///
    /// # Errors
    /// [`Error::InvalidOptions`] naming the rule and what was asked for: a number that there is not, a name of none, or of several.
    pub fn find(&self, asked: &str) -> Result<usize> {
        let (asked, last) = (asked.trim(), self.labels.len().saturating_sub(1));
        if let Ok(class) = asked.parse::<usize>() {
            return match class <= last {
                true => Ok(class),
                false => Err(Error::options(format!("class_label must be 0 to {last} for this model, got {class}"))),
            };
        }
        if self.labels.iter().all(String::is_empty) {
            let found = format!("got {asked:?}");
            return Err(Error::options(format!(
                "class_label must be a number, 0 to {last}: this model's classes have no names, {found}"
            )));
        }
        let wanted = asked.to_lowercase();
        let with = |fits: &dyn Fn(&str) -> bool| -> Vec<usize> {
            let named = |label: &String| label.split(',').any(|name| fits(&name.trim().to_lowercase()));
            (0..self.labels.len()).filter(|&class| named(&self.labels[class])).collect()
        };
        let found = with(&|name| name == wanted);
        match found[..] {
            [class] => Ok(class),
            [] => {
                let near = with(&|name| !wanted.is_empty() && name.contains(&wanted));
                let hint = if near.is_empty() { String::new() } else { format!("; near it: {}", self.named(&near)) };
                Err(Error::options(format!(
                    "class_label must be a number, 0 to {last}, or a class's name, got {asked:?}{hint}"
                )))
            }
            _ => Err(Error::options(format!(
                "class_label must name one class, {asked:?} names {}: give a number",
                self.named(&found)
            ))),
        }
    }

    /// The first few of some classes, in words.
    fn named(&self, classes: &[usize]) -> String {
        const SHOWN: usize = 5;
        let words: Vec<String> =
            classes.iter().take(SHOWN).map(|&class| format!("{class} ({})", self.labels[class])).collect();
        words.join(", ") + if classes.len() > SHOWN { ", …" } else { "" }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn birds() -> Classes {
        let labels = json!({ "0": "tench, Tinca tinca", "2": "crane", "3": "crane, hoist", "4": "golden retriever" });
        Classes::new(5, &json!({ "id2label": labels }))
    }

    fn refusal(asked: &str) -> String {
        birds().find(asked).err().map(|e| e.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_class_is_found_by_number_and_by_any_of_its_names() {
        for (asked, class) in [("3", 3), ("Golden Retriever", 4), (" tinca tinca", 0), ("hoist", 3)] {
            assert_eq!(birds().find(asked).ok(), Some(class), "{asked}");
        }
    }

    #[test]
    fn what_is_no_class_or_more_than_one_is_refused_in_words() {
        assert_eq!(refusal("5"), "class_label must be 0 to 4 for this model, got 5");
        assert!(refusal("retriever").ends_with("got \"retriever\"; near it: 4 (golden retriever)"));
        assert!(refusal("dog").ends_with("or a class's name, got \"dog\""));
        assert!(refusal("crane").contains("\"crane\" names 2 (crane), 3 (crane, hoist): give a number"));
        let unnamed = Classes::new(10, &Value::Null).find("cat").err().map(|e| e.to_string()).unwrap_or_default();
        assert_eq!(unnamed, "class_label must be a number, 0 to 9: this model's classes have no names, got \"cat\"");
    }
}
