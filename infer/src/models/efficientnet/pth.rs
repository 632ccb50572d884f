//! Reads a PyTorch checkpoint of the format before 1.6: five pickles, then the values.
//!
//! The pickles are a magic number, a version, the writer's word sizes, the tensors by name, and the keys of the
//! storages; then for each of these, in that order, how many values it has (64 bits) and the values, little-endian.
//! `torch/serialization.py`, `_legacy_load`, is the source. Nothing that a pickle names is run.

use std::collections::HashMap;
use std::io::{BufRead, Cursor, Read as _};

use candle_core::DType;
use candle_core::pickle::{Object, Stack, TensorInfo};

/// The first pickle, which is a number of ten bytes.
const MAGIC: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
/// The second pickle.
const VERSION: Object = Object::Int(1001);

/// A floating-point tensor.
#[derive(Debug, PartialEq)]
pub(super) struct Tensor {
    /// Sizes of the dimensions, outermost first.
    pub(super) shape: Vec<usize>,
    /// Row-major.
    pub(super) values: Vec<f32>,
}

/// All float32 tensors of a checkpoint, by name.
///
/// # Errors
/// What is wrong with it, in words.
pub(super) fn read(file: &[u8]) -> Result<HashMap<String, Tensor>, String> {
    let Some(rest) = file.strip_prefix(MAGIC) else {
        return Err("it is no PyTorch checkpoint of the format before 1.6".into());
    };
    let mut rest = Cursor::new(rest);
    if pickle(&mut rest)? != VERSION {
        return Err("it is of another version of that format".into());
    }
    pickle(&mut rest)?;
    let Object::Dict(named) = pickle(&mut rest)? else { return Err("it holds no tensors by name".into()) };
    let Object::List(keys) = pickle(&mut rest)? else { return Err("it does not list its storages".into()) };

    let mut infos = Vec::new();
    for (name, tensor) in named {
        // What is no tensor is an attribute of the dictionary.
        infos.extend(tensor.into_tensor_info(name, "".as_ref()).map_err(|error| error.to_string())?);
    }
    let mut storages: HashMap<String, &[u8]> = HashMap::new();
    for key in keys {
        // As the tensors say whose storage it is.
        let key = format!("/{}", key.unicode().map_err(|_| "a storage's key is no text")?);
        let of_it = infos.iter().find(|info| info.path == key).ok_or("a storage is nobody's")?;
        storages.insert(key, storage(&mut rest, of_it.dtype.size_in_bytes())?);
    }
    let floats = infos.iter().filter(|info| info.dtype == DType::F32);
    floats.map(|info| Ok((info.name.clone(), tensor(info, &storages)?))).collect()
}

fn pickle(from: &mut impl BufRead) -> Result<Object, String> {
    let mut stack = Stack::empty();
    stack
        .read_loop(from)
        .and_then(|()| stack.finalize())
        .map_err(|error| format!("a pickle is damaged: {error}"))
}

/// The next storage's values, of `size` bytes each.
fn storage<'a>(from: &mut Cursor<&'a [u8]>, size: usize) -> Result<&'a [u8], String> {
    let mut count = [0; 8];
    from.read_exact(&mut count).map_err(|_| "it ends early")?;
    let bytes = usize::try_from(u64::from_le_bytes(count)).ok().and_then(|count| count.checked_mul(size));
    let at = from.position() as usize;
    let values = bytes.and_then(|bytes| from.get_ref().get(at..)?.get(..bytes)).ok_or("it ends early")?;
    from.set_position((at + values.len()) as u64);
    Ok(values)
}

/// The values of a tensor in the order of its dimensions: in the storage they may lie in another.
fn tensor(info: &TensorInfo, storages: &HashMap<String, &[u8]>) -> Result<Tensor, String> {
    let beyond = || format!("{} reaches beyond its storage", info.name);
    let (stored, _) = storages.get(&info.path).ok_or_else(beyond)?.as_chunks();
    let (shape, stride) = (info.layout.dims(), info.layout.stride());
    let count = shape.iter().try_fold(1usize, |count, &size| count.checked_mul(size));
    let count = count.filter(|&count| count <= stored.len()).ok_or_else(beyond)?;
    // candle gives the offset in bytes.
    let first = info.layout.start_offset() / size_of::<f32>();
    let place = |index: usize| {
        let (mut rest, mut place) = (index, first);
        for (&size, &stride) in shape.iter().zip(stride).rev() {
            place = place.checked_add((rest % size).checked_mul(stride)?)?;
            rest /= size;
        }
        stored.get(place).map(|value| f32::from_le_bytes(*value))
    };
    let values: Option<Vec<f32>> = (0..count).map(place).collect();
    Ok(Tensor { shape: shape.to_vec(), values: values.ok_or_else(beyond)? })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A checkpoint as PyTorch wrote it, of tensors each in a storage of its own, where those of two dimensions lie
    /// column by column.
    pub(in crate::models::efficientnet) fn checkpoint(tensors: &[(&str, &Tensor)]) -> Vec<u8> {
        let text = |text: &str| [&b"X"[..], &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat();
        let int = |value: usize| [&b"J"[..], &(value as i32).to_le_bytes()[..]].concat();
        let tuple = |parts: &[Vec<u8>]| [b"(", &parts.concat()[..], b"t"].concat();
        let numbers = |numbers: &[usize]| tuple(&numbers.iter().map(|&n| int(n)).collect::<Vec<_>>());
        let mut named = b"\x80\x02ccollections\nOrderedDict\n)R(".to_vec();
        let mut keys = b"\x80\x02](".to_vec();
        let mut storages = Vec::new();
        for (index, (name, Tensor { shape, values })) in tensors.iter().enumerate() {
            let key = text(&index.to_string());
            let storage = [
                text("storage"),
                b"ctorch\nFloatStorage\n".to_vec(),
                key.clone(),
                text("cpu"),
                int(values.len()),
                b"N".to_vec(),
            ];
            let mut stride = vec![1; shape.len()];
            for axis in (1..shape.len()).rev() {
                stride[axis - 1] = stride[axis] * shape[axis];
            }
            let mut values = values.clone();
            if let [rows, columns] = shape[..] {
                stride = vec![1, rows];
                values = (0..values.len()).map(|at| values[at % rows * columns + at / rows]).collect();
            }
            let storage = [tuple(&storage), b"Q".to_vec()].concat();
            let arguments =
                [storage, int(0), numbers(shape), numbers(&stride), b"\x89".to_vec(), b"N".to_vec()];
            named.extend(
                [&text(name)[..], b"ctorch._utils\n_rebuild_tensor_v2\n", &tuple(&arguments), b"R"].concat(),
            );
            keys.extend(key);
            storages.extend((values.len() as u64).to_le_bytes());
            storages.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        }
        [MAGIC, b"\x80\x02M\xe9\x03.", b"\x80\x02}.", &named, b"u.", &keys, b"e.", &storages].concat()
    }

    fn two() -> Vec<u8> {
        let bias = Tensor { shape: vec![2], values: vec![0.5, -0.5] };
        checkpoint(&[("bias", &bias), ("weight", &matrix())])
    }

    fn matrix() -> Tensor {
        Tensor { shape: vec![2, 3], values: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0] }
    }

    #[test]
    fn tensors_come_back_by_name() {
        let tensors = read(&two()).unwrap();
        assert_eq!(tensors["weight"], matrix());
        assert_eq!(tensors["bias"].values, [0.5, -0.5]);
    }

    #[test]
    fn damaged_files_are_refused() {
        let whole = two();
        for end in 0..whole.len() {
            assert!(read(&whole[..end]).is_err(), "cut off after {end} bytes");
        }
        assert!(read(b"PK\x03\x04").unwrap_err().contains("before 1.6"));
        // The last storage claims more values than there can be.
        let mut lying = whole.clone();
        let at = whole.len() - 4 * 6 - 8;
        lying[at..at + 8].copy_from_slice(&u64::MAX.to_le_bytes());
        assert_eq!(read(&lying).unwrap_err(), "it ends early");
    }
}
