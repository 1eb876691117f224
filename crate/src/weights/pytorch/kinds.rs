//! What the types of a PyTorch file's tensors are called: before version 2.1 by the class of their storage, and later, where
//! there is no such class, beside a storage of bytes.
//!
//! Source: `torch/storage.py` (`_dtype_to_storage_type_map`) and `torch/_tensor.py` (`__reduce_ex__`) of
//! <https://github.com/pytorch/pytorch>.

use crate::weights::info::StoredType;

/// Longest name of a type: what a file calls one is kept for each of its tensors.
const MOST_NAME: usize = 40;

/// A type as a pickle has it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Kind {
    pub dtype: StoredType,
    /// Its name, where nothing here decodes it.
    pub unknown: Option<String>,
}

impl Kind {
    fn known(dtype: StoredType) -> Self {
        Self { dtype, unknown: None }
    }

    fn unknown(name: &str) -> Self {
        Self { dtype: StoredType::Unknown, unknown: Some(name.to_owned()) }
    }
}

/// The type of a storage's class (`torch.HalfStorage`); `None` for what is no storage.
pub(super) fn of_storage(class: &str) -> Option<Kind> {
    let name = class.strip_prefix("torch.")?;
    let name = name.strip_prefix("storage.").unwrap_or(name);
    let kind = name.strip_suffix("Storage")?;
    let dtype = match kind {
        "Float" => StoredType::F32,
        "Half" => StoredType::F16,
        "BFloat16" => StoredType::BF16,
        "Double" => StoredType::F64,
        "Long" => StoredType::I64,
        "Int" => StoredType::I32,
        "Byte" => StoredType::U8,
        "Bool" => StoredType::Bool,
        _ => {
            let is_name = name.len() <= MOST_NAME && kind.bytes().all(|byte| byte.is_ascii_alphanumeric());
            return is_name.then(|| Kind::unknown(name));
        }
    };
    Some(Kind::known(dtype))
}

/// The type that stands beside a storage of bytes (`torch.float8_e4m3fn`); `None` for what is no type.
pub(super) fn of_dtype(class: &str) -> Option<Kind> {
    const KINDS: [&str; 8] = ["float", "bfloat", "uint", "int", "bits", "quint", "qint", "complex"];
    let name = class.strip_prefix("torch.")?;
    let size = KINDS.iter().find_map(|kind| name.strip_prefix(kind))?;
    let in_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let is_name =
        name.len() <= MOST_NAME && size.starts_with(|c: char| c.is_ascii_digit()) && size.bytes().all(in_name);
    is_name.then(|| match name {
        "float8_e4m3fn" => Kind::known(StoredType::F8_E4M3),
        "float8_e5m2" => Kind::known(StoredType::F8_E5M2),
        _ => Kind::unknown(name),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn storages_and_types_are_told_from_what_a_pickle_might_run() {
        assert_eq!(of_storage("torch.HalfStorage"), Some(Kind::known(StoredType::F16)));
        assert_eq!(of_storage("torch.CharStorage"), Some(Kind::unknown("CharStorage")));
        assert_eq!(of_storage("torch.storage.UntypedStorage"), Some(Kind::unknown("UntypedStorage")));
        assert_eq!(of_dtype("torch.float8_e5m2"), Some(Kind::known(StoredType::F8_E5M2)));
        assert_eq!(of_dtype("torch.uint16"), Some(Kind::unknown("uint16")));
        let long = format!("torch.{}Storage", "A".repeat(100));
        for other in ["posix.system", "torch.load", "torch.hub.load", "torch.storage.x.Storage", long.as_str()] {
            assert_eq!((of_storage(other), of_dtype(other)), (None, None), "{other}");
        }
        for other in ["torch.int_repr", "torch.float", "torch.complex", "torch.bitwise_not", "os.uint16"] {
            assert_eq!(of_dtype(other), None, "{other}");
        }
    }
}
