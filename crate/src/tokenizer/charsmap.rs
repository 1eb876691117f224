//! SentencePiece's normalisation table, checked before the `tokenizers` crate walks it: that trusts every offset in it, and
//! the length that its first four bytes state.
//!
//! The table: the length of a trie in bytes (u32), the trie (u32 units of a darts-clone double array), then replacements,
//! each ended by a 0. Source: sentencepiece `normalizer.cc`, `PrefixMatcher`; spm_precompiled 0.1.4 `lib.rs`.

/// Walks everything that can be reached in a table; the error says what is wrong with it.
pub(super) fn check(table: &[u8]) -> Result<(), &'static str> {
    let (size, rest) = table.split_first_chunk::<4>().ok_or("it has no length")?;
    let size = u32::from_le_bytes(*size) as usize;
    let (trie, replacements) = rest.split_at_checked(size).ok_or("its trie is longer than the table")?;
    let replacements = std::str::from_utf8(replacements).map_err(|_| "its replacements are no UTF-8")?;
    let units: Vec<u32> = trie.as_chunks::<4>().0.iter().map(|unit| u32::from_le_bytes(*unit)).collect();
    if units.is_empty() || !size.is_multiple_of(4) {
        return Err("its trie is no whole number of units");
    }
    // A node's children stand at its position with the last 8 bits changed to the next character.
    let mut seen = vec![false; units.len()];
    let mut todo = vec![offset(units[0])];
    while let Some(node) = todo.pop() {
        if node | 0xff >= units.len() {
            return Err("its trie leads out of itself");
        }
        if std::mem::replace(&mut seen[node], true) {
            continue;
        }
        for next in 1..=0xff {
            let unit = units[node ^ next];
            // A unit of another parent carries another label.
            if unit & 0x8000_00ff != next as u32 {
                continue;
            }
            let child = node ^ next ^ offset(unit);
            let leaf = unit & 0x100 != 0;
            let value = units.get(child).map(|unit| (unit & 0x7fff_ffff) as usize);
            if leaf && !value.is_some_and(|at| replacements.is_char_boundary(at)) {
                return Err("its trie names a replacement that it has not");
            }
            todo.push(child);
        }
    }
    Ok(())
}

/// How far a unit's children lie from it, XORed.
fn offset(unit: u32) -> usize {
    ((unit >> 10) as usize) << ((unit & 0x200) >> 6)
}

/// The bytes of a base64 text; `None` when it is none.
pub(super) fn unbase64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    let (mut bits, mut held) = (0u32, 0);
    for digit in digits.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        (bits, held) = (bits << 6 | u32::from(value), held + 6);
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::unigram::base64;
    use super::*;

    fn sound() -> Vec<u8> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/tokenizer/tokenizer.json");
        let json: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        unbase64(json["normalizer"]["precompiled_charsmap"].as_str().unwrap()).unwrap()
    }

    #[test]
    fn a_table_as_sentencepiece_writes_it_passes() {
        assert_eq!(check(&sound()), Ok(()));
    }

    #[test]
    fn a_length_that_the_table_has_not_is_refused_before_anything_is_reserved() {
        for table in [&[][..], &[1, 2], &[0, 0, 0, 0], &[255; 16], &[3, 0, 0, 0, 1, 2, 3]] {
            assert!(check(table).is_err(), "{table:?}");
        }
    }

    #[test]
    fn whatever_passes_can_be_walked_along_any_text() {
        let table = sound();
        let mut state = 7u64;
        let mut random = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize
        };
        let trie = u32::from_le_bytes([table[0], table[1], table[2], table[3]]) as usize;
        let mut passed = 0;
        for round in 0..300 {
            let mut damaged = table.clone();
            for _ in 0..1 + random() % 2 {
                let at = if round % 2 == 0 { 4 + random() % trie } else { 4 + random() % (damaged.len() - 4) };
                damaged[at] = random() as u8;
            }
            if check(&damaged).is_err() {
                continue;
            }
            passed += 1;
            let json = serde_json::json!({ "type": "Precompiled", "precompiled_charsmap": base64(&damaged) });
            let normalizer: tokenizers::NormalizerWrapper = serde_json::from_value(json).unwrap();
            for _ in 0..20 {
                let text: String = (0..30).filter_map(|_| char::from_u32(random() as u32 % 0x3000)).collect();
                let mut text = tokenizers::NormalizedString::from(text);
                tokenizers::Normalizer::normalize(&normalizer, &mut text).unwrap();
            }
        }
        assert!(passed > 0, "no damaged table passed, so nothing was walked");
    }
}
