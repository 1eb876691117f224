//! PyTorch files of plain tensors, as `torch.save` of a state dict lays them out: a zip archive of stored entries, a pickle
//! that names the tensors, and a storage for each. The archive's checksums are zero: nothing here reads them.

use std::collections::BTreeMap;

use tabreel::weights::{StoredType, decode, quantize};

use crate::{Array, bf16_bytes};

/// The bytes of a PyTorch file of these arrays in F32, F16 or BF16, and the values that it holds.
pub fn pytorch_file(arrays: &BTreeMap<String, Array>, dtype: StoredType) -> (Vec<u8>, BTreeMap<String, Array>) {
    let class = match dtype {
        StoredType::F16 => "HalfStorage",
        StoredType::BF16 => "BFloat16Storage",
        _ => "FloatStorage",
    };
    let mut pickle = b"\x80\x02ccollections\nOrderedDict\n)R(".to_vec();
    let mut entries = vec![("archive/byteorder".to_owned(), b"little".to_vec())];
    let mut values = BTreeMap::new();
    for (key, (name, array)) in arrays.iter().enumerate() {
        let stored = stored(&array.values, dtype);
        values.insert(name.clone(), Array { shape: array.shape.clone(), values: decode(dtype, &stored) });
        entries.push((format!("archive/data/{key}"), stored));
        text(&mut pickle, name);
        pickle.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(&mut pickle, "storage");
        pickle.extend(format!("ctorch\n{class}\n").bytes());
        text(&mut pickle, &key.to_string());
        text(&mut pickle, "cpu");
        whole(&mut pickle, array.values.len());
        pickle.extend(b"tQK\0(");
        array.shape.iter().for_each(|size| whole(&mut pickle, *size));
        pickle.extend(b"t(");
        for axis in 0..array.shape.len() {
            whole(&mut pickle, array.shape[axis + 1..].iter().product());
        }
        pickle.extend(b"t\x89ccollections\nOrderedDict\n)RtR");
    }
    pickle.extend(b"u.");
    entries.insert(0, ("archive/data.pkl".to_owned(), pickle));
    (archive(&entries), values)
}

fn stored(values: &[f32], dtype: StoredType) -> Vec<u8> {
    match dtype {
        StoredType::BF16 => bf16_bytes(values),
        _ => quantize::encode(values, dtype).expect("F32 or F16"),
    }
}

/// Pushes a text.
fn text(pickle: &mut Vec<u8>, text: &str) {
    pickle.push(b'X');
    pickle.extend((text.len() as u32).to_le_bytes());
    pickle.extend(text.bytes());
}

/// Pushes a whole number.
fn whole(pickle: &mut Vec<u8>, number: usize) {
    pickle.push(b'J');
    pickle.extend((number as u32).to_le_bytes());
}

/// A zip archive, nothing compressed.
fn archive(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::<u8>::new(), Vec::<u8>::new());
    for (name, bytes) in entries {
        // What both headers have: version, flags, method, time, date, checksum, the length twice, and the name's.
        let (length, named) = ((bytes.len() as u32).to_le_bytes(), (name.len() as u16).to_le_bytes());
        let both: [&[u8]; 6] = [&[10, 0], &[0; 12], &length, &length, &named, &[0; 2]];
        let both = both.concat();
        let place = (file.len() as u32).to_le_bytes();
        let listed: [&[u8]; 5] = [b"PK\x01\x02\x0a\0", &both, &[0; 10], &place, name.as_bytes()];
        directory.extend(listed.concat());
        let entry: [&[u8]; 4] = [b"PK\x03\x04", &both, name.as_bytes(), bytes];
        file.extend(entry.concat());
    }
    let (count, place) = ((entries.len() as u16).to_le_bytes(), (file.len() as u32).to_le_bytes());
    let length = (directory.len() as u32).to_le_bytes();
    let end: [&[u8]; 6] = [b"PK\x05\x06\0\0\0\0", &count, &count, &length, &place, &[0; 2]];
    [file, directory, end.concat()].concat()
}
